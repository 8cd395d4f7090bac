"""Sharpened against plain: train, sharpen, and judge, on MNIST, on other images, and beside pythae.

    python benchmarks/sharpening/compare.py mnist --data mnist --seeds 0 1 2
    python benchmarks/sharpening/compare.py emoji --data emoji64.zip --seeds 0 1 2
    python benchmarks/sharpening/compare.py photographs --data photographs --seeds 0 1 2
    python benchmarks/sharpening/compare.py --report

Rows of MNIST have equal arithmetic: a step of the second phase counts 1.22 plain ones (step.py); its looks at held-out
images cost about what the steps save in which the critic learns alone. What is trained or
judged is not done twice; results are lines of RUNS/results.jsonl, and `--report` makes results/sharpening.md of them.
`photographs` is the folder that photographs.py makes. For the row of pythae, samples made by peers/pythae_run.py are
judged: `--pythae FILE.npz`.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from judges import DigitClassifier, grey_level_curve, read_digits, sliced_wasserstein
from report import report

import raectl
from raectl import rng
from raectl.data import split
from raectl.extractors.edges import Edges
from raectl.extractors.efficientnet_lite0 import EfficientNetLite0
from raectl.extractors.pixels import Pixels
from raectl.metrics.copying import copied
from raectl.metrics.kernel import kernel_distance
from raectl.metrics.manifold import prdc
from raectl.metrics.reference import Reference
from raectl.metrics.sharpness import sharpness

SMALL = Path(__file__).parents[1] / "table1" / "small-mnist.toml"
COST = 1.22  # plain steps a step of the second phase takes, at 32 pixels
N = 5000
OTHERS = {"kde": "kde", "student-t": "student-t,components=10", "flow": "flow,epochs=10"}


class Row(NamedTuple):
    """How a model is trained: epochs of the first phase, its loss, and steps of the second phase, 0 for none."""

    epochs: int
    options: tuple[str, ...] = ()
    steps: int = 0


class Images(NamedTuple):
    """A data set: what `train` is told of it, its rows, and how its two parts are opened."""

    options: tuple[str, ...]
    rows: dict[str, Row]
    open: Callable[[Path, Path], tuple[Path, np.ndarray]]  # --data, runs => what to train on, test images


def _mnist(data: Path, runs: Path) -> tuple[Path, np.ndarray]:
    return data, read_digits(data, "t10k")[0]


def _halved(data: Path, runs: Path) -> tuple[Path, np.ndarray]:
    """A tenth of one source for the test, by a seed."""
    items = raectl.open_dataset(data).items
    train, test = split(len(items), 0.1, seed=1)
    np.savez(runs / "train.npz", images=items[train])
    return runs / "train.npz", items[test]


def _photographs(data: Path, runs: Path) -> tuple[Path, np.ndarray]:
    return data / "train.npz", np.load(data / "test.npz")["images"]


L1 = ("--reconstruction", "l1")
# 5 epochs are 2,500 steps.
MNIST = {
    "plain": Row(5),
    "l1": Row(5, L1),
    "sharpened": Row(3, (), int(1000 / COST)),
    "l1 sharpened": Row(3, L1, int(1000 / COST)),
}
COLOUR = ("--reg", "tikhonov", "--width", "16", "--batch-size", "50", "--precision", "fp32")
DATA = {
    "mnist": Images(("--preset", "mnist/rae-l2", "--config", str(SMALL)), MNIST, _mnist),
    "emoji": Images(COLOUR, {"sharpened": Row(16, (), 500)}, _halved),
    "photographs": Images(COLOUR, {"sharpened": Row(20, (), 500)}, _photographs),
}  # fmt: skip


def main() -> None:
    """Parse the command line; train and judge what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=DATA)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--rows", nargs="*")
    parser.add_argument("--runs", type=Path, default=Path("sharpening-runs"))
    parser.add_argument("--pythae", type=Path, help="samples of pythae, to be judged beside MNIST's")
    parser.add_argument("--train-only", action="store_true")
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    if options.report:
        report(options.runs)
        return
    runs = options.runs / options.name
    runs.mkdir(parents=True, exist_ok=True)
    images = DATA[options.name]
    source, test = images.open(options.data, runs)
    for seed in options.seeds:
        for name in options.rows or images.rows:
            others = OTHERS if seed == 0 and name == "sharpened" else {}
            train(images, images.rows[name], source, runs / f"{name.replace(' ', '-')}-{seed}", seed, others)
    if options.train_only:
        return
    judge = Judge(options.name, options.data, test, runs)
    for seed in options.seeds:
        for name in options.rows or images.rows:
            judge.checkpoint(name, runs / f"{name.replace(' ', '-')}-{seed}", seed)
    if options.pythae:
        judge.record("pythae RAE-L2", 0, "gmm-10", np.load(options.pythae)["images"])


def train(images: Images, row: Row, source: Path, path: Path, seed: int, others: dict[str, str]) -> None:
    """Train and sharpen a row, and fit the densities that its samples come from: 10 Gaussians, and others."""
    if not path.exists():
        told = (*images.options, *row.options, "--epochs", row.epochs, "--seed", seed)
        command("train", "--data", source, *told, "--out", path, "--device", "cpu")
    if row.steps and not (path / "decoder-sharp.safetensors").exists():
        begun = ("--resume",) if (path / "sharpening.safetensors").exists() else ()
        command("sharpen", path, "--steps", row.steps, *begun)
    present = raectl.load(path, "cpu").densities()
    for kind, density in {**others, "gmm": "gmm,components=10"}.items():
        if not any(name.partition("-1")[0] == kind for name in present):
            command("fit-density", path, "--density", density, "--seed", seed)


def command(*arguments: object) -> None:
    """Run a command as a user would."""
    print("$ raectl", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "raectl", *map(str, arguments)], check=True)


class Judge:
    """All judges, with the features of the test images; every result is a line of results.jsonl."""

    def __init__(self, name: str, data: Path, test: np.ndarray, runs: Path) -> None:
        chosen = np.sort(np.random.default_rng(0).permutation(len(test))[:N])  # MNIST's first half is the tidier one
        self.name, self.runs, self.real = name, runs, test[chosen]
        self.results = runs.parent / "results.jsonl"
        lines = self.results.read_text().splitlines() if self.results.exists() else []
        self.known = {tuple(json.loads(line)["what"]) for line in lines}
        self.extractor, self.edges, self.pixels = EfficientNetLite0(), Edges(), Pixels()
        self.reference = Reference(self.extractor(self.real))
        self.of_edges = Reference(self.edges(self.real))
        self.digits = DigitClassifier(data, runs / "classifier.pt") if name == "mnist" else None
        if self.digits:
            print(f"the digit classifier is right on {self.digits.accuracy:.2%} of the test images", flush=True)
        self.training: torch.Tensor | None = None

    def checkpoint(self, row: str, path: Path, seed: int) -> None:
        """Samples of each density by each decoder, and reconstructions."""
        newest = raectl.load(path, "cpu")
        dataset = newest.open_data()
        rows, held_out = split(len(dataset), newest.config.val_fraction, newest.config.seed)
        chosen = np.random.default_rng(0).permutation(rows)[: len(self.real)]
        self.training = self.pixels(dataset.items[np.sort(chosen)])
        for decoder in newest.decoders:
            checkpoint = raectl.load(path, "cpu", decoder)
            label = row if len(newest.decoders) == 1 or decoder == "sharp" else f"{row}, before"
            for density in checkpoint.densities():
                self.record(label, seed, density, lambda d=density, c=checkpoint: c.sample(len(self.real), seed, d))
            self.record(label, seed, "reconstruction", lambda c=checkpoint: c.reconstruct(self.real), error=True)
            if decoder == "sharp":
                self._without_levels(label, seed, checkpoint)
            if row == "plain":
                validation = np.array(dataset.items[held_out[rng.choose(0, "grey-level curve", len(held_out), N)]])
                curve = grey_level_curve(validation, checkpoint.sample(len(validation), seed + 1000, "gmm-10"))
                mapped = lambda c=checkpoint, m=curve: m[c.sample(len(self.real), seed, "gmm-10")]  # noqa: E731
                self.record("plain, grey-level curve", seed, "gmm-10", mapped)

    def _without_levels(self, label: str, seed: int, checkpoint: raectl.Checkpoint) -> None:
        """Samples and reconstructions of the sharpened decoder before its black and white points."""
        bare = checkpoint.decoders["sharp"].decoder
        checkpoint.decoders["bare"], checkpoint.decoder_name = bare, "bare"
        row = f"{label}, without levels"
        self.record(row, seed, "gmm-10", lambda: checkpoint.sample(len(self.real), seed, "gmm-10"))
        self.record(row, seed, "reconstruction", lambda: checkpoint.reconstruct(self.real), error=True)

    def record(
        self, row: str, seed: int, of: str, make: np.ndarray | Callable[[], np.ndarray], error: bool = False
    ) -> None:
        """Measure a set of images, unless that was done."""
        what = (self.name, row, seed, of)
        if what in self.known:
            return
        items = make() if callable(make) else make[: len(self.real)]
        numbers = dict(self._measures(items, error))
        line = {"what": what, "n": len(items), "threads": torch.get_num_threads(), **numbers}
        with self.results.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(*what, {name: round(value, 3) for name, value in numbers.items()}, flush=True)

    def _measures(self, items: np.ndarray, error: bool) -> Iterator[tuple[str, Any]]:
        features = self.extractor(items)
        distance = kernel_distance(self.reference, features)
        yield from (("kernel", 1000 * distance.value), ("kernel_se", 1000 * float(distance.se or 0)))
        yield from ((name, value.value) for name, value in prdc(self.reference, features).items())
        yield "sharpness", sharpness(self.of_edges, self.edges(items))["sharpness"].value
        yield "swd", sliced_wasserstein(self.real, items)
        if self.digits:
            yield "digits", self.digits.distance(self.real, items)
        if error:
            yield "mse", float(np.square(items / 255.0 - self.real / 255.0).mean())
        elif self.training is not None:
            of_pixels = Reference(self.pixels(self.real), training_sample=lambda: self.training)
            share = copied(of_pixels, self.pixels(items))["copied"]
            yield from (("copied", share.value), ("copied_se", float(share.se or 0)))


if __name__ == "__main__":
    main()
