"""Ex-post density estimation: fit a density to latents and compare their likelihood with that of held-out latents."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raectl import registry
from raectl.densities.base import Density
from raectl.densities.gaussian import Gaussian
from raectl.densities.mixtures.base import Mixture
from raectl.densities.mixtures.choose import CANDIDATES, choose_components
from raectl.densities.networks import NetworkDensity
from raectl.errors import RaectlError, UsageError
from raectl.progress import Progress

AUTO = "auto"
_FEWEST = 2  # latents to fit to; one has no spread
LATENTS_EACH = 10  # latents a component, at least, where the number is chosen
_OVERFITTED = 1.0  # gap between training and held-out log-likelihood that is reported, in nats per dimension
_UNDERFITTED = 5.0  # the same, of a single Gaussian's log-likelihood and a network's, which may be a lower bound


@dataclass(frozen=True)
class Fit:
    """A fitted density and its log-likelihoods."""

    kind: str
    density: Density
    seed: int
    latents: str  # SHA-256 of the training latents
    train: float  # mean log-likelihood of the training latents, in nats per dimension, or a lower bound on it
    held_out: float | None  # the same for the held-out latents; None if there are none
    n_train: int
    n_held_out: int
    # With `components="auto"`, the table of `choose_components`.
    tried: list[dict[str, Any]] = field(default_factory=list)
    # With a density a class, a row each: class, n, components, shrinkage (latents), train and held_out; and the options
    # that were given for all.
    classes: list[dict[str, Any]] = field(default_factory=list)
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, Any]:
        """What the density was made with; of a density a class, what was given for all classes."""
        return dict(self.given) if self.classes else self.density.settings

    @property
    def default_name(self) -> str:
        """The kind, with the number of components if it has one: `gmm-10`; with a density a class, `gmm-by-class`."""
        if self.classes:
            return f"{self.kind}-by-class"
        components = self.density.settings.get("components")
        return self.kind if components is None else f"{self.kind}-{components}"


def check_options(kind: str, options: Mapping[str, Any]) -> None:
    """Raise a `UsageError` unless the kind is known and takes the options; see `fit`."""
    density: type[Density] = registry.resolve("density", kind)
    auto = options.get("components") == AUTO
    density.checked({**options, "components": 1} if auto else options, f"--density {kind}")
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
        train: (N, d) latents to fit to.
        held_out: (M, d) latents to evaluate on; M may be 0, except with `components="auto"`.
        options: of the density; `components="auto"` chooses the number by held-out log-likelihood, which is the
            default of densities with `chooses_components` if M > 0.

    Raises:
        UsageError: the kind is unknown, or it does not take an option.
        RaectlError: the latents are invalid, or too few for the density.
    """
    check_options(kind, options)
    if len(train) < _FEWEST:
        few = f"{len(train)} latent{'' if len(train) == 1 else 's'}"
        raise RaectlError(f"{few} to fit to, too few for a density", f"{_FEWEST} are needed, besides those held out")
    density: Density
    tried: list[dict[str, Any]] = []
    found = registry.resolve("density", kind)
    if found.chooses_components and len(held_out):
        options = {"components": AUTO, **options}
    if options.get("components") == AUTO:
        if not len(held_out):
            raise UsageError("--components auto needs held-out latents", "--components 10, or other --data")
        del options["components"]
        # A component for fewer latents than these would reproduce some of them.
        candidates = [k for k in CANDIDATES if k == 1 or k * LATENTS_EACH <= len(train)]
        density, tried = choose_components(train, held_out, seed, candidates, found, progress, **options)
    else:
        density = found(**options).fit(train, seed, progress)
    d = train.shape[1]
    train_score = float(density.log_prob(train).mean()) / d
    held_out_score = float(density.log_prob(held_out).mean()) / d if len(held_out) else None
    _judge(kind, density, train, train_score, held_out_score, bool(tried))
    latents = hashlib.sha256(np.ascontiguousarray(train).data).hexdigest()
    return Fit(kind, density, seed, latents, train_score, held_out_score, len(train), len(held_out), tried)


def _judge(kind: str, density: Density, train: np.ndarray, score: float, held_out: float | None, chosen: bool) -> None:
    """Add a notice if a density underfits, or else if it overfits.

    `score` and `held_out` are mean log-likelihoods of the training and the held-out latents, in nats per dimension;
    `chosen` is whether its number of components was.
    """
    if isinstance(density, NetworkDensity):
        if not density.underfits:
            gap = float(Gaussian().fit(train).log_prob(train).mean()) / train.shape[1] - score
            if not gap <= _UNDERFITTED:
                density.add_underfit(f"latents are likelier under a single Gaussian, by {gap:.1f} nats per dimension")
        if density.underfits:
            return
    if held_out is None or score - held_out <= _OVERFITTED:
        return
    remedies = [] if chosen else ["--components auto"] if isinstance(density, Mixture) else []
    is_gaussian = isinstance(density, Gaussian) or density.settings.get("components") == 1
    remedies += [f"a larger --density {kind},bandwidth=..."] if "bandwidth" in density.options else []
    remedies += [] if is_gaussian else ["--density gaussian"]
    remedies += ["a smaller --latent-dim", "more data"]
    density.notices.append(
        "held-out latents are far less likely than the training latents: the density overfits; try "
        f"{', '.join(remedies[:-1])} or {remedies[-1]}"
    )
