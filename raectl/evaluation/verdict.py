"""What the numbers of an evaluation mean: what is farthest from real, by how much, what to try next."""

from collections.abc import Sequence

from raectl.evaluation.evaluation import REAL, Measurement

_SAME = 0.01  # relative difference up to which numbers count as equal
_CLEAR = 2.0  # standard errors above which a difference is one
_MOSTLY = 0.5  # share of a distance


def verdict(results: Sequence[Measurement]) -> list[str]:
    """Sentences on the results of `Evaluation`, the most important first; none where nothing can be compared."""
    return [*_farthest(results), *_validity(results), *_equal(results)]


def _farthest(results: Sequence[Measurement]) -> list[str]:
    """By the kernel distance, which is unbiased and has a standard error."""
    found = {r.of: r.measured["kernel"] for r in results if "kernel" in r.measured}
    real = found.pop(REAL, None)
    if real is None or not found:
        return []
    worst = max(found, key=lambda name: found[name].value)
    error = ((found[worst].se or 0.0) ** 2 + (real.se or 0.0) ** 2) ** 0.5
    gap = found[worst].value - real.value
    if gap <= _CLEAR * error:
        return ["verdict: no difference from real items was found at this n; more --data would tell more"]
    text = f"verdict: farthest from real: {worst}, kernel distance {found[worst].value:.3g} (real {real.value:.2g}"
    text += f"; {gap / error:.0f} standard errors)" if error else ")"
    rest = found.get("reconstruction")
    if rest is None:
        return [text]
    share = (rest.value - real.value) / gap
    if worst == "reconstruction" or share > _MOSTLY:
        return [
            f"{text}; reconstructions are at {rest.value:.3g} already, so most of it is the decoder's: "
            "train longer (--epochs), with a larger --width or --latent-dim, or on more images"
        ]
    return [
        f"{text}; reconstructions are at {rest.value:.3g}, so most of it is the density's: "
        "raectl fit-density with another --density (student-t, flow), or a smaller --latent-dim"
    ]


def _validity(results: Sequence[Measurement]) -> list[str]:
    """Of strings."""
    found = {r.of: r.measured["valid"].value for r in results if "valid" in r.measured and r.of != REAL}
    if not found:
        return []
    worst = min(found, key=lambda name: found[name])
    text = f"verdict: fewest valid strings: {worst}, {found[worst]:.0%}"
    return [f"{text}; more --epochs, or raectl sample --draws 100, make more valid" if found[worst] < 1 else text]


def _equal(results: Sequence[Measurement]) -> list[str]:
    """Samples that score alike, such as those of several densities that are one Gaussian."""
    groups: list[list[Measurement]] = []
    for result in results:
        like = next((group for group in groups if _are_alike(group[0], result)), None)
        if like is None:
            groups.append([result])
        else:
            like.append(result)
    return [
        f"{', '.join(r.of for r in group[:-1])} and {group[-1].of} score alike: nearly the same density of the same "
        "latents, drawn with the same seed (gmm-1, gaussian and often N are one Gaussian)"
        for group in groups
        if len(group) > 1
    ]


def _are_alike(a: Measurement, b: Measurement) -> bool:
    names = a.measured.keys() & b.measured.keys()
    pairs = [(a.measured[name].value, b.measured[name].value) for name in names]
    return bool(pairs) and all(abs(x - y) <= _SAME * max(abs(x), abs(y)) for x, y in pairs)
