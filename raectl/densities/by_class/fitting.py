"""Fit a density to the latents of each class; those of few latents are shrunk towards the pooled spread.

A class c of n_c < 10 d latents gets nu more, which lie about its mean as those of all classes lie about theirs:

    m_c + sqrt(n / (n - 1)) (z_j - m),   j random, of a class of n >= 2 latents with mean m

so that its covariance becomes (n_c S_c + nu P) / (n_c + nu), with S_c its own and P the pooled within-class covariance,
whatever the kind of density. Where no class has two latents, they lie as all latents do about the mean of all. The
number nu is one for all such classes: of 0, d/2, 2 d, 8 d and 32 d that under which their held-out latents are
likeliest, and 2 d where none are held out.

Reference: Friedman, "Regularized Discriminant Analysis", Journal of the American Statistical Association 84, 1989,
equation 16 with gamma = 0 (there weights are cross-validated, too).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raectl import registry
from raectl.densities.base import Density
from raectl.densities.by_class.density import ByClass
from raectl.densities.fitting import AUTO, LATENTS_EACH, Fit, check_options, fit
from raectl.densities.mixtures.base import Mixture
from raectl.errors import RaectlError
from raectl.progress import Progress
from raectl.rng import permutation
from raectl.storage.arrays import content_digest

_FEW = 10  # latents a dimension, below which a class is shrunk
_SHARES = (0.0, 0.5, 2.0, 8.0, 32.0)  # candidates of nu, in dimensions
_WITHOUT_HELD_OUT = 2.0
_CHOSEN_BY = 10  # held-out latents of a class from which on they choose its number of components


def fit_by_class(
    kind: str,
    train: tuple[np.ndarray, np.ndarray],
    held_out: tuple[np.ndarray, np.ndarray],
    classes: Sequence[str],
    *,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> Fit:
    """Fit a registered density to the latents of each class.

    Arguments:
        train: (N, d) latents to fit to, and the index of each one's class, (N,).
        held_out: the same of (M, d) latents to evaluate on; M may be 0.
        classes: their names; those without training latents are left out.
        options: as of `fit`. A class has at most a tenth as many components as latents, and chooses their number by
            its own held-out latents, if these are 10 at least; else it has one.

    Raises:
        UsageError: the kind is unknown, or it does not take an option.
        RaectlError: the latents are invalid, or all classes together too few.
    """
    check_options(kind, options)
    task = _Task(kind, *train, *held_out, options, seed)
    present = [index for index in range(len(classes)) if (task.labels == index).any()]
    few = [index for index in present if task.count(index) < _FEW * task.z.shape[1]]
    progress = progress or Progress()
    share = task.choose_share(few, progress) if few else 0.0
    parts: dict[str, Density] = {}
    rows, d = [], task.z.shape[1]
    for done, index in enumerate(present):
        progress.update("fitting classes", done, len(present))
        found = task.fit(index, share if index in few else 0.0, choose=True)
        parts[classes[index]] = found.density
        rows.append(
            {
                "class": classes[index],
                "n": task.count(index),
                "components": found.density.settings.get("components"),
                "shrinkage": task.extra(share) if index in few else 0,
                "train": float(found.density.log_prob(task.z[task.labels == index]).mean()) / d,
                "held_out": found.held_out,
            }
        )
    density = ByClass(parts, [row["n"] for row in rows])
    if few:
        density.notices.insert(0, _told(task, few, classes, share))
    latents = content_digest({"z": task.z, "labels": task.labels}, {})
    scores = [float(density.log_prob(z).mean()) / d if len(z) else math.nan for z in (task.z, task.held_out)]
    return Fit(
        kind, density, seed, latents, scores[0], None if math.isnan(scores[1]) else scores[1],
        len(task.z), len(task.held_out), classes=rows, given=options,
    )  # fmt: skip


@dataclass
class _Task:
    kind: str
    z: np.ndarray
    labels: np.ndarray
    held_out: np.ndarray
    held_out_labels: np.ndarray
    options: Mapping[str, Any]
    seed: int

    def __post_init__(self) -> None:
        if not len(self.z):
            raise RaectlError("there are no latents to fit to", "more data")
        known, counts = np.unique(self.labels, return_counts=True)
        self._means = {int(index): self.z[self.labels == index].mean(axis=0) for index in known}
        # Whose deviations are drawn, in this order: those of classes of two or more.
        several = np.isin(self.labels, known[counts > 1])
        self.has_several = bool(several.any())
        rows = np.flatnonzero(several) if self.has_several else np.arange(len(self.z))
        self._order = rows[permutation(self.seed, "pooled deviations", len(rows))]

    def count(self, index: int) -> int:
        """How many latents a class has."""
        return int((self.labels == index).sum())

    def extra(self, share: float) -> int:
        """nu, the latents that a share of the dimensions adds."""
        return min(len(self._order), round(share * int(self.z.shape[1])))

    def _deviations(self, n: int) -> np.ndarray:
        """Latents from the mean of their class, as far as its true mean would be, (n, d)."""
        rows = self._order[:n]
        if not self.has_several:
            centred: np.ndarray = self.z[rows] - self.z.mean(axis=0)
            return centred * math.sqrt(len(self.z) / max(1, len(self.z) - 1))
        labels = self.labels[rows].tolist()
        factors = {label: math.sqrt(self.count(label) / (self.count(label) - 1)) for label in set(labels)}
        deviations = [
            factors[label] * (self.z[row] - self._means[label]) for row, label in zip(rows, labels, strict=True)
        ]
        return np.stack(deviations) if n else np.empty((0, self.z.shape[1]))

    def fit(self, index: int, share: float, *, choose: bool) -> Fit:
        """Fit a class's density to its latents, and to as many about its mean as the share of the dimensions says."""
        own, held_out = self.z[self.labels == index], self.held_out[self.held_out_labels == index]
        added = self._means[index] + self._deviations(self.extra(share))
        rows = np.concatenate([own, added.astype(own.dtype)])
        return fit(self.kind, rows, held_out, seed=self.seed, **self._options(len(own), len(held_out), choose))

    def _options(self, n: int, n_held_out: int, choose: bool) -> dict[str, Any]:
        """The options for a class of n latents: its number of components suits it."""
        found, options = registry.resolve("density", self.kind), dict(self.options)
        if not issubclass(found, Mixture):
            return options
        default = AUTO if found.chooses_components else found.components.default
        wanted = options.get("components", default)
        if wanted == AUTO:
            wanted = AUTO if choose and n_held_out >= _CHOSEN_BY and n >= 2 * LATENTS_EACH else 1
        return {**options, "components": wanted if wanted == AUTO else min(wanted, max(1, n // LATENTS_EACH))}

    def choose_share(self, few: Sequence[int], progress: Progress) -> float:
        """The share under which the held-out latents of classes with few are likeliest."""
        judged = [index for index in few if (self.held_out_labels == index).any()]
        if not judged:
            return _WITHOUT_HELD_OUT
        best, highest = _WITHOUT_HELD_OUT, -math.inf
        for number, share in enumerate(_SHARES):
            progress.update("choosing the shrinkage", number, len(_SHARES))
            if min(self.count(index) for index in few) + self.extra(share) <= self.z.shape[1]:
                continue  # a covariance would have no inverse
            fits = [self.fit(index, share, choose=False) for index in judged]
            total = sum((f.held_out or 0.0) * f.n_held_out for f in fits)
            if total > highest:
                best, highest = share, total
        return best


def _told(task: _Task, few: Sequence[int], classes: Sequence[str], share: float) -> str:
    counts = [task.count(index) for index in few]
    fewest = classes[few[int(np.argmin(counts))]]
    what = "1 class has" if len(few) == 1 else f"{len(few)} classes have"
    spread = "the spread of all classes" if task.has_several else "that of all latents, as no class has two"
    how = f"each was shrunk towards {spread}, by {task.extra(share):,} latents"
    how = how if task.extra(share) else "they are not shrunk, as their held-out latents are likelier so"
    return f"{what} few latents (fewest: {fewest}, {min(counts):,}): {how}"
