"""Does a source that is sorted by class give other figures than the same images shuffled? Every command, on both.

    OMP_NUM_THREADS=1 python benchmarks/sorted.py mnist --runs runs/sorted --seeds 0 1 2 3 4

Of MNIST (a folder with its four files) three digits, 400 images of each to train on and 150 to test: once in nested
folders, class after class, once in one folder, shuffled. On each a model of each seed is trained, and all commands say
what they measure. A difference of means stands in standard errors: by the spread over the seeds, and by the error that
the record itself has. Without training's noise: one model, evaluated on both orders of the test images, half of them
chosen by each of 12 seeds. What was measured is in RUNS and is not measured again. Writes results/sorted.md.
"""

import argparse
import functools
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from scipy import stats
from sharpening.judges import read_digits
from timing import publish

ORDERS = ("sorted", "shuffled")
CLASSES = {"closed/0": 0, "open/1": 1, "open/7": 7}  # folder: digit
PARTS = {"train": 400, "t10k": 150}  # images of a class
TRAINED = ("--width", 8, "--epochs", 12)
# Whose terms of the loss are compared; that of WAE compares all the codes of a batch with the prior.
MODELS = {"rae": ("--reg", "tikhonov"), "wae": ("--model", "wae"), "vae": ("--model", "vae")}
MANY, FAR = 12, 3.0  # seeds of the choice of items; standard errors
Figure = tuple[float, float | None]  # value, standard error


class Digits(NamedTuple):
    """Images (N, 32, 32, 1) uint8 of a part of MNIST, their digits (N,), and the folder of each order."""

    items: np.ndarray
    labels: np.ndarray
    sources: dict[str, Path]

    def shares(self, images: np.ndarray) -> Iterator[tuple[str, Figure]]:
        """The share of each digit among images, by the nearest one of these."""
        a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (images, self.items))
        found = self.labels[((b * b).sum(axis=1) - 2 * a @ b.T).argmin(axis=1)]
        for digit in CLASSES.values():
            share = float((found == digit).mean())
            yield f"share of {digit}", (share, math.sqrt(share * (1 - share) / len(found)))


def digits(home: Path, part: str, runs: Path) -> Digits:
    """The images of a part, written as PNGs in both orders."""
    everything, labels = read_digits(home, part)
    random = np.random.default_rng(0)
    rows = [random.permutation(np.flatnonzero(labels == digit))[: PARTS[part]] for digit in CLASSES.values()]
    chosen = np.concatenate(rows)
    nested = [f"{folder}/{number:04}.png" for folder in CLASSES for number in range(PARTS[part])]
    flat = [f"{number:04}.png" for number in random.permutation(len(chosen))]
    sources = {order: runs / f"{part}-{order}" for order in ORDERS}
    for order, names in zip(ORDERS, (nested, flat), strict=True):
        for row, name in zip(chosen, names, strict=True):
            path = sources[order] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(everything[row, :, :, 0]).save(path)
    return Digits(everything[chosen], labels[chosen], sources)


def raectl(*arguments: object) -> Any:
    """What a command prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "raectl", *map(str, arguments), "--json"], capture_output=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr.decode())
    return json.loads(done.stdout)


def leaves(found: Mapping[str, Any], *names: str) -> Iterator[tuple[str, Figure]]:
    """The numbers in some values of a command, those in values of values too; `x_se` is the error of `x`."""
    for name in names:
        value = found[name]
        if isinstance(value, Mapping):
            yield from ((f"{name}, {key}", figure) for key, figure in leaves(value, *value))
        elif isinstance(value, int | float) and not name.endswith("_se"):
            yield name, (float(value), found.get(f"{name}_se"))


def numbers(lines: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Figure]]:
    """The lines of an evaluation."""
    for line in lines:
        plain = " (plain)" if line["of"] == "reconstruction" and line["decoder"] == "plain" else ""
        yield f"{line['of']}{plain}: {line['metric']}", (line["value"], line["se"])


def every_command(train: Digits, test: Digits, order: str, seed: int, out: Path) -> Iterator[tuple[str, Figure]]:
    """What every command says of one order, and which digits it takes or makes."""
    source, unseen, seeded = train.sources[order], test.sources[order], ("--seed", seed)

    def of(command: str, figures: Iterator[tuple[str, Figure]]) -> Iterator[tuple[str, Figure]]:
        return ((f"{command}: {name}", figure) for name, figure in figures)

    def images(name: str) -> np.ndarray:
        with np.load(out / name) as arrays:
            return arrays["originals" if "originals" in arrays else "images"]

    checked = raectl("check", source)
    checked |= {name: len(checked[name]) for name in ("bad", "duplicates", "constant", "shape")}
    checked["levels"] = dict(zip(("least", "greatest"), checked["levels"], strict=True))
    yield from of("check", leaves(checked, "total", "items", "bad", "bytes", "levels", "duplicates", "constant"))
    for name, options in MODELS.items():
        told = raectl("train", source, *options, *TRAINED, *seeded, "--out", out / name)
        yield from of(f"train, {name}", leaves(told, "train", "validation"))
    model = out / "rae"
    for density, options in {"gaussian": (), "kde": (), "gmm": ("--components", 10)}.items():
        fitted = raectl("fit-density", model, "--density", density, *options, *seeded, "--name", density)
        yield from of(f"fit-density, {density}", leaves(fitted, "nats_per_dimension"))
    yield from of("sharpen", leaves(raectl("sharpen", model, *seeded), "held_out"))
    raectl("sample", model, "-n", 300, *seeded, "-o", out / "samples.npz")
    yield from of("sample", train.shares(images("samples.npz")))
    for name, data, of_data in (("new", unseen, test), ("training", source, train)):
        told = raectl("reconstruct", model, "--data", data, "-n", 150, *seeded, "-o", out / f"{name}.npz")
        yield from of(f"reconstruct, {name}", leaves(told, "mse", "psnr", "ssim", "sharp", "baseline"))
        yield from of(f"reconstruct, {name}, shown", of_data.shares(images(f"{name}.npz")))
    raectl("interpolate", model, "--data", unseen, "--pairs", 75, "--steps", 3, *seeded, "-o", out / "walks.npz")
    for place, name in enumerate(("from", "through", "to")):
        yield from of(f"interpolate, {name}", test.shares(images("walks.npz")[:, place]))
    pixels = ("--features", "pixels", *seeded)
    for name, told in {
        "all new": ("--data", unseen, *pixels),
        "training, 400": ("--data", source, "-n", 400, *pixels),
        "150 new, default features": ("--data", unseen, "-n", 150, *seeded),
    }.items():
        yield from of(f"evaluate, {name}", numbers(raectl("evaluate", model, *told)["numbers"]))
    picture = ("--data", unseen, "-o", out / "compared.png", *seeded)
    (compared,) = raectl("compare", model, "--metric", "coverage", *picture)["checkpoints"].values()
    yield from of("compare", numbers(compared))
    yield from of("info", leaves(raectl("info", model)["best"], "validation"))


def chosen_items(model: Path, source: Path, n: int, seed: int) -> dict[str, Figure]:
    """A model's evaluation on n of the images of a source."""
    told = raectl("evaluate", model, "--data", source, "-n", n, "--features", "pixels", "--seed", seed)
    return dict(numbers(told["numbers"]))


def kept(path: Path, measure: Callable[[], dict[str, Figure]]) -> dict[str, Figure]:
    """What was measured before, or what is measured now."""
    if not path.exists():
        found = measure()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found))
    result: dict[str, Figure] = json.loads(path.read_text())
    return result


def table(title: str, found: Mapping[str, Sequence[Mapping[str, Figure]]]) -> Iterator[str]:
    """Of each figure the means over the seeds, and their difference."""
    rows, far, random = [], 0, 0
    for name in found[ORDERS[0]][0]:
        values = [np.array([run[name][0] for run in found[order]]) for order in ORDERS]
        own = [np.array([run[name][1] or 0.0 for run in found[order]]) for order in ORDERS]
        difference = float(values[0].mean() - values[1].mean())
        spread = math.sqrt(sum(float(x.var(ddof=1)) / len(x) for x in values))
        error = math.sqrt(sum(float(np.square(x).mean()) for x in own))
        rounding = 1e-6 * abs(float(values[1].mean()))
        random += spread > rounding
        is_far = abs(difference) > max(FAR * spread, rounding)
        far += is_far
        cells = [f"{float(x.mean()):.5g}" for x in values]
        cells += [f"{difference / spread:+.1f}" if spread > rounding else "-"]
        cells += [f"{difference / error:+.1f}" if error else "-", "**" if is_far else ""]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    seeds = len(found[ORDERS[0]])
    chance = 2 * float(stats.t.sf(FAR, 2 * seeds - 2)) * random
    heads = ("figure", *ORDERS, "by the seeds, SE", "by its own error, SE", "")
    yield f"\n{title}, {seeds} seeds: {len(rows)} figures, of which {random} depend on the seed.\n"
    yield f"Differences above {FAR:g} standard errors (**): {far}; expected by chance alone: {chance:.1f}.\n"
    yield from (f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *rows)


def main() -> None:
    """Measure what is missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder of MNIST's files")
    parser.add_argument("--runs", type=Path, default=Path("runs/sorted"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    options = parser.parse_args()
    runs = options.runs
    train, test = (digits(options.data, part, runs) for part in PARTS)
    trained: dict[str, list[dict[str, Figure]]] = {order: [] for order in ORDERS}
    chosen: dict[str, list[dict[str, Figure]]] = {order: [] for order in ORDERS}
    for seed in options.seeds:
        for order in ORDERS:
            out = runs / f"{order}-{seed}"
            measure = functools.partial(lambda *given: dict(every_command(*given)), train, test, order, seed, out)
            trained[order].append(kept(out / "figures.json", measure))
            print(out, flush=True)
    model, n = runs / f"{ORDERS[0]}-{options.seeds[0]}" / "rae", len(test.items) // 2
    for seed in range(MANY):
        for order in ORDERS:
            measure = functools.partial(chosen_items, model, test.sources[order], n, seed)
            chosen[order].append(kept(runs / f"chosen-{order}-{seed}.json", measure))
    lines = [
        *table("A model of each seed on each order", trained),
        *table(f"One model, {n} of the {len(test.items)} test images chosen by the seed", chosen),
    ]
    sizes = f"{PARTS['train']} images of a class to train on, {PARTS['t10k']} to test; {' '.join(map(str, TRAINED))}."
    lines.append(f"\n{sizes} `-` is no error, or no difference beyond rounding.")
    publish("sorted", "OMP_NUM_THREADS=1 python benchmarks/sorted.py mnist", "\n".join(lines))


if __name__ == "__main__":
    main()
