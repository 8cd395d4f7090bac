"""Digits by class: are samples of a class that digit, are shares kept, and are samples as near to real ones?

    python benchmarks/by_class.py --data mnist --seeds 0 1 2
    python benchmarks/by_class.py --report

raectl is run as a user runs it: `train` with its defaults, `fit-density`, once for all digits and once `--per-class`,
`sample --per-class 1000`, and 10,000 of each density. What is sampled is told apart by a network that was trained on
MNIST's training images (see sharpening/judges.py), and compared with the 10,000 test images in the features of
EfficientNet-Lite0. Nothing was chosen by either. What is in RUNS/by-class.jsonl is not run again.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "sharpening")]
from judges import DigitClassifier, read_digits  # noqa: E402
from timing import publish  # noqa: E402

EACH, ALL = 1000, 10_000
TRAIN = ("--reg", "tikhonov", "--device", "cpu", "--precision", "fp32")


def raectl(*arguments: object) -> None:
    print("$ raectl", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "raectl", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def samples(home: Path, data: Path, seed: int) -> dict[str, Any]:
    """Of each digit, of the density by class, and of one density, as arrays of images and labels."""
    home.mkdir(parents=True, exist_ok=True)
    path, train = home / "ckpt", home / "train.npz"
    if not path.exists():
        images, labels = read_digits(data, "train")
        np.savez(train, images=images, labels=labels)
        raectl("train", train, *TRAIN, "--seed", seed, "--out", path)
    for name, options in (("one", ()), ("by-class", ("--per-class",))):
        if not (path / "densities" / name).exists():
            raectl("fit-density", path, *options, "--name", name, "--seed", seed)
    wanted = {
        "each": ("--density", "by-class", "--per-class", EACH),
        "by class": ("--density", "by-class", "-n", ALL),
        "one": ("--density", "one", "-n", ALL),
    }
    found = {}
    for name, options in wanted.items():
        raectl("sample", path, *options, "--seed", seed, "-o", home / "samples.npz")
        found[name] = dict(np.load(home / "samples.npz"))
    return found


def measure(data: Path, runs: Path, seed: int) -> dict[str, Any]:
    """All numbers of a seed."""
    from raectl.evaluation.features import extract
    from raectl.metrics.kernel import kernel_difference, kernel_distance
    from raectl.metrics.reference import Reference
    from raectl.registry import resolve

    made = samples(runs / str(seed), data, seed)
    classifier = DigitClassifier(data, runs / "classifier-of-8-epochs.pt", epochs=8)
    images, labels = read_digits(data, "t10k")
    judge = resolve("extractor", "efficientnet-lite0")()

    def features(items: np.ndarray) -> Any:
        import torch

        return torch.from_numpy(extract(judge, np.array_split(items, -(-len(items) // 256)), len(items)))

    told = {name: classifier.classes(array["images"]) for name, array in made.items()}
    right = told["each"] == made["each"]["labels"].astype(int)
    shares = [float((told["by class"] == digit).mean()) for digit in range(10)]
    real = features(images)
    by_class, one, each = (features(made[name]["images"]) for name in ("by class", "one", "each"))
    reference = Reference(real)
    difference = kernel_difference(reference, by_class, one)
    own = []
    for digit in range(10):
        others = one[told["one"] == digit][:EACH]
        mine = each[digit * EACH : digit * EACH + len(others)]
        own.append(kernel_difference(Reference(real[labels == digit]), mine, others))
    return {
        "seed": seed,
        "accuracy": classifier.accuracy,
        "right": [float(right[digit * EACH : (digit + 1) * EACH].mean()) for digit in range(10)],
        "shares": shares,
        "real_shares": [float(share) for share in np.bincount(read_digits(data, "train")[1]) / 60_000],
        "kernel": {"by class": kernel_distance(reference, by_class), "one": kernel_distance(reference, one)},
        "difference": difference,
        "own": own,
    }


def main() -> None:
    """Parse the command line; run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("by-class-runs"))
    parser.add_argument("--report", action="store_true")
    given = parser.parse_args()
    given.runs.mkdir(parents=True, exist_ok=True)
    results = given.runs / "by-class.jsonl"
    lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    if given.report:
        report(lines)
        return
    for seed in given.seeds:
        if all(line["seed"] != seed for line in lines):
            line = measure(given.data, given.runs, seed)
            with results.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(line, flush=True)


def report(lines: list[dict[str, Any]]) -> None:
    """A row a seed, and a row a digit."""

    def kernel(measured: list[float]) -> str:
        return f"{1000 * measured[0]:.1f} ± {1000 * measured[1]:.1f}"

    table = [
        "| seed | of the digit asked for | share of a digit off by, at most | kernel distance x 1000 by class | of one "
        "density | difference |",
        "|---|---|---|---|---|---|",
    ]
    for line in lines:
        off = max(abs(a - b) for a, b in zip(line["shares"], line["real_shares"], strict=True))
        cells = (line["seed"], f"{np.mean(line['right']):.2%}", f"{off:.2%}", kernel(line["kernel"]["by class"]),
                 kernel(line["kernel"]["one"]), kernel(line["difference"]))  # fmt: skip
        table.append(f"| {' | '.join(map(str, cells))} |")
    table += [
        "",
        "Each digit by itself, by seed: share told to be that digit, and the difference of kernel distances x 1000 to "
        "the test images of that digit, of its samples and of as many of one density that are told to be that digit.",
        "",
        "| digit | of the digit asked for | kernel distance by class - of one density |",
        "|---|---|---|",
    ]
    for digit in range(10):
        right, own = ([line[name][digit] for line in lines] for name in ("right", "own"))
        table.append(f"| {digit} | {', '.join(f'{r:.1%}' for r in right)} | {', '.join(map(kernel, own))} |")
    accuracy = lines[0]["accuracy"]
    text = f"The network that tells digits apart is right on {accuracy:.2%} of the 10,000 test images.\n\n"
    publish("by-class", "python benchmarks/by_class.py --report", text + "\n".join(table))


if __name__ == "__main__":
    main()
