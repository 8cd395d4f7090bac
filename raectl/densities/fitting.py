"""Ex-post density estimation: fit a density to latents, and say how well it does on latents it has not seen."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raectl import registry
from raectl.densities.base import Density
from raectl.densities.gaussian import Gaussian
from raectl.densities.mixtures.base import Mixture
from raectl.densities.mixtures.choose import choose_components
from raectl.errors import UsageError
from raectl.progress import Progress

AUTO = "auto"
_OVERFITTED = 1.0  # nats per dimension between latents it was fitted to and others


@dataclass(frozen=True)
class Fit:
    """A fitted density and what was measured.

    Arguments:
        kind: registry name.
        density: the fitted density.
        seed: of the fit.
        latents: SHA-256 of the training latents.
        train: mean log-likelihood of the training latents, in nats per dimension; see `is_bound`.
        held_out: the same of the held-out latents; None if there are none.
        n_train, n_held_out: how many latents each figure rests on.
        tried: what `components="auto"` saw, a row per number of components.
    """

    kind: str
    density: Density
    seed: int
    latents: str
    train: float
    held_out: float | None
    n_train: int
    n_held_out: int
    tried: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_bound(self) -> bool:
        """Whether the log-likelihoods are lower bounds, as those of a variational autoencoder are."""
        return self.density.log_prob_is_bound

    @property
    def default_name(self) -> str:
        """The kind, and the number of components where it has one: `gmm-10`."""
        components = self.density.options.get("components")
        return self.kind if components is None else f"{self.kind}-{components}"


def check_options(kind: str, options: Mapping[str, Any]) -> None:
    """Raise a `UsageError`, before any work, unless the kind is known and takes the options; see `fit`."""
    density: type[Density] = registry.resolve("density", kind)
    auto = options.get("components") == AUTO
    density.create(**{**options, "components": 1} if auto else options)
    if auto and not issubclass(density, Mixture):
        raise UsageError(f"--components auto chooses the size of a mixture, not of a {kind}", "--components 10")


def fit(
    kind: str,
    train: np.ndarray,
    held_out: np.ndarray,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> Fit:
    """Fit a registered density to latents (N, d).

    Arguments:
        kind: registry name.
        train: (N, d) latents to fit to.
        held_out: (M, d) latents to judge by; M may be 0 unless the components are chosen by them.
        seed: of the fit.
        progress: receives progress.
        options: the density's own; `components="auto"` chooses the number by held-out log-likelihood, which is the
            default of densities with `chooses_components` where there are held-out latents.

    Raises:
        UsageError: the kind is unknown, or it does not take an option.
        RaectlError: the latents do not suit.
    """
    check_options(kind, options)
    density: Density
    tried: list[dict[str, Any]] = []
    if registry.resolve("density", kind).chooses_components and len(held_out):
        options = {"components": AUTO, **options}
    if options.get("components") == AUTO:
        if not len(held_out):
            raise UsageError("--components auto needs held-out latents", "--components 10, or other --data")
        others = {name: value for name, value in options.items() if name != "components"}
        density, tried = choose_components(train, held_out, seed, kind=registry.resolve("density", kind), **others)
    else:
        density = registry.resolve("density", kind).create(**options).fit(train, seed, progress)
    d = train.shape[1]
    fitted, unseen = (float(density.log_prob(z).mean()) / d if len(z) else None for z in (train, held_out))
    assert fitted is not None, "there are training latents"
    if unseen is not None and fitted - unseen > _OVERFITTED:
        remedies = [] if tried else ["--components auto"] if isinstance(density, Mixture) else []
        remedies += [] if isinstance(density, Gaussian) else ["--density gaussian"]
        remedies += ["a smaller --latent-dim", "more data"]
        density.notices.append(
            "held-out latents are far less likely than those it was fitted to: it overfits; try "
            f"{', '.join(remedies[:-1])} or {remedies[-1]}"
        )
    return Fit(
        kind=kind,
        density=density,
        seed=seed,
        latents=hashlib.sha256(np.ascontiguousarray(train).data).hexdigest(),
        train=fitted,
        held_out=unseen,
        n_train=len(train),
        n_held_out=len(held_out),
        tried=tried,
    )
