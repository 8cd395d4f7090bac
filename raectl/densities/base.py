"""The interface of a density over latents: `fit`, `sample`, `log_prob`, and named arrays to store it.

    z_1, ..., z_N = encodings of the data  ->  p(z)  ->  new z ~ p, decoded to new data

This is ex-post density estimation: Ghosh, Sajjadi, Vergari, Black, Schölkopf, "From Variational to Deterministic
Autoencoders", ICLR 2020, section 4. Names used below: N latents, D latent dimensions written d, K components.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
import torch
from torch import Tensor

from raectl.config import Component, Option
from raectl.densities.latents.checks import LARGEST, as_latents, chunks
from raectl.densities.latents.dependencies import Dependencies, notices
from raectl.densities.latents.oddities import oddities
from raectl.densities.latents.standardizer import Standardizer
from raectl.errors import RaectlError
from raectl.model.weights import to_array
from raectl.progress import Progress
from raectl.rng import check_seed

LOG_2PI = math.log(2 * math.pi)
_DEPENDENT = "dependent."  # prefix of the arrays of `Dependencies`
_N, _START = Option(1, "Samples.", low=1), Option(0, "The first of them.", low=0)
_BLOCK = 2**15  # numbers in a block of samples, about
_RESOLVED = 1e-3  # of a dimension's standard deviation; where float32's steps are longer, samples are float64

FitStats = dict[str, float | int | bool | str]


class Density(Component, ABC):
    """A density over R^d, fitted to latents.

    After `fit`, `stats` holds numbers about the fit and `notices` messages for the user. A subclass defines `_fit`,
    `_draw`, `_log_prob`, `_to_arrays` and `_adopt`, which see the free dimensions only, `_d` of them; see
    `dependencies` for the others.
    """

    name: ClassVar[str]
    chooses_components: ClassVar[bool] = False  # whether held-out latents choose `components` by default
    log_prob_is_bound: bool = False  # whether `log_prob` is a lower bound on the log-density
    finds_dependencies: ClassVar[bool] = True  # whether constant and duplicated dimensions are left out

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._dim: int | None = None
        self._d = 0  # free dimensions
        self._dependencies: Dependencies | None = None
        self._double = False
        self._block: tuple[tuple[int, int], np.ndarray] | None = None  # (seed, first row) and rows of the last block
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
    def free_dimensions(self) -> int:
        """Number of dimensions that are neither constant nor copies of others."""
        return self._d

    def fit(self, z: Any, seed: int = 0, progress: Progress | None = None) -> Self:
        """Fit to latents z: (N, d), anything `torch.as_tensor` takes; the same data and seed give the same fit.

        Raises:
            RaectlError: the latents are invalid (see `as_latents`), or fewer than the density needs.
        """
        check_seed(seed)
        z = as_latents(z)
        self.stats, self.notices, self._block = {}, [], None
        self._progress = progress or Progress()
        self._dependencies = Dependencies.find(z) if self.finds_dependencies else None
        free = self._free(z)
        self._d = free.shape[1]
        try:
            self._fit(free, seed)
        finally:
            self._progress = Progress()
        self._dim, self._double = z.shape[1], _needs_double(z)
        found = oddities(z)
        if self.finds_dependencies:
            found = notices(z, self._dependencies) + found
        if self._dependencies:
            self._complete_stats(z, self._dependencies)
        self.notices = found + self.notices
        return self

    def sample(self, n: int, seed: int = 0, start: int = 0) -> Tensor:
        """Rows start, ..., start + n - 1 of the infinite sequence of samples that `seed` determines.

        Returns:
            (n, d) float32, or float64 if the latents were and are so far from 0 that float32 would round them; row i is
            a function of the seed and i alone, bit for bit.

        Raises:
            UsageError: `n`, `seed` or `start` is out of range.
            RaectlError: the density is not fitted.
        """
        n, start = _N.check(n, "n="), _START.check(start, "start=")
        check_seed(seed)
        z = torch.empty(n, self.dim, dtype=torch.float64 if self._double else torch.float32)
        rows = self._block_rows()
        for first in range(start // rows * rows, start + n, rows):
            low, high = max(start, first), min(start + n, first + rows)
            free = self._block_from(seed, first, rows)[low - first : high - first]
            z[low - start : high - start] = self._expand(torch.from_numpy(free))
        return z

    def _block_from(self, seed: int, first: int, rows: int) -> np.ndarray:
        """Rows first, ..., first + rows - 1 of the samples of free dimensions; the last block is kept."""
        block = self._block
        if block is None or block[0] != (seed, first):
            block = self._block = (seed, first), self._draw(seed, first, rows)
        return block[1]

    def _block_rows(self) -> int:
        """Samples are drawn in blocks of so many rows, whole ones for any n, since a product's rounding depends on n.

        A power of two; a block takes some tenths of a millisecond.
        """
        return 1 << min(12, max(6, (_BLOCK // self._d).bit_length() - 1))

    def log_prob(self, z: Any) -> Tensor:
        """Log-density of each row of z: (N, d), in nats; a lower bound on it where `log_prob_is_bound`.

        Returns:
            (N,) float64.

        Raises:
            RaectlError: the density is not fitted, or `z` is invalid (see `as_latents`) or has another d.
        """
        z = self._checked(z)
        return torch.cat([self._log_prob_of_all(part.double()) for part in chunks(z, max(self._width(), self.dim))])

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The fitted parameters as named arrays: with `settings`, enough to rebuild the density."""
        self.dim  # noqa: B018  # raises if it is not fitted
        arrays = self._to_arrays()
        if self._dependencies:
            arrays |= {_DEPENDENT + name: tensor for name, tensor in vars(self._dependencies).items()}
        if self._double:
            arrays["double"] = torch.ones(1, dtype=torch.float64)
        return {name: to_array(tensor) for name, tensor in arrays.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], **options: Any) -> Self:
        """Rebuild a density from `to_arrays` and `settings`, bit for bit.

        Raises:
            UsageError: an option is unknown or wrong.
            RaectlError: an array is missing, unexpected, of another type or shape, or not a valid parameter.
        """
        density, checked = cls(**options), Arrays(cls.name, arrays)
        if "double" in arrays:
            density._double = True
            if checked.take("double", (1,))[0] != 1:
                checked.refuse("double is not 1")
        if any(name.startswith(_DEPENDENT) for name in arrays):
            density._dependencies = _adopt_dependencies(checked)
        density._d = density._dim = density._adopt(checked)
        checked.finish()
        if dependencies := density._dependencies:
            if len(dependencies.free) != density._d:
                checked.refuse("the number of dimensions differs from that of the free ones")
            density._dim = len(dependencies.source)
        return density

    def _checked(self, z: Any, d: int | None = None) -> Tensor:
        """`as_latents(z)`, if it has d dimensions, by default those that the density was fitted to."""
        dim, latents = d or self.dim, as_latents(z)
        if latents.shape[1] != dim:
            raise RaectlError(f"these latents have {latents.shape[1]} dimensions, the density was fitted to {dim}")
        return latents

    def _free(self, z: Tensor) -> Tensor:
        """The free dimensions of latents."""
        return z if self._dependencies is None else z[:, self._dependencies.free]

    def _expand(self, z: Tensor) -> Tensor:
        """The inverse of `_free`."""
        return z if self._dependencies is None else self._dependencies.expand(z)

    def _log_prob_of_all(self, z: Tensor) -> Tensor:
        """(n, d) float64 => (n,) float64, dependent dimensions included."""
        log_prob = self._log_prob(self._free(z))
        return log_prob if self._dependencies is None else log_prob + self._dependencies.log_prob(z)

    def _complete_stats(self, z: Tensor, dependencies: Dependencies) -> None:
        """Add to the likelihood that `_fit` reported what the dependent dimensions add to `log_prob`."""
        total = sum(float(dependencies.log_prob(part.double()).sum()) for part in chunks(z, z.shape[1]))
        for name, added in (("log_likelihood", total / len(z)), ("bic", -2 * total)):
            if name in self.stats:
                self.stats[name] = float(self.stats[name]) + added

    def _width(self) -> int:
        """Numbers that `_log_prob` holds per row."""
        return self._d

    @abstractmethod
    def _to_arrays(self) -> dict[str, Tensor]:
        """The parameters of the density of the free dimensions, by name."""

    @abstractmethod
    def _fit(self, z: Tensor, seed: int) -> None:
        """Fit to valid latents (N, d), float32 or float64; set `stats` and `notices`; update `_progress`."""

    @abstractmethod
    def _draw(self, seed: int, start: int, n: int) -> np.ndarray:
        """Samples start, ..., start + n - 1: (n, d); called with n of `_block_rows` and a multiple of it as start."""

    @abstractmethod
    def _log_prob(self, z: Tensor) -> Tensor:
        """(n, d) float64 => (n,) float64."""

    @abstractmethod
    def _adopt(self, arrays: "Arrays") -> int:
        """Set the fitted parameters from all of the arrays and return d."""


def _needs_double(z: Tensor) -> bool:
    """Whether z is float64 and float32's steps are seen in a dimension that varies."""
    if z.dtype != torch.float64:
        return False
    standardizer = Standardizer.fit(z)
    steps = torch.finfo(torch.float32).eps * standardizer.centre.abs() > _RESOLVED * standardizer.scale
    steps[standardizer.constant] = False
    return bool(steps.any())


def _adopt_dependencies(arrays: "Arrays") -> Dependencies:
    source = arrays.take(f"{_DEPENDENT}source", (None,))
    rest = [arrays.take(_DEPENDENT + name, source.shape) for name in ("centre", "slope", "narrow")]
    dependencies = Dependencies(source, *rest)
    if not dependencies.are_valid():
        arrays.refuse("they describe no dependencies between dimensions")
    return dependencies


class Arrays:
    """Named arrays from an untrusted file, checked when they are read."""

    def __init__(self, density: str, arrays: Mapping[str, np.ndarray]) -> None:
        self._density = density
        self._unread = dict(arrays)

    def take(self, name: str, shape: tuple[int | None, ...], dtype: type[np.floating] = np.float64) -> Tensor:
        """Read a copy of the array `name`, of `shape`, where None is any length of at least 1."""
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
        if not (np.abs(array) <= LARGEST**2).all():  # covariances are in squared units
            self.refuse(f"{name!r} holds values that are not finite or absurdly large")
        return torch.from_numpy(np.array(array))

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
