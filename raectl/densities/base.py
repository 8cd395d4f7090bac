"""What every density over latents is: options in, `fit`, then `sample` and `log_prob`, and named arrays for the file.

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

LARGEST = 1e18  # larger values have squares that float32 cannot hold; an encoder that gives them has diverged
LOG_2PI = math.log(2 * math.pi)
_CHUNK = 2**20  # numbers in flight at once while rows are worked off in chunks: 8 MiB of float64

FitStats = dict[str, float | int | bool | str]


def chunks(z: Tensor, width: int) -> Iterator[Tensor]:
    """Consecutive rows of `z` in pieces that need about 2^20 numbers each, at `width` numbers per row."""
    rows = max(64, _CHUNK // width)
    return (z[i : i + rows] for i in range(0, len(z), rows))


def as_latents(z: Any) -> Tensor:
    """Check latents and return them as a CPU tensor, without a copy where none is needed.

    Arguments:
        z: (N, d), anything that `torch.as_tensor` takes.

    Returns:
        (N, d) float64 if `z` was that, else float32.

    Raises:
        RaectlError: not two axes, no rows or columns, not numbers, or rows with NaN, infinities or values over 1e18.

    Example:
        >>> as_latents([[0.0, 1.0]]).shape
        torch.Size([1, 2])
    """
    try:
        if isinstance(z, np.ndarray) and min(z.strides, default=0) < 0:
            z = z.copy()  # torch has no negative strides
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writ", UserWarning)  # nor do we write
            latents: Tensor = torch.as_tensor(z).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise RaectlError(f"latents must be an array of numbers: {error}") from error
    if latents.ndim != 2 or 0 in latents.shape:
        raise RaectlError(f"latents must have shape (N, d), at least (1, 1), not {tuple(latents.shape)}")
    if latents.is_complex() or latents.dtype == torch.bool:
        raise RaectlError(f"latents must be real numbers, not {str(latents.dtype).removeprefix('torch.')}")
    latents = latents if latents.dtype == torch.float64 else latents.to(torch.float32)
    # `<=` is false for NaN too; by chunks, because isfinite of the whole would need copies of it.
    bad = sum(int((part.abs() <= LARGEST).all(dim=1).logical_not().sum()) for part in chunks(latents, latents.shape[1]))
    if bad:
        hint = "the encoder may have diverged: look at its log, or leave these rows out"
        raise RaectlError(f"{bad} of {len(latents)} latents are not finite (NaN, infinite or beyond {LARGEST:g})", hint)
    return latents


def check_integer(name: str, value: Any, low: int) -> int:
    """Return `value` if it is a whole number of at least `low`, else raise a `UsageError` that names the option."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
        raise UsageError(f"{name} must be a whole number of at least {low}, not {value!r}")
    return int(value)


def check_positive(name: str, value: Any) -> float:
    """Return `value` if it is a finite number above 0, else raise a `UsageError` that names the option."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 < value < math.inf:
        raise UsageError(f"{name} must be a finite number above 0, not {value!r}")
    return float(value)


class Density(ABC):
    """A density over R^d, fitted to latents.

    Options are keyword arguments of the constructor, checked at once. After `fit`, `stats` holds numbers about the
    fit and `notices` sentences for the user. A subclass writes `_fit`, `_draw`, `_log_prob`, `to_arrays`
    and `_adopt`.
    """

    name: ClassVar[str]
    chooses_components: ClassVar[bool] = False  # whether `components` is chosen by held-out latents unless given
    log_prob_is_bound: ClassVar[bool] = False  # whether `log_prob` is a lower bound of the log-density

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
        """The constructor's keyword arguments, as JSON holds them; kept as attributes of the same names."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def fit(self, z: Any, seed: int = 0, progress: Progress | None = None) -> Self:
        """Fit to latents z: (N, d), anything `torch.as_tensor` takes; the same data and seed give the same fit.

        Arguments:
            progress: receives the progress of a fit that takes long.

        Raises:
            RaectlError: the latents cannot be used (see `as_latents`), or are fewer than the density needs.
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
        """Draw rows start, ..., start + n - 1 of the endless table of samples that belongs to `seed`.

        Returns:
            (n, d) float32; row i depends on the seed and on i alone, to the last bit.

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
        """Log-density of each row of z: (N, d), in nats, in float64; a lower bound where `log_prob_is_bound`.

        Returns:
            (N,) float64.

        Raises:
            RaectlError: the density is not fitted, or `z` cannot be used (see `as_latents`) or has another d.
        """
        dim = self.dim
        z = as_latents(z)
        if z.shape[1] != dim:
            raise RaectlError(f"these latents have {z.shape[1]} dimensions, the density was fitted to {dim}")
        return torch.cat([self._log_prob(part.double()) for part in chunks(z, self._width())])

    @abstractmethod
    def to_arrays(self) -> dict[str, np.ndarray]:
        """Everything that was fitted, as named arrays; with `options`, enough to rebuild the density."""

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], **options: Any) -> Self:
        """Rebuild a density from `to_arrays` and `options`, bit for bit.

        Raises:
            UsageError: an option is unknown or wrong.
            RaectlError: an array is missing, unexpected, of another type or shape, not finite, or no valid parameter.
        """
        density = cls.create(**options)
        density._dim = density._adopt(Arrays(cls.name, arrays))
        return density

    @classmethod
    def create(cls, **options: Any) -> Self:
        """The constructor for options that come from a file or a person: unknown ones are a `UsageError`."""
        known = list(inspect.signature(cls).parameters)
        if unknown := sorted(set(options) - set(known)):
            hint = f"known: {', '.join(known)}" if known else f"{cls.name} has none"
            raise UsageError(f"unknown option {unknown[0]!r} of the density {cls.name}", hint)
        return cls(**options)

    def _width(self) -> int:
        """Numbers per row that `_log_prob` holds at once."""
        return self.dim

    @abstractmethod
    def _fit(self, z: Tensor, seed: int) -> None:
        """Fit to checked latents (N, d), float32 or float64; fill `stats`, `notices`; tell `_progress`."""

    @abstractmethod
    def _draw(self, seed: int, start: int, n: int) -> np.ndarray:
        """Rows start, ... as (n, d) float64, by operations that treat every row alike whatever n is."""

    @abstractmethod
    def _log_prob(self, z: Tensor) -> Tensor:
        """(n, d) float64 => (n,) float64."""

    @abstractmethod
    def _adopt(self, arrays: "Arrays") -> int:
        """Take over the arrays of a file and return d."""


class Arrays:
    """Named arrays of a file that nobody vouches for, checked as they are taken."""

    def __init__(self, density: str, arrays: Mapping[str, np.ndarray]) -> None:
        self._density = density
        self._left = dict(arrays)

    def take(self, name: str, shape: tuple[int | None, ...], dtype: type[np.floating] = np.float64) -> np.ndarray:
        """The array `name`, of `shape`, where None stands for any length of at least 1."""
        if name not in self._left:
            self.refuse(f"the array {name!r} is missing")
        array = np.asarray(self._left.pop(name))
        if array.dtype != dtype:
            self.refuse(f"{name!r} has type {array.dtype}, expected {np.dtype(dtype)}")
        fits = len(shape) == array.ndim and all(
            have == (want or have) for have, want in zip(array.shape, shape, strict=True)
        )
        if not fits or 0 in array.shape:
            expected = "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
            self.refuse(f"{name!r} has shape {array.shape}, expected {expected}")
        # Beyond LARGEST squared (covariances), samples would not fit float32.
        if not (np.abs(array) <= LARGEST**2).all():
            self.refuse(f"{name!r} holds values that are not finite or absurdly large")
        return array

    @property
    def numbers(self) -> int:
        """How many numbers are left to take, whatever their names."""
        return sum(np.size(array) for array in self._left.values())

    def finish(self) -> None:
        """Raise if arrays are left that nothing asked for."""
        if self._left:
            self.refuse(f"unexpected array {min(self._left)!r}")

    def refuse(self, what: str) -> NoReturn:
        """Raise a `RaectlError` that says what is wrong with the arrays."""
        raise RaectlError(f"these arrays are no {self._density} density: {what}", "fit the density again")
