"""What the numbers of an evaluation mean: what is farthest from real, by how much, what to try next."""

import math
from collections.abc import Sequence

from raectl.checkpoint.items import Seen
from raectl.evaluation.columns import INTERPOLATION, RECONSTRUCTION, N
from raectl.evaluation.evaluation import REAL, Measurement
from raectl.generation.baseline import MEAN
from raectl.metrics.reference import LOWER_IS_BETTER, badness

_THROUGH = (f"{RECONSTRUCTION} ", f"{INTERPOLATION} ")  # a density's own code
_SAME = 0.01  # relative difference up to which numbers count as equal
_CLEAR = 2.0  # standard errors above which a difference is one
_NONE = "no difference found"
_BARELY = 0.9  # of the mean image's error
_MOSTLY = 0.5  # share of a distance
_MISSED = 0.7  # of what real items have, below which a share is poor


def verdict(results: Sequence[Measurement], metric: str, seen: Seen | None = None) -> list[str]:
    """Sentences on the results of `Evaluation`, the most important first; none where nothing can be compared.

    They judge by `metric`, such as the kernel distance; `seen` is how many of the real items were trained on.
    """
    seen_before = [f"{seen.sentence}: of new ones only, the numbers would be worse"] if seen and seen.total else []
    farthest = _farthest(results, metric)
    near = _near(results, metric) if farthest and _NONE not in farthest[0] else []
    return [*farthest, *seen_before, *near, *_mean(results), *_equal(results)]


def _farthest(results: Sequence[Measurement], metric: str) -> list[str]:
    """Of reconstructions and samples; of N's only where no density is fitted, of interpolations never."""
    measured = [r for r in results if metric in r.measured and r.decoder is None]
    real = next((r.measured[metric] for r in measured if r.of == REAL), None)
    fitted = [r for r in measured if r.density and not r.of.startswith(INTERPOLATION)]
    judged = [r for r in measured if r.of == RECONSTRUCTION] + (fitted or [r for r in measured if _is_n(r)])
    if real is None or not judged:
        return []
    found = {r.of: r.measured[metric] for r in judged}
    floor = badness(metric, real.value)
    gaps = {name: badness(metric, measured.value) - floor for name, measured in found.items()}
    worst = max(gaps, key=lambda name: gaps[name])
    error = math.hypot(found[worst].se or 0.0, real.se or 0.0)
    if gaps[worst] <= _CLEAR * error:
        return [f"verdict: {_NONE}: {metric} is that of real items at this n{_but(judged, results)}"]
    text = f"verdict: farthest from real: {worst}, {metric} {found[worst].value:.3g} (real {real.value:.2g}"
    text += f", {gaps[worst] / error:.0f} standard errors)" if error else ")"
    if RECONSTRUCTION not in gaps:
        return [text]
    at = f"reconstructions have {found[RECONSTRUCTION].value:.3g}"
    if gaps[RECONSTRUCTION] > _MOSTLY * gaps[worst]:
        remedy = "train longer (--epochs), with a larger --width or --latent-dim, or on more data"
        return [f"{text}; {at} already, so most of it is the autoencoder's: {remedy}"]
    remedy = "raectl fit-density with another --density, or a smaller --latent-dim"
    nearest = min((r.of for r in fitted), key=lambda name: gaps[name], default=worst)
    if gaps[nearest] < gaps[worst] / 2:
        remedy = f"{nearest} is nearer, at {found[nearest].value:.3g}: raectl sample --density {nearest}"
    return [f"{text}; {at}, so most of it is the density's: {remedy}"]


def _near(results: Sequence[Measurement], metric: str) -> list[str]:
    """The rows whose distance, such as the kernel distance, is below its error or below 0: they are as real ones."""
    if not LOWER_IS_BETTER.get(metric):  # a share is no distance
        return []
    rows = [(r.label, r.measured[metric]) for r in results if metric in r.measured and r.of != REAL]
    names = [label for label, measured in rows if measured.se is not None and measured.value < measured.se]
    return [f"{_NONE} in {', '.join(names)}: {metric} is below its error"] if names else []


def _mean(results: Sequence[Measurement]) -> list[str]:
    """Whether reconstructions are hardly better than one image for all, by the metrics that are errors."""
    plain = [r for r in results if r.decoder is None and r.density is None]
    model = next((r.measured for r in plain if r.of == RECONSTRUCTION), {})
    mean, of = next(((r.measured, r.of) for r in plain if r.of.partition(" ")[0] == MEAN), ({}, ""))
    return [
        f"reconstructions are hardly better than the {of}: {name} {model[name].value:.3g} and {error.value:.3g}; "
        "train longer"
        for name, error in mean.items()
        if name in model and LOWER_IS_BETTER.get(name) and model[name].value > _BARELY * error.value
    ]


def _but(judged: Sequence[Measurement], results: Sequence[Measurement]) -> str:
    """What another number says where the distance says nothing: the share of real items that is missed, for one."""
    real = next(r.measured for r in results if r.of == REAL)
    for name in ("coverage", "recall", "precision"):
        for row in judged:
            if name in real and row.measured[name].value < _MISSED * real[name].value:
                value = f"{row.measured[name].value:.2g} (real {real[name].value:.2g})"
                return f", but {name} of {row.of} is {value}: train longer, or use more --data and other --features"
    return "; more --data would tell more"


def _equal(results: Sequence[Measurement]) -> list[str]:
    """Samples that score alike, such as those of several densities that are one Gaussian."""
    groups: list[list[Measurement]] = []
    for result in (r for r in results if _is_n(r) or (r.density and not r.of.startswith(_THROUGH))):
        like = next((group for group in groups if _are_alike(group[0], result)), [])
        groups += [] if like else [like]
        like.append(result)
    return [
        f"{', '.join(r.of for r in group[:-1])} and {group[-1].of} score alike: nearly the same density of the same "
        "latents, drawn with the same seed (gmm-1, gaussian and often N are one Gaussian)"
        for group in groups
        if len(group) > 1
    ]


def _is_n(result: Measurement) -> bool:
    return result.of.partition(",")[0] == N  # `N, 20 draws`


def _are_alike(a: Measurement, b: Measurement) -> bool:
    names = a.measured.keys() & b.measured.keys()
    pairs = [(a.measured[name].value, b.measured[name].value) for name in names]
    return bool(pairs) and all(abs(x - y) <= _SAME * max(abs(x), abs(y)) for x, y in pairs)
