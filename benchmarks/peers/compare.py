"""pythae's samples and reconstructions beside raectl's, by the same features and measures: a Markdown table.

    python benchmarks/peers/compare.py PEERS RUNS --test FILE

PEERS holds MODEL.npz and MODEL.json of `pythae_run.py`, RUNS a checkpoint directory MODEL-SEED for each. From each
checkpoint come as many samples as pythae's, from its `gmm-10`, which is fitted first where it is not yet there.
Everything is measured on bytes against MNIST's test images.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from raectl import Checkpoint, DataOptions, load, open_dataset
from raectl.data.dataset import fingerprint
from raectl.evaluation.features import cached_features
from raectl.extractors import Extractor
from raectl.metrics.reconstruction import mse
from raectl.metrics.reference import Measured, Reference
from raectl.registry import resolve

DENSITY = "gmm-10"
DATA = DataOptions(image_size=32, fit="pad", background="black")
BLOCK = 500  # rows of the kernel at a time


class Images(NamedTuple):
    """What a model made: samples and reconstructions of the test images, 2 x (N, H, W, C) uint8."""

    samples: np.ndarray
    reconstructions: np.ndarray


def ours(checkpoint: Checkpoint, test: np.ndarray, n: int, seed: int) -> Images:
    """n samples of the checkpoint's mixture of 10, and reconstructions."""
    if DENSITY not in checkpoint.densities():
        checkpoint.fit_density("gmm", components=10, seed=seed)
    return Images(checkpoint.sample(n, seed, DENSITY), checkpoint.reconstruct(test))


def features(extractor: Extractor, images: np.ndarray) -> Tensor:
    """(N, H, W, C) uint8 => (N, D); kept in the cache, so that a second call of this script is quick."""
    return torch.from_numpy(cached_features(extractor, images, fingerprint(images)))


def difference_error(x: Tensor, y: Tensor, w: Tensor) -> float:
    """Standard error of the kernel distance of y less that of w, both to one reference x: (N, D) each.

    By the delta method, an influence an item. The reference counts only as far as it moves the two distances
    differently, which two standard errors added in squares would not see.
    """
    of_x = 2 * (kernel_means(x, w) - kernel_means(x, y))
    of_y = 2 * (kernel_means(y, y) - kernel_means(y, x))
    of_w = 2 * (kernel_means(w, w) - kernel_means(w, x))
    return math.sqrt(sum(float(influence.var()) / len(influence) for influence in (of_x, of_y, of_w)))


def kernel_means(a: Tensor, b: Tensor) -> Tensor:
    """Mean over j of k(a_i, b_j) = (a_i.b_j / D + 1)^3: (N, D), (M, D) => (N,) float64."""
    blocks = [((block @ b.T).double() / a.shape[1] + 1).pow(3).mean(dim=1) for block in a.split(BLOCK)]
    return torch.cat(blocks)


def error(test: np.ndarray, reconstructions: np.ndarray) -> float:
    """Mean squared error a value in [0, 1]."""
    x, x_hat = (torch.from_numpy(np.array(images)).float() / 255 for images in (test, reconstructions))
    return float(mse(x, x_hat).mean())


def compare(name: str, test: np.ndarray, x: Tensor, extractor: Extractor, given: argparse.Namespace) -> dict[str, Any]:
    """Everything measured of one model against the test images and their features."""
    checkpoint = load(given.runs / f"{name}-{given.seed}")
    with np.load(given.peers / f"{name}.npz") as file:
        theirs = Images(file["images"], file["reconstructions"])
    peer = json.loads((given.peers / f"{name}.json").read_text())
    mine = ours(checkpoint, test, len(theirs.samples), given.seed)
    y, w = (features(extractor, images.samples) for images in (mine, theirs))
    reference = Reference(x)
    measured: dict[str, Measured] = {
        who: resolve("set-metric", "kernel")(reference, found)["kernel"] for who, found in (("ours", y), ("pythae", w))
    }
    gap = measured["ours"].value - measured["pythae"].value
    return {
        "model": name,
        "n": len(mine.samples),
        "n_real": len(test),
        "extractor": extractor.key,
        "kernel": {who: found._asdict() for who, found in measured.items()},
        "gap_in_standard_errors": gap / difference_error(x, y, w),
        "mse": {"ours": error(test, mine.reconstructions), "pythae": error(test, theirs.reconstructions)},
        "seconds": {"ours": sum(e["seconds"] for e in checkpoint.directory.read_log()), "pythae": peer["seconds"]},
        "ours": checkpoint.config.to_dict(),
        "pythae": peer,
    }


def markdown(row: dict[str, Any]) -> str:
    """A line of the table; distances times 1000."""
    kernel = (f"{1e3 * row['kernel'][who]['value']:.2f} ± {1e3 * row['kernel'][who]['se']:.2f}" for who in WHO)
    errors = (f"{row['mse'][who]:.5f}" for who in WHO)
    seconds = (f"{row['seconds'][who]:.0f}" for who in WHO)
    cells = (
        row["model"],
        *kernel,
        f"{row['gap_in_standard_errors']:+.1f}",
        *errors,
        *seconds,
        f"{row['pythae']['cpu_seconds']:.0f}",
    )
    return f"| {' | '.join(cells)} |"


WHO = ("pythae", "ours")
HEAD = """| model | pythae, KD x 1000 | ours | gap in SE | pythae, MSE | ours | pythae, s | ours | pythae, processor s |
|---|---|---|---|---|---|---|---|---|"""

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--test", required=True, help="MNIST's file of test images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write everything measured here")
    given = parser.parse_args()
    network = resolve("extractor", "efficientnet-lite0")()
    items = np.array(open_dataset(given.test, DATA).items)
    real = features(network, items)
    print(HEAD)
    rows = []
    for path in sorted(given.peers.glob("*.npz")):
        rows.append(compare(path.stem, items, real, network, given))
        print(markdown(rows[-1]), flush=True)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2) + "\n")
