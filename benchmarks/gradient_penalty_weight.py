"""Which weight for the gradient penalty? A sweep on scikit-learn's digits, three seeds.

    python benchmarks/gradient_penalty_weight.py

For each weight: held-out squared error per pixel, the squared Frobenius norm of the decoder's Jacobian at held-out
codes, and the kernel distance of samples (GMM of 10 over training codes) to held-out images, on pixels projected to the
images' first 32 principal components, whitened. Prints a Markdown table of means and standard errors over the seeds.
"""

import statistics
import tempfile
from pathlib import Path

import torch
from sklearn.decomposition import PCA

import raectl
from raectl.data import split
from raectl.metrics.kernel import kernel_distance
from raectl.metrics.reconstruction import mse
from raectl.metrics.reference import Reference
from raectl.model.regularizers.gradient_penalty import GradientPenalty

WEIGHTS = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
SEEDS = (0, 1, 2)
EPOCHS = 30
WIDTH = 8
SAMPLES = 2000


def measure(weight: float, seed: int, folder: Path) -> tuple[float, float, float]:
    """(squared error, Jacobian's squared norm, kernel distance) of one run."""
    config = raectl.Config(
        reg={"gradient-penalty": weight}, width=WIDTH, epochs=EPOCHS, seed=seed, val_fraction=0.2,
        optimizer="adam", average=0.0, augment="off", arch="conv32",
    )  # fmt: skip
    checkpoint = raectl.train(config, "digits", folder / f"{weight}-{seed}")
    items = checkpoint.open_data().items
    train, held_out = split(len(items), config.val_fraction, seed)
    x = checkpoint.modality.to_tensor(torch.from_numpy(items[held_out]))
    z = checkpoint.encode(x)
    error = float(mse(x, checkpoint.decode(z)).mean())
    penalty = GradientPenalty()
    basis = torch.eye(z.shape[1]).repeat_interleave(len(z), dim=0)
    rows = z.repeat(z.shape[1], 1)
    jacobian = penalty.directional(checkpoint.decoder, rows, torch.empty(0), basis).view(z.shape[1], -1).sum(0)
    checkpoint.fit_density("gmm", components=10, seed=seed)
    pca = PCA(32, whiten=True, random_state=0).fit(items[train].reshape(len(train), -1) / 255)
    fake = checkpoint.sample(SAMPLES, seed=seed).reshape(SAMPLES, -1) / 255
    features = [torch.from_numpy(pca.transform(images)) for images in (x.flatten(1).numpy(), fake)]
    return error, float(jacobian.detach().mean()), kernel_distance(Reference(features[0]), features[1]).value


def main() -> None:
    """Print the table."""
    print("| weight | squared error per pixel | Jacobian, squared norm | kernel distance |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for weight in WEIGHTS:
            rows = [measure(weight, seed, Path(folder)) for seed in SEEDS]
            cells = [
                f"{statistics.mean(c):.4g} +- {statistics.stdev(c) / len(c) ** 0.5:.2g}"
                for c in zip(*rows, strict=True)
            ]
            print(f"| {weight:g} | {' | '.join(cells)} |", flush=True)
    print(
        f"\n8 x 8 pixels, width {WIDTH}, {EPOCHS} epochs, seeds {SEEDS}, {SAMPLES} samples, torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
