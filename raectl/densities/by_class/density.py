"""A density for each class, and the share of each: one density of all latents."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from raectl.densities.base import Arrays, Density
from raectl.errors import RaectlError, UsageError, command
from raectl.rng import uniforms

_NAMED = 10  # classes that a message names


class ByClass(Density):
    """p(z) = sum_c w_c p_c(z), of classes c with a share w_c of the latents each and a density p_c of their own.

    Sample i is of class c_i, the first whose cumulative share exceeds a uniform number, and then it is row i of p_c's
    samples: so samples of some classes alone are the same rows. See `fit_by_class` for the fit.

    Arguments:
        parts: a fitted density a class, by its name.
        counts: how many latents each class has, (K,).

    Example:
        >>> from raectl.densities.standard_normal import StandardNormal
        >>> normal = StandardNormal().fit([[0.0]])
        >>> ByClass({"a": normal, "b": normal}, [3, 1]).shares.tolist()
        [0.75, 0.25]
    """

    name = "by class"
    finds_dependencies = False

    def __init__(self, parts: Mapping[str, Density], counts: Sequence[int]) -> None:
        super().__init__()
        self.parts, self.counts = dict(parts), np.array(counts, np.int64)
        self.shares = self.counts / self.counts.sum()
        dims = {part.dim for part in parts.values()}
        if len(dims) != 1 or len(parts) != len(counts) or not (self.counts > 0).all():
            raise RaectlError(f"these are no densities by class: of {sorted(dims)} dimensions and {counts} latents")
        self._dim = self._d = dims.pop()
        self._double = any(part._double for part in parts.values())
        self.log_prob_is_bound = any(part.log_prob_is_bound for part in parts.values())
        self.stats = {"classes": len(parts)}
        self.notices = _gathered(parts)

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.parts)

    def only(self, names: Sequence[str]) -> "ByClass":
        """That of some classes, with their shares among themselves.

        Raises:
            UsageError: there is no such class; the known ones are listed.
        """
        for name in names:
            if name not in self.parts:
                listed = ", ".join(self.classes[:_NAMED]) + (", ..." if len(self.classes) > _NAMED else "")
                raise UsageError(f"--class {name!r} is no class of this density", f"its classes: {listed}")
        counts = dict(zip(self.classes, self.counts.tolist(), strict=True))
        return ByClass({name: self.parts[name] for name in self.parts if name in names}, [
            counts[name] for name in self.parts if name in names
        ])  # fmt: skip

    def classes_of(self, n: int, seed: int = 0, start: int = 0) -> np.ndarray:
        """Indices of the classes of samples start, ..., start + n - 1: (n,)."""
        ends = np.cumsum(self.shares)
        found: np.ndarray = np.searchsorted(ends / ends[-1], uniforms(seed, start, n, 1, "class")[:, 0], side="right")
        return found

    def _draw(self, seed: int, start: int, n: int) -> np.ndarray:
        drawn = self.classes_of(n, seed, start)
        z = np.empty((n, self.dim), np.float64 if self._double else np.float32)
        for index, part in enumerate(self.parts.values()):
            rows = drawn == index
            if rows.any():
                z[rows] = part.sample(n, seed, start).numpy()[rows]
        return z

    def _log_prob(self, z: Tensor) -> Tensor:
        logs = [
            part.log_prob(z) + math.log(share) for part, share in zip(self.parts.values(), self.shares, strict=True)
        ]
        return torch.stack(logs).logsumexp(dim=0)

    def _to_arrays(self) -> dict[str, Tensor]:
        """The arrays of every class's density, behind the number of the class: `0.means`."""
        return {
            f"{index}.{name}": torch.from_numpy(array)
            for index, part in enumerate(self.parts.values())
            for name, array in part.to_arrays().items()
        }

    def _fit(self, z: Tensor, seed: int) -> NoReturn:
        raise RaectlError("a density by class needs the classes of the latents", "fit_by_class(kind, z, labels, ...)")

    def _adopt(self, arrays: Arrays) -> NoReturn:
        raise NotImplementedError("each class's density is rebuilt by its own kind: see `arrays_of`")


def of_classes(density: Density, names: Sequence[str], path: Path) -> ByClass:
    """The density of some classes, all if none are named; a `UsageError` if it is not by class, or has no such class.

    Arguments:
        path: of the directory that it is in, for messages.
    """
    if not isinstance(density, ByClass):
        what = f"--class {names[0]!r}" if names else "--per-class"
        message = f"{what}: the {density.name} density of {path} is not by class"
        raise UsageError(
            message, f"--density NAME of one that is, or {command('raectl', 'fit-density', path, '--per-class')}"
        )
    return density.only(names or density.classes)


def arrays_of(arrays: Mapping[str, np.ndarray], classes: int) -> list[dict[str, np.ndarray]]:
    """The arrays of each class's density, from those of `ByClass.to_arrays`.

    Raises:
        RaectlError: there are others.
    """
    found: list[dict[str, np.ndarray]] = [{} for _ in range(classes)]
    for name, array in arrays.items():
        index, _, rest = name.partition(".")
        if index.isdecimal() and int(index) < classes:
            found[int(index)][rest] = array
        elif name != "double":  # which each class's density says of itself
            raise RaectlError(f"these arrays are no densities of {classes} classes: unexpected array {name!r}")
    return found


def _gathered(parts: Mapping[str, Density]) -> list[str]:
    """The notices of all classes, each once."""
    found: dict[str, list[str]] = {}
    for name, part in parts.items():
        for notice in part.notices:
            found.setdefault(notice, []).append(name)
    return [
        f"class{'' if len(names) == 1 else 'es'} {', '.join(names[:_NAMED])}"
        f"{f' and {len(names) - _NAMED} more' if len(names) > _NAMED else ''}: {notice}"
        for notice, names in found.items()
    ]
