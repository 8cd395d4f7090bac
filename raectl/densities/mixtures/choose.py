"""Choice of the number of mixture components, and of their shrinkage, by held-out log-likelihood."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from raectl.densities.latents.checks import as_latents
from raectl.densities.latents.oddities import count_distinct
from raectl.densities.mixtures.base import Mixture
from raectl.densities.mixtures.gmm import GMM
from raectl.errors import RaectlError
from raectl.progress import Progress

CANDIDATES = (1, 2, 5, 10, 20, 50, 100, 200)
_SLOW = 10.0  # seconds
_PATIENCE = 2  # worse candidates in a row that end the search
_SHRINKAGES = (0.0, 0.125, 0.5, 2.0, 8.0)  # candidates, in dimensions,
_FEW = 10  # where there are fewer latents than so many a component and dimension


def choose_components(
    train_z: Any,
    val_z: Any,
    seed: int = 0,
    candidates: Sequence[int] = CANDIDATES,
    kind: type[Mixture] = GMM,
    progress: Progress | None = None,
    **options: Any,
) -> tuple[Mixture, list[dict[str, float]]]:
    """Fit mixtures of increasing size and return the one with the highest held-out log-likelihood.

    Candidates above the number of distinct training latents are skipped; two worse ones in a row end the search.

    Where latents are few, n < 10 K d, shrinkages of 0, d/8, d/2, 2 d and 8 d are tried as well, unless one is given:
    for each number of components upwards from the best one for the number before, until one is worse.

    Reference: Smyth, "Model Selection for Probabilistic Clustering Using Cross-Validated Likelihood", Statistics and
    Computing 10, 2000 (there with many splits; here one).

    Arguments:
        train_z, val_z: (N, d) training and (M, d) held-out latents.
        candidates: numbers of components, increasing.
        progress: told of each candidate, and, of those that take long, what came of it.

    Returns:
        The mixture, and a row for each fit: components, shrinkage, train and heldout (nats per dimension), bic.

    Raises:
        RaectlError: all candidates exceed the number of distinct latents, or the latents are invalid.

    Example:
        >>> gmm, table = choose_components([[0.0], [0.1], [9.0], [9.1]], [[0.05], [9.05]], candidates=(1, 2))
        >>> gmm.components, [row["components"] for row in table][:2]
        (2, [1, 2])
    """
    train_z, val_z = as_latents(train_z), as_latents(val_z)
    search = _Search(train_z, val_z, seed, kind, progress or Progress(), options)
    worse, distinct = 0, count_distinct(train_z)
    for number, components in enumerate(candidates):
        if components > distinct or worse == _PATIENCE:
            break
        search.progress.update(f"fitting {components} components", number, len(candidates))
        worse = 0 if search.fit(components) else worse + 1
    if search.best is None:
        raise RaectlError(f"no candidate of {list(candidates)} is within the {distinct} distinct latents")
    return search.best, search.table


@dataclass
class _Search:
    """The best mixture so far, and a row for each fit."""

    train_z: Tensor
    val_z: Tensor
    seed: int
    kind: type[Mixture]
    progress: Progress
    options: dict[str, Any]
    best: Mixture | None = None
    heldout: float = -math.inf  # of the best one, nats per dimension
    table: list[dict[str, float]] = field(default_factory=list)
    least: int = 0  # index of the first shrinkage to try
    free: int = 1  # dimensions that are neither constant nor copies, known after the first fit

    def fit(self, components: int) -> bool:
        """Fit mixtures of that size; whether one is better than all before."""
        before, highest = self.heldout, -math.inf
        for index, shrinkage in self._shrinkages(components):
            heldout = self._fit_one(components, shrinkage)
            if heldout <= highest:
                break
            highest, self.least = heldout, index
        return self.heldout > before

    def _shrinkages(self, components: int) -> list[tuple[int, dict[str, float]]]:
        """Index and option of each shrinkage to try."""
        n, d = len(self.train_z), self.free
        full = self.options.get("covariance", "full") == "full"
        if "shrinkage" not in self.kind.options or "shrinkage" in self.options or not full:
            return [(0, {})]
        every = [(index, {"shrinkage": share * d}) for index, share in enumerate(_SHRINKAGES)]
        return every[self.least :] if components > 1 and n < _FEW * components * d else every[:1]

    def _fit_one(self, components: int, shrinkage: dict[str, float]) -> float:
        """Fit a mixture, keep it if it is the best one, and return its held-out log-likelihood."""
        began = time.monotonic()
        mixture = self.kind(components=components, **shrinkage, **self.options).fit(self.train_z, seed=self.seed)
        self.free = mixture.free_dimensions
        train = float(mixture.stats["log_likelihood"]) / mixture.dim
        heldout = float(mixture.log_prob(self.val_z).mean()) / mixture.dim
        used = float(mixture.settings.get("shrinkage", 0.0))
        self.table.append({"components": components, "shrinkage": used, "train": train, "heldout": heldout})
        if "bic" in mixture.stats:
            self.table[-1]["bic"] = float(mixture.stats["bic"])
        if time.monotonic() - began > _SLOW:
            what = f"{components} components" + (f", shrinkage {s:g}" if (s := shrinkage.get("shrinkage")) else "")
            self.progress.note(f"{what}: held-out log-likelihood {heldout:.4f} nats per dimension")
        if heldout > self.heldout:
            self.best, self.heldout = mixture, heldout
        return heldout
