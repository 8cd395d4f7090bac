"""Interpolation between the codes of two items."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from raectl import rng
from raectl.checkpoint.checkpoint import Checkpoint
from raectl.data import Dataset
from raectl.errors import UsageError

Path = Callable[[Tensor, Tensor, Tensor], Tensor]


def linear(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """(1 - t) a + t b: 2 x (P, d) and (S,) => (P, S, d).

    Example:
        >>> linear(torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([0.25])).tolist()
        [[[0.25, 0.25]]]
    """
    t = t[:, None]
    return (1 - t) * a[:, None] + t * b[:, None]


def spherical(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """(sin((1 - t) w) a + sin(t w) b) / sin w, w the angle between a and b: 2 x (P, d) and (S,) => (P, S, d).

    The weights of unit vectors are applied to a and b without normalization, as in the paper's code. Linear if a and b
    are parallel, where sin w = 0.

    Reference: Shoemake, "Animating Rotation with Quaternion Curves", SIGGRAPH 1985, section 3.3.

    Example:
        >>> z = spherical(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([0.5]))
        >>> round(z.norm().item(), 5)
        1.0
    """
    cosine = torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=1).clamp(-1, 1)
    w = cosine.acos()[:, None, None]
    t64 = t.double()[:, None]
    z = (torch.sin((1 - t64) * w) * a[:, None] + torch.sin(t64 * w) * b[:, None]) / torch.sin(w)
    return torch.where(torch.sin(w) > 1e-6, z, linear(a, b, t).double()).to(a.dtype)


_KINDS: dict[str, Path] = {"linear": linear, "spherical": spherical}


def path_of(kind: str) -> Path:
    """`linear` or `spherical`; else a `UsageError`."""
    if kind not in _KINDS:
        raise UsageError(f"--kind {kind!r} is none of {', '.join(_KINDS)}")
    return _KINDS[kind]


def random_pairs(n: int, pairs: int, seed: int) -> np.ndarray:
    """Random disjoint pairs of n items, as indices (pairs, 2); a `UsageError` if these are fewer than 2 `pairs`."""
    if 2 * pairs > n:
        raise UsageError(f"--pairs {pairs} needs {2 * pairs} items, the data have {n}", f"--pairs {n // 2}")
    return rng.permutation(seed, "interpolation pairs", n)[: 2 * pairs].reshape(pairs, 2)


def pairs_of_classes(dataset: Dataset, classes: tuple[str, str], pairs: int, seed: int) -> np.ndarray:
    """Random pairs, the first item of one class and the second of another, as indices (pairs, 2).

    Raises:
        UsageError: the data have no such classes, or too few items of one for different pairs.
    """
    labels = dataset.known_labels("--classes")
    columns = []
    for column, name in enumerate(classes):
        if name not in dataset.classes:
            known = ", ".join(dataset.classes[:10]) + (", ..." if len(dataset.classes) > 10 else "")
            raise UsageError(f"--classes: {dataset.source} has no class {name!r}", f"its classes: {known}")
        rows = np.flatnonzero(np.asarray(labels) == dataset.classes.index(name))
        same = classes[0] == classes[1]
        needed = 2 * pairs if same else pairs
        if len(rows) < needed:
            message = f"--pairs {pairs} needs {needed} items of class {name}, the data have {len(rows)}"
            most = len(rows) // 2 if same else len(rows)
            raise UsageError(message, f"--pairs {most}" if most else "another class")
        order = rows[rng.permutation(seed, f"interpolation pairs of {name}", len(rows))]
        columns.append(order[pairs : 2 * pairs] if same and column else order[:pairs])
    return np.stack(columns, axis=1)


def named_pair(dataset: Dataset, first: str, second: str) -> np.ndarray:
    """Two items given by name or by index, as indices (1, 2); a `UsageError` if there is no such item."""

    def index(item: str) -> int:
        if item in dataset.names:
            return dataset.names.index(item)
        if item.isdecimal() and int(item) < len(dataset):
            return int(item)
        known = f"names such as {dataset.names[0]!r}, or " if dataset.names else ""
        raise UsageError(f"the data have no item {item!r}", f"{known}a number from 0 to {len(dataset) - 1}")

    return np.array([[index(first), index(second)]])


def interpolate(checkpoint: Checkpoint, items: np.ndarray, pairs: np.ndarray, steps: int, kind: str) -> np.ndarray:
    """Decoded interpolations between pairs of items, from reconstruction to reconstruction, in S steps, 2 at least.

    Items (N, *stored) and indices (P, 2) => (P, S, *stored); the kind is one that `path_of` knows.
    """
    path = path_of(kind)
    codes = checkpoint.encode(items[pairs.reshape(-1)]).cpu()
    z = path(codes[0::2], codes[1::2], torch.linspace(0, 1, steps))
    blocks = checkpoint.decode_blocks(z.flatten(0, 1))
    decoded = np.concatenate([checkpoint.modality.to_items(block) for block in blocks])
    return decoded.reshape(len(pairs), steps, *decoded.shape[1:])
