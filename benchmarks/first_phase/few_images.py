"""300 photographs in three folders, with no option but the data; then 300 more by `--from`, and anew.

    python benchmarks/first_phase/few_images.py --seeds 0 1 2

Photographs are those of sharpening/photographs.py, downloaded by it if need be. A fifth of them is left out whole, for
the test. Of each other, twelve parts that do not overlap become JPEG files of 200 x 150 or 160 x 120, in three folders;
300 of them by chance are the first set, 600 the second, which holds the first. Every command is a process of its own,
as a user runs it. Errors are those of held-out images of the training, and of the test's. Writes results/few-images.md.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "sharpening")]
from photographs import PHOTOGRAPHS, largest, unpacked
from timing import publish

FOLDERS = ("fields", "towns", "things")
FEW, MORE, TESTED = 300, 600, 14  # images, images, photographs


def main() -> None:
    """Parse the command line, make the folders, train, measure, publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--home", type=Path, default=Path("few-images"), help="folder of images and runs")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "raectl-photographs")
    options = parser.parse_args()
    if not options.home.exists():
        make_folders(options.home, options.cache)
    rows = [one(options.home, seed) for seed in options.seeds]
    publish("few-images", "python benchmarks/first_phase/few_images.py --seeds 0 1 2", table(rows))


def make_folders(home: Path, cache: Path) -> None:
    """home/few, home/more and home/test, each of three folders of JPEG files."""
    cache.mkdir(parents=True, exist_ok=True)
    named = [(name, package) for package, names in PHOTOGRAPHS.items() for name in names.split()]
    draws = np.random.default_rng(0)
    tested = {named[index] for index in draws.permutation(len(named))[:TESTED]}
    pool: list[tuple[str, Image.Image]] = []
    test: list[tuple[str, Image.Image]] = []
    for number, (name, package) in enumerate(named):
        parts = parts_of(largest(name, unpacked(package, cache.resolve())), (160, 120) if number % 2 else (200, 150))
        files = [(f"{FOLDERS[number % 3]}/{name}-{part}.jpg", image) for part, image in enumerate(parts)]
        (test if (name, package) in tested else pool).extend(files)
    order = draws.permutation(len(pool))
    sets = {"few": [pool[i] for i in order[:FEW]], "more": [pool[i] for i in order[:MORE]], "test": test}
    for folder, files in sets.items():
        for file, image in files:
            path = home / folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, quality=92)


def parts_of(photograph: Image.Image, size: tuple[int, int]) -> list[Image.Image]:
    """Twelve squares of a third of the shorter side, reduced and, as cameras do, not square."""
    side = min(photograph.size) // 3
    lefts, tops = (
        np.linspace(0, length - side, n).astype(int) for length, n in zip(photograph.size, (4, 3), strict=True)
    )
    squares = [photograph.crop((left, top, left + side, top + side)) for top in tops for left in lefts]
    return [square.resize(size, Image.Resampling.LANCZOS) for square in squares]


def one(home: Path, seed: int) -> dict[str, Any]:
    """All measurements of a seed: seconds, errors over those of the mean image, log-likelihoods."""
    runs = {"few": ("few", ()), "more": ("more", ("--from", home / f"run-few-{seed}")), "anew": ("more", ())}
    found: dict[str, Any] = {"seed": seed}
    for name, (data, options) in runs.items():
        run = home / f"run-{name}-{seed}"
        began = time.perf_counter()
        told = command("train", home / data, *options, "--seed", seed, "--out", run, "--overwrite", "--json")
        seconds = time.perf_counter() - began
        tested = command("reconstruct", run, "--data", home / "test", "-o", home / "pairs.png", "--json")
        density = command("fit-density", run, "--json")
        found[name] = {
            "seconds": seconds,
            "epochs": f"{told['best_epoch']} of {told['epochs']}",
            "loss": told["validation"]["reconstruction"],
            "test": tested["mse"],
            "ratio": tested["mse"] / tested["baseline"]["mse"],
            "density": density["density"],
            "train": density["nats_per_dimension"]["train"],
            "held_out": density["nats_per_dimension"]["held_out"],
        }
        print(seed, name, found[name], flush=True)
    return found


def command(*arguments: object) -> dict[str, Any]:
    """What a command prints as JSON."""
    done = subprocess.run([sys.executable, "-m", "raectl", *map(str, arguments)], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def table(rows: list[dict[str, Any]]) -> str:
    """A line a run, and the medians."""
    lines = [
        "| run | seed | seconds | best epoch | error | of the mean image's | density | nats, training | held out |",
        "|" + "---|" * 9,
    ]
    for name, label in (("few", "300"), ("more", "600, from the 300's"), ("anew", "600, anew")):
        for row in rows:
            r = row[name]
            lines.append(
                f"| {label} | {row['seed']} | {r['seconds']:.0f} | {r['epochs']} | {r['test']:.5f} | "
                f"{r['ratio']:.3f} | {r['density']} | {r['train']:.2f} | {r['held_out']:.2f} |"
            )
    middle = {
        name: [statistics.median(r[name][key] for r in rows) for key in ("seconds", "test")]
        for name in rows[0]
        if name != "seed"
    }
    text = "; ".join(f"{name} {seconds:.0f} s, error {error:.5f}" for name, (seconds, error) in middle.items())
    return "\n".join([*lines, "", f"Nats are a dimension's. Medians: {text}."])


if __name__ == "__main__":
    main()
