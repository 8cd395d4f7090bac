"""The interface of a density over latents: `fit`, `sample`, `log_prob`, and named arrays to store it.

    z_1, ..., z_N = encodings of the data  ->  p(z)  ->  new z ~ p, decoded to new data

This is ex-post density estimation: Ghosh, Sajjadi, Vergari, Black, Schölkopf, "From Variational to Deterministic
Autoencoders", ICLR 2020, section 4. Names used below: N latents, D latent dimensions written d, K components.
"""

import inspect
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
import torch
from torch import Tensor

from raectl.errors import RaectlError, UsageError
from raectl.progress import Progress
from raectl.rng import check_seed

LARGEST = 1e18  # larger values have squares that overflow float32; an encoder that gives them has diverged
LOG_2PI = math.log(2 * math.pi)
_CHUNK = 2**20  # numbers held at once where rows are processed in chunks: 8 MiB of float64

FitStats = dict[str, float | int | bool | str]


def chunks(z: Tensor, width: int) -> Iterator[Tensor]:
    """Blocks of consecutive rows of `z`, of a size that takes about 2^20 numbers of memory at `width` numbers a row."""
    rows = max(64, _CHUNK // width)
    return (z[i : i + rows] for i in range(0, len(z), rows))


def as_latents(z: Any) -> Tensor:
    """Check latents and return them as a CPU tensor, copied only if necessary.

    Arguments:
        z: (N, d), anything that `torch.as_tensor` takes.

    Returns:
        (N, d) float64 if `z` is float64, else float32.

    Raises:
        RaectlError: the shape is not (N, d) with N, d >= 1, or a value is not a number, not finite, or above 1e18.

    Example:
        >>> as_latents([[0.0, 1.0]]).shape
        torch.Size([1, 2])
    """
    try:
        if isinstance(z, np.ndarray) and min(z.strides, default=0) < 0:
            z = z.copy()  # torch has no negative strides
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writ", UserWarning)  # it is only read
            latents: Tensor = torch.as_tensor(z).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise RaectlError(f"latents must be an array of numbers: {error}") from error
    if latents.ndim != 2 or 0 in latents.shape:
        raise RaectlError(f"latents must have shape (N, d), at least (1, 1), not {tuple(latents.shape)}")
    if latents.is_complex() or latents.dtype == torch.bool:
        raise RaectlError(f"latents must be real numbers, not {str(latents.dtype).removeprefix('torch.')}")
    latents = latents if latents.dtype == torch.float64 else latents.to(torch.float32)
    # `<=` is false for NaN too. In chunks: the comparison makes copies.
    bad = sum(int((part.abs() <= LARGEST).all(dim=1).logical_not().sum()) for part in chunks(latents, latents.shape[1]))
    if bad:
        hint = "the encoder may have diverged: look at its log, or remove these rows"
        raise RaectlError(f"{bad} of {len(latents)} latents are not finite (NaN, infinite or beyond {LARGEST:g})", hint)
    return latents


def check_integer(name: str, value: Any, low: int) -> int:
    """Return `value` as an int, or raise a `UsageError` if it is not a whole number of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
        raise UsageError(f"{name} must be a whole number of at least {low}, not {value!r}")
    return int(value)


def check_positive(name: str, value: Any) -> float:
    """Return `value` as a float, or raise a `UsageError` if it is not a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 < value < math.inf:
        raise UsageError(f"{name} must be a finite number above 0, not {value!r}")
    return float(value)


class Density(ABC):
    """A density over R^d, fitted to latents.

    Options are keyword arguments of the constructor, which checks them. After `fit`, `stats` holds numbers about the
    fit and `notices` messages for the user. A subclass defines `_fit`, `_draw`, `_log_prob`, `to_arrays` and `_adopt`.
    """

    name: ClassVar[str]
    chooses_components: ClassVar[bool] = False  # whether held-out latents choose `components` by default
    log_prob_is_bound: ClassVar[bool] = False  # whether `log_prob` is a lower bound on the log-density

    def __init__(self) -> None:
        self._dim: int | None = None
        self.stats: FitStats = {}
        self.notices: list[str] = []
        self._progress = Progress()

    @property
    def dim(self) -> int:
        """Number of latent dimensions, d.

        Raises:
            RaectlError: the density is not fitted yet.
        """
        if self._dim is None:
            raise RaectlError(f"this {self.name} density is not fitted", "call fit(z) first")
        return self._dim

    @property
    def options(self) -> dict[str, Any]:
        """The constructor's keyword arguments, as JSON values, read from the attributes of the same names."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def fit(self, z: Any, seed: int = 0, progress: Progress | None = None) -> Self:
        """Fit to latents z: (N, d), anything `torch.as_tensor` takes; the same data and seed give the same fit.

        Arguments:
            progress: receives the progress of a long fit.

        Raises:
            RaectlError: the latents are invalid (see `as_latents`), or fewer than the density needs.
        """
        check_seed(seed)
        z = as_latents(z)
        self.stats, self.notices = {}, []
        self._progress = progress or Progress()
        try:
            self._fit(z, seed)
        finally:
            self._progress = Progress()
        self._dim = z.shape[1]
        return self

    def sample(self, n: int, seed: int = 0, start: int = 0) -> Tensor:
        """Rows start, ..., start + n - 1 of the infinite sequence of samples that `seed` determines.

        Returns:
            (n, d) float32; row i is a function of the seed and i alone, bit for bit.

        Raises:
            UsageError: `n`, `seed` or `start` is out of range.
            RaectlError: the density is not fitted.
        """
        check_integer("n", n, 1)
        check_integer("start", start, 0)
        check_seed(seed)
        z = torch.empty(n, self.dim)
        done = 0
        for part in chunks(z, 8 * self.dim):
            part.copy_(torch.from_numpy(self._draw(seed, start + done, len(part))))
            done += len(part)
        return z

    def log_prob(self, z: Any) -> Tensor:
        """Log-density of each row of z: (N, d), in nats; a lower bound on it where `log_prob_is_bound`.

        Returns:
            (N,) float64.

        Raises:
            RaectlError: the density is not fitted, or `z` is invalid (see `as_latents`) or has another d.
        """
        return torch.cat([self._log_prob(part.double()) for part in chunks(self._checked(z), self._width())])

    @abstractmethod
    def to_arrays(self) -> dict[str, np.ndarray]:
        """The fitted parameters as named arrays: with `options`, enough to rebuild the density."""

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], **options: Any) -> Self:
        """Rebuild a density from `to_arrays` and `options`, bit for bit.

        Raises:
            UsageError: an option is unknown or wrong.
            RaectlError: an array is missing, unexpected, of another type or shape, or not a valid parameter.
        """
        density = cls.create(**options)
        density._dim = density._adopt(Arrays(cls.name, arrays))
        return density

    @classmethod
    def create(cls, **options: Any) -> Self:
        """The constructor, with a `UsageError` for unknown options instead of a `TypeError`."""
        known = list(inspect.signature(cls).parameters)
        if unknown := sorted(set(options) - set(known)):
            hint = f"known: {', '.join(known)}" if known else f"{cls.name} has none"
            raise UsageError(f"unknown option {unknown[0]!r} of the density {cls.name}", hint)
        return cls(**options)

    def _checked(self, z: Any) -> Tensor:
        """`as_latents(z)`, if it has the dimensions that the density was fitted to."""
        dim, latents = self.dim, as_latents(z)
        if latents.shape[1] != dim:
            raise RaectlError(f"these latents have {latents.shape[1]} dimensions, the density was fitted to {dim}")
        return latents

    def _width(self) -> int:
        """Numbers that `_log_prob` holds per row."""
        return self.dim

    @abstractmethod
    def _fit(self, z: Tensor, seed: int) -> None:
        """Fit to valid latents (N, d), float32 or float64; set `stats` and `notices`; update `_progress`."""

    @abstractmethod
    def _draw(self, seed: int, start: int, n: int) -> np.ndarray:
        """Samples start, ..., start + n - 1: (n, d) float64; the rounding of a row must not depend on n."""

    @abstractmethod
    def _log_prob(self, z: Tensor) -> Tensor:
        """(n, d) float64 => (n,) float64."""

    @abstractmethod
    def _adopt(self, arrays: "Arrays") -> int:
        """Set the fitted parameters from arrays and return d."""


class Arrays:
    """Named arrays from an untrusted file, checked when they are read."""

    def __init__(self, density: str, arrays: Mapping[str, np.ndarray]) -> None:
        self._density = density
        self._unread = dict(arrays)

    def take(self, name: str, shape: tuple[int | None, ...], dtype: type[np.floating] = np.float64) -> np.ndarray:
        """Read the array `name`, of `shape`, where None is any length of at least 1."""
        if name not in self._unread:
            self.refuse(f"the array {name!r} is missing")
        array = np.asarray(self._unread.pop(name))
        if array.dtype != dtype:
            self.refuse(f"{name!r} has type {array.dtype}, expected {np.dtype(dtype)}")
        fits = len(shape) == array.ndim and all(
            have == (want or have) for have, want in zip(array.shape, shape, strict=True)
        )
        if not fits or 0 in array.shape:
            expected = "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
            self.refuse(f"{name!r} has shape {array.shape}, expected {expected}")
        # Covariances are in squared units.
        if not (np.abs(array) <= LARGEST**2).all():
            self.refuse(f"{name!r} holds values that are not finite or absurdly large")
        return array

    def tensor(self, name: str, shape: tuple[int | None, ...], dtype: type[np.floating] = np.float64) -> Tensor:
        """`take`, as a tensor with memory of its own."""
        return torch.from_numpy(np.array(self.take(name, shape, dtype)))

    @property
    def numbers(self) -> int:
        """Total size of the arrays not read yet."""
        return sum(np.size(array) for array in self._unread.values())

    def finish(self) -> None:
        """Raise if there are arrays that were not read."""
        if self._unread:
            self.refuse(f"unexpected array {min(self._unread)!r}")

    def refuse(self, what: str) -> NoReturn:
        """Raise a `RaectlError` that says what is wrong with the arrays."""
        raise RaectlError(f"these arrays are no {self._density} density: {what}", "fit the density again")
