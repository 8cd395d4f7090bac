"""Does a density of another family beat Gaussian mixtures on an autoencoder's latents?

    python benchmarks/beyond_gmm.py TEST CKPT [CKPT ...] [--densities gmm-10 gmm-auto student-t-auto] [--samples N]

Each checkpoint's training latents are fitted, its held-out latents choose what is to be chosen (how many Gaussians,
the epoch of a flow), and TEST, which neither has seen, is what the report is about: log-likelihood of its latents, and
kernel distance of N samples to it (as many as it has items unless said; of those 10,000 at most, chosen by seed 0).
The checkpoints are runs of one configuration with different seeds; the seed of a run is also that of its fits and
samples. Prints a Markdown table a checkpoint, and the mean over them: nats per dimension, 1000 times the kernel
distance, and how far it is above the last density's.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

import raectl
from raectl.data.dataset import fingerprint
from raectl.densities.fitting import fit
from raectl.evaluation.evaluation import DEFAULT_N
from raectl.evaluation.features import cached_features, extract
from raectl.metrics.kernel import kernel_difference, kernel_distance
from raectl.metrics.reference import Measured, Reference
from raectl.registry import resolve
from raectl.rng import choose, permutation

DENSITIES = {
    "gmm-10": ("gmm", {"components": 10}),
    "gmm-auto": ("gmm", {"components": "auto"}),
    "kde": ("kde", {}),
    "flow": ("flow", {}),
    "student-t-auto": ("student-t", {"components": "auto"}),
}


HEAD = """| density | train | held out | test | kernel distance | above the last's by | seconds |
|---|---|---|---|---|---|---|"""


@dataclass(frozen=True)
class Judged:
    """Nats per dimension of training, held-out and test latents; 1000 times the kernel distance, its excess over the
    last density's, and their standard errors; seconds."""

    name: str
    likelihood: tuple[float, ...]
    kernel: Measured
    excess: Measured
    seconds: float

    def __str__(self) -> str:
        likelihoods = " | ".join("-" if np.isnan(value) else f"{value:.4f}" for value in self.likelihood)
        kernel, excess = (f"{1e3 * m.value:.2f} ± {1e3 * (m.se or 0):.2f}" for m in (self.kernel, self.excess))
        errors = f"{excess} ({self.excess.value / self.excess.se:+.1f} SE)" if self.excess.se else "-"
        return f"| {self.name} | {likelihoods} | {kernel} | {errors} | {self.seconds:.0f} |"


def judge(path: str, source: str, densities: list[str], samples: int | None) -> list[Judged]:
    """Every density on one checkpoint."""
    checkpoint = raectl.load(path)
    seed = checkpoint.config.seed
    train, held_out = checkpoint.split_latents(checkpoint.open_data())
    test = checkpoint.open_data(source)
    items = np.asarray(test.items[choose(0, "benchmark items", len(test), DEFAULT_N)])
    latents = checkpoint.encode(test.items).cpu()
    extractor = resolve("extractor", "efficientnet-lite0")()
    n = samples or len(items)
    reference = Reference(torch.from_numpy(cached_features(extractor, items, fingerprint(items))))

    def features(blocks: Iterator[torch.Tensor]) -> torch.Tensor:
        return torch.from_numpy(extract(extractor, map(checkpoint.modality.to_items, blocks), n))

    # The best that any density can do without leaving the distribution of the latents: they themselves.
    drawn = train[permutation(seed, "benchmark", len(train))[np.arange(n) % len(train)]]
    rows = [("the training latents", (np.nan,) * 3, features(checkpoint.decode_blocks(drawn)), 0.0)]
    for name in densities:
        kind, options = DENSITIES[name]
        began = time.monotonic()
        fitted = fit(kind, train, held_out, seed=seed, **options)
        seconds = time.monotonic() - began
        assert fitted.held_out is not None
        likelihood = (fitted.train, fitted.held_out, float(fitted.density.log_prob(latents).mean()) / latents.shape[1])
        shown = f"{name} ({fitted.density.settings['components']})" if fitted.tried else name
        drawn = features(checkpoint.sample_blocks(n, seed, fitted.density))
        rows.append((shown, likelihood, drawn, seconds))
        print(f"{path}: {shown} {likelihood}", file=sys.stderr, flush=True)
    last = rows[-1][2]
    return [
        Judged(name, likelihood, kernel_distance(reference, own), _excess(reference, own, last), seconds)
        for name, likelihood, own, seconds in rows
    ]


def _excess(reference: Reference, own: torch.Tensor, last: torch.Tensor) -> Measured:
    return Measured(0.0) if own is last else kernel_difference(reference, own, last)


def mean(runs: Sequence[Judged]) -> Judged:
    """Over checkpoints of independent seeds."""
    return Judged(
        name=runs[0].name.partition(" (")[0],
        likelihood=tuple(np.mean([run.likelihood for run in runs], axis=0)),
        kernel=_mean([run.kernel for run in runs]),
        excess=_mean([run.excess for run in runs]),
        seconds=float(np.mean([run.seconds for run in runs])),
    )


def _mean(values: list[Measured]) -> Measured:
    errors = [value.se or 0.0 for value in values]
    return Measured(float(np.mean([value.value for value in values])), float(np.linalg.norm(errors)) / len(errors))


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("test", metavar="TEST")
    parser.add_argument("checkpoints", nargs="+", metavar="CKPT")
    parser.add_argument("--densities", nargs="+", choices=DENSITIES, default=["gmm-10", "gmm-auto", "student-t-auto"])
    parser.add_argument("--samples", type=int, metavar="N")
    options = parser.parse_args()
    runs = []
    for path in options.checkpoints:
        runs.append(judge(path, options.test, options.densities, options.samples))
        print(f"\n{path}:\n\n{HEAD}", *runs[-1], sep="\n", flush=True)
    print(f"\nmean over {len(runs)}:\n\n{HEAD}")
    print(*map(mean, zip(*runs, strict=True)), sep="\n")


if __name__ == "__main__":
    main()
