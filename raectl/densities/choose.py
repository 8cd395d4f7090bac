"""How many components? The number under which latents that were not fitted are likeliest."""

from collections.abc import Sequence
from typing import Any

from raectl.densities.base import as_latents
from raectl.densities.gmm import GMM
from raectl.errors import RaectlError

CANDIDATES = (1, 2, 5, 10, 20, 50, 100)
_PATIENCE = 2  # worse candidates in a row before larger ones are given up


def choose_components(
    train_z: Any, val_z: Any, covariance: str = "full", seed: int = 0, candidates: Sequence[int] = CANDIDATES
) -> tuple[GMM, list[dict[str, float]]]:
    """Fit mixtures of growing size and keep the one with the highest log-likelihood of the held-out latents.

    Candidates above the number of training latents are skipped; two worse ones in a row end the search.

    Reference: Smyth, "Model Selection for Probabilistic Clustering Using Cross-Validated Likelihood", Statistics and
    Computing 10, 2000 (there with many splits; here one).

    Arguments:
        train_z: (N, d), fitted to.
        val_z: (M, d), disjoint from them.
        covariance: as for `GMM`.
        seed: as for `GMM.fit`.
        candidates: numbers of components, increasing.

    Returns:
        The chosen mixture, and a row for each one tried: components, train and heldout (nats per dimension), bic.

    Raises:
        RaectlError: no candidate is within the number of latents, or the latents cannot be used.

    Example:
        >>> gmm, table = choose_components([[0.0], [0.1], [9.0], [9.1]], [[0.05], [9.05]], candidates=(1, 2))
        >>> gmm.components, len(table)
        (2, 2)
    """
    train_z, val_z = as_latents(train_z), as_latents(val_z)
    best: GMM | None = None
    table: list[dict[str, float]] = []
    best_heldout, worse = -float("inf"), 0
    for components in candidates:
        if components > len(train_z) or worse == _PATIENCE:
            break
        gmm = GMM(components=components, covariance=covariance).fit(train_z, seed=seed)
        train = float(gmm.report["log_likelihood"]) / gmm.dim
        heldout = float(gmm.log_prob(val_z).mean()) / gmm.dim
        table.append({"components": components, "train": train, "heldout": heldout, "bic": float(gmm.report["bic"])})
        worse = 0 if heldout > best_heldout else worse + 1
        if heldout > best_heldout:
            best, best_heldout = gmm, heldout
    if best is None:
        raise RaectlError(f"no candidate of {list(candidates)} is within the {len(train_z)} latents")
    return best, table
