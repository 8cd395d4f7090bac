"""One-class MNIST: trained on one digit's training images, all test images scored; areas under the ROC curve.

    python benchmarks/detection/one_class.py --data mnist --seeds 0 1 2
    PYTHONPATH=. pyod-env/bin/python benchmarks/detection/one_class.py --data mnist --seeds 0 1 2 --only pyod
    python benchmarks/detection/one_class.py --report

raectl is run as a user runs it, `train`, `fit-density`, `score`, on images padded to 32 x 32. Its length, its width and
10 Gaussians were chosen for the minute that a digit may take; formula and settings were compared on MNIST's training
images alone, those of the other digits for odd ones. That only what is odd counts, not the sum of both parts, was
decided when pages of text among photographs were not found (hidden.py); on the training images both are alike.
IsolationForest and OneClassSVM are scikit-learn's with their defaults, on the same pixels from 0 to 1 and on raectl's
latents, standardized; PyOD's AutoEncoder (in an environment of its own) with its defaults, on the pixels. OneClassSVM
has no seed, and is run once. What is in RUNS/one-class.jsonl is not run again. Deep SVDD's row is its paper's (Ruff et
al., ICML 2018), where images have 28 x 28 pixels and are contrast-normalized.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "sharpening")]
from judges import read_digits  # noqa: E402
from sklearn.metrics import roc_auc_score  # noqa: E402
from timing import publish  # noqa: E402

TRAIN = ("--reg", "tikhonov", "--width", "8", "--epochs", "8", "--device", "cpu", "--precision", "fp32")
PUBLISHED = {"Deep SVDD (published)": (98.0, 99.7, 91.7, 91.9, 94.9, 88.5, 98.3, 94.6, 93.9, 96.5)}
RAECTL = ("raectl, error alone", "raectl, error over energy", "raectl, density alone", "raectl, `score`")
Areas = dict[str, float]


def raectl_areas(own: np.ndarray, test: np.ndarray, is_odd: np.ndarray, seed: int, home: Path) -> tuple[Areas, float]:
    """Areas of raectl's scores, of their parts, and of others on its latents; seconds of the three commands."""
    import raectl

    path, data, new = home / "ckpt", home / "own.npy", home / "test.npy"
    home.mkdir()
    np.save(data, own)
    np.save(new, test)
    began = time.monotonic()
    for command in (
        ("train", data, *TRAIN, "--seed", seed, "--out", path),
        ("fit-density", path, "--components", 10, "--seed", seed),
        ("score", path, "--data", new, "-o", home / "scores.csv"),
    ):
        subprocess.run(
            [sys.executable, "-m", "raectl", *map(str, command)], check=True, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
    seconds = time.monotonic() - began
    checkpoint = raectl.load(path, "cpu")
    parts = [*checkpoint.measure_blocks(test, checkpoint.density())]
    deviation = np.concatenate([part.deviation for part in parts])
    columns = np.genfromtxt(home / "scores.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    scores = dict(zip(RAECTL, (deviation, columns["error"], -columns["log_density"], columns["score"]), strict=True))
    areas = {name: float(roc_auc_score(is_odd, values)) for name, values in scores.items()}
    train, _ = checkpoint.split(own)
    z, of_test = (checkpoint.encode(items).numpy() for items in (own[train], test))
    centre, scale = z.mean(axis=0), z.std(axis=0)
    areas |= sklearn_areas((z - centre) / scale, (of_test - centre) / scale, is_odd, seed, "raectl's latents")
    return areas, seconds


def sklearn_areas(x: np.ndarray, test: np.ndarray, is_odd: np.ndarray, seed: int, where: str) -> Areas:
    from sklearn.ensemble import IsolationForest
    from sklearn.svm import OneClassSVM

    models = {"IsolationForest": IsolationForest(random_state=seed, n_jobs=1)}
    if seed == 0:  # it has none
        models["OneClassSVM"] = OneClassSVM()
    return {
        f"{name} on {where}": float(roc_auc_score(is_odd, -model.fit(x).score_samples(test)))
        for name, model in models.items()
    }


def pyod_areas(x: np.ndarray, test: np.ndarray, is_odd: np.ndarray, seed: int) -> Areas:
    from pyod.models.auto_encoder import AutoEncoder

    model = AutoEncoder(random_state=seed, verbose=0)
    model.fit(x)
    return {"PyOD's AutoEncoder": float(roc_auc_score(is_odd, model.decision_function(test)))}


def main() -> None:
    """Parse the command line; run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--digits", type=int, nargs="+", default=[*range(10)])
    parser.add_argument("--only", choices=["raectl", "pixels", "pyod"])
    parser.add_argument("--runs", type=Path, default=Path("one-class-runs"))
    parser.add_argument("--report", action="store_true")
    given = parser.parse_args()
    results = given.runs / "one-class.jsonl"
    if given.report:
        report(results)
        return
    given.runs.mkdir(parents=True, exist_ok=True)
    (x, y), (test, labels) = (read_digits(given.data, part) for part in ("train", "t10k"))
    done = {(line["what"], line["digit"], line["seed"]) for line in lines(results)}
    for seed in given.seeds:
        for digit in given.digits:
            own, is_odd = x[y == digit], labels != digit
            flat, flat_test = (items.reshape(len(items), -1) / np.float32(255) for items in (own, test))
            for what in [given.only] if given.only else ["raectl", "pixels"]:
                if (what, digit, seed) in done:
                    continue
                seconds = None
                if what == "raectl":
                    areas, seconds = raectl_areas(own, test, is_odd, seed, given.runs / f"{digit}-{seed}")
                elif what == "pixels":
                    areas = sklearn_areas(flat, flat_test, is_odd, seed, "pixels")
                else:
                    areas = pyod_areas(flat, flat_test, is_odd, seed)
                line = {"what": what, "digit": digit, "seed": seed, "seconds": seconds, "areas": areas}
                with results.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(line, flush=True)


def lines(results: Path) -> Iterator[dict]:
    if results.exists():
        yield from map(json.loads, results.read_text().splitlines())


def report(results: Path) -> None:
    """A row a method, a column a digit: means over seeds."""
    found: dict[str, dict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))  # by digit and seed
    seconds = []
    for line in lines(results):
        seconds += [line["seconds"]] if line["seconds"] else []
        for name, area in line["areas"].items():
            found[name][line["digit"]][line["seed"]] = 100 * area
    table = [f"| | {' | '.join(map(str, range(10)))} | mean | of each seed |", "|" + "---|" * 13]
    for name, row in PUBLISHED.items():
        table.append(f"| {name} | {' | '.join(f'{v:.1f}' for v in row)} | {statistics.mean(row):.1f} | |")
    means = {name: [statistics.mean(digits[digit].values()) for digit in range(10)] for name, digits in found.items()}
    for name in sorted(means, key=lambda name: statistics.mean(means[name])):
        seeds = set.intersection(*(set(of) for of in found[name].values()))
        whole = ", ".join(f"{statistics.mean(of[seed] for of in found[name].values()):.2f}" for seed in sorted(seeds))
        cells = " | ".join(f"{value:.1f}" for value in means[name])
        table.append(f"| {name} | {cells} | {statistics.mean(means[name]):.2f} | {whole} |")
    table.append(
        f"\n10,000 test images each. raectl's three commands took {min(seconds):.0f} to {max(seconds):.0f} s a digit, "
        f"median {statistics.median(seconds):.0f}."
    )
    publish("one-class", "python benchmarks/detection/one_class.py --report", "\n".join(table))


if __name__ == "__main__":
    main()
