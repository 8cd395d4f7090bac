"""Choice of the number of mixture components by held-out log-likelihood."""

import time
from collections.abc import Sequence
from typing import Any

from raectl.densities.latents.checks import as_latents
from raectl.densities.latents.oddities import count_distinct
from raectl.densities.mixtures.base import Mixture
from raectl.densities.mixtures.gmm import GMM
from raectl.errors import RaectlError
from raectl.progress import Progress

CANDIDATES = (1, 2, 5, 10, 20, 50, 100, 200)
_SLOW = 10.0  # seconds
_PATIENCE = 2  # worse candidates in a row that end the search


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

    Reference: Smyth, "Model Selection for Probabilistic Clustering Using Cross-Validated Likelihood", Statistics and
    Computing 10, 2000 (there with many splits; here one).

    Arguments:
        train_z, val_z: (N, d) training and (M, d) held-out latents.
        candidates: numbers of components, increasing.
        progress: told of each candidate, and, of those that take long, what came of it.

    Returns:
        The mixture, and a row for each candidate tried: components, train and heldout (nats per dimension), bic.

    Raises:
        RaectlError: all candidates exceed the number of distinct latents, or the latents are invalid.

    Example:
        >>> gmm, table = choose_components([[0.0], [0.1], [9.0], [9.1]], [[0.05], [9.05]], candidates=(1, 2))
        >>> gmm.components, len(table)
        (2, 2)
    """
    train_z, val_z = as_latents(train_z), as_latents(val_z)
    best: Mixture | None = None
    table: list[dict[str, float]] = []
    best_heldout, worse = -float("inf"), 0
    progress, distinct = progress or Progress(), count_distinct(train_z)
    for number, components in enumerate(candidates):
        if components > distinct or worse == _PATIENCE:
            break
        progress.update(f"fitting {components} components", number, len(candidates))
        began = time.monotonic()
        mixture = kind(components=components, **options).fit(train_z, seed=seed)
        train = float(mixture.stats["log_likelihood"]) / mixture.dim
        heldout = float(mixture.log_prob(val_z).mean()) / mixture.dim
        table.append({"components": components, "train": train, "heldout": heldout})
        if "bic" in mixture.stats:
            table[-1]["bic"] = float(mixture.stats["bic"])
        if time.monotonic() - began > _SLOW:
            progress.note(f"{components} components: held-out log-likelihood {heldout:.4f} nats per dimension")
        worse = 0 if heldout > best_heldout else worse + 1
        if heldout > best_heldout:
            best, best_heldout = mixture, heldout
    if best is None:
        raise RaectlError(f"no candidate of {list(candidates)} is within the {distinct} distinct latents")
    return best, table
