"""Judges beside EfficientNet's features, on which nothing is trained: a digit classifier, statistics of patches."""

import gzip
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raectl.metrics.frechet import frechet
from raectl.metrics.reference import Reference

PATCH, PATCHES, DIRECTIONS = 7, 32, 256
EPOCHS, BATCH = 3, 100


def tensor(items: np.ndarray) -> Tensor:
    """(N, H, W, C) uint8 => (N, C, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(items)).permute(0, 3, 1, 2).float() / 255


def sliced_wasserstein(real: np.ndarray, made: np.ndarray, seed: int = 0) -> float:
    """Sliced Wasserstein distance x 1000 between patches of Laplacian pyramids, averaged over the levels down to 16.

    As Karras, Aila, Laine, Lehtinen, "Progressive Growing of GANs", ICLR 2018, section 5, with 32 patches of 7 x 7 an
    image and 256 directions; patches of each set are standardized channel by channel.
    """
    generator = torch.Generator().manual_seed(seed)
    a, b, found = tensor(real), tensor(made), []
    while a.shape[-1] >= 16:
        small_a, small_b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        is_last = small_a.shape[-1] < 16
        levels = (a, b) if is_last else (a - _enlarged(small_a), b - _enlarged(small_b))
        directions = F.normalize(torch.randn(PATCH**2 * a.shape[1], DIRECTIONS, generator=generator), dim=0)
        sorted_a, sorted_b = ((_patches(level, generator) @ directions).sort(dim=0).values for level in levels)
        found.append(float((sorted_a - sorted_b).abs().mean()))
        a, b = small_a, small_b
    return 1000 * sum(found) / len(found)


def _enlarged(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear")


def _patches(x: Tensor, generator: torch.Generator) -> Tensor:
    n, _, side, _ = x.shape
    corner = torch.randint(0, side - PATCH + 1, (2, n, PATCHES), generator=generator)
    offsets = torch.arange(PATCH)
    rows, columns = corner[0][..., None, None] + offsets[:, None], corner[1][..., None, None] + offsets
    found = x.permute(0, 2, 3, 1)[torch.arange(n)[:, None, None, None], rows, columns].flatten(0, 1)
    found = (found - found.mean(dim=(0, 1, 2))) / found.std(dim=(0, 1, 2))
    return found.flatten(1)


def grid_energy(real: np.ndarray, made: np.ndarray) -> float:
    """The energy of made images at the frequencies of an upsampling grid, over that of real ones; 1 is right.

    Upsampling by strides of 2 leaves patterns of period 2 and 4 pixels. With P(k) the power of all images and channels
    at horizontal frequency k of S (after a Hann window, summed over vertical ones), a peak stands out by

        r(S/2) = P(S/2) / [P(S/2 - 3)^(4/3) / P(S/2 - 6)^(1/3)],
        r(S/4) = P(S/4) / sqrt(P(S/4 - 3) P(S/4 + 3)),

    likewise vertically; the result is the larger of the two ratios r(made) / r(real), each r a mean over directions.
    Neighbours are three bins away because the window spreads a line over two; the first bracket is the parabola in
    log P through two of them, which is even about S/2. A spectrum that falls smoothly has no peaks. Between two halves
    of 800 photographs the result is up to 1.2, by chance. Where reducing the real images left a dip at S/2, as in the
    emoji, blurred ones have up to 1.3 without any grid, by the rounding to bytes.

    Arguments:
        real, made: (N, S, S, C) uint8, S a multiple of 4 and at least 16.

    Example:
        >>> noise = np.random.default_rng(0).integers(64, 192, (200, 32, 32, 1)).astype(np.uint8)
        >>> board = 24 * (np.indices((32, 32)).sum(axis=0) % 2)[..., None].astype(np.uint8)
        >>> softer = (noise // 2 + np.roll(noise, 1, axis=1) // 4 + np.roll(noise, 1, axis=2) // 4).astype(np.uint8)
        >>> grid_energy(noise, noise), grid_energy(noise, noise + board) > 2, 0.8 < grid_energy(noise, softer) < 1.25
        (1.0, True, True)
    """
    peaks_real, peaks_made = _peaks(real), _peaks(made)
    return max(a / b for a, b in zip(peaks_made, peaks_real, strict=True))


def _peaks(items: np.ndarray) -> tuple[float, float]:
    """r(S/2) and r(S/4), means over both directions."""
    side = items.shape[1]
    if side % 4 or side < 16:
        raise ValueError(f"sides of {side} pixels have no bins at a quarter, or too few beside it")
    window = torch.hann_window(side)
    power = torch.zeros(side, side, dtype=torch.float64)
    for part in np.array_split(items, -(-len(items) // 500)):
        x = tensor(part)
        x = (x - x.mean(dim=(2, 3), keepdim=True)) * window * window[:, None]
        power += torch.fft.fft2(x).abs().square().sum(dim=(0, 1))
    found = []
    for line in (power.sum(dim=0), power.sum(dim=1)):
        half, quarter = side // 2, side // 4
        around = float(line[quarter - 3] * line[quarter + 3]) ** 0.5
        expected = float(line[half - 3] * (line[half - 3] / line[half - 6]) ** (1 / 3))
        found.append((float(line[half]) / expected, float(line[quarter]) / around))
    return sum(pair[0] for pair in found) / 2, sum(pair[1] for pair in found) / 2


class DigitClassifier:
    """A convolutional network that tells MNIST's digits apart, and the Fréchet distance in its 64 last features.

    Arguments:
        home: the folder of MNIST's IDX files, of which the training images are learned.
        cache: file that keeps the weights.
        epochs: of its training.
    """

    def __init__(self, home: Path, cache: Path, epochs: int = EPOCHS) -> None:
        torch.manual_seed(0)
        self.body = nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(64 * 64, 64), nn.ReLU()),
        )
        self.head = nn.Linear(64, 10)
        self.net = nn.Sequential(self.body, self.head)
        if cache.exists():
            self.net.load_state_dict(torch.load(cache, weights_only=True))
        else:
            self._learn(*read_digits(home, "train"), epochs)
            torch.save(self.net.state_dict(), cache)
        items, labels = read_digits(home, "t10k")
        self.accuracy = float((self.classes(items) == labels).mean())

    def _learn(self, items: np.ndarray, labels: np.ndarray, epochs: int) -> None:
        optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3)
        for epoch in range(epochs):
            for rows in np.array_split(np.random.default_rng(epoch).permutation(len(items)), len(items) // BATCH):
                loss = F.cross_entropy(self.net(tensor(items[rows])), torch.from_numpy(labels[rows]))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    @torch.no_grad()
    def features(self, items: np.ndarray) -> Tensor:
        """(N, 32, 32, 1) uint8 => (N, 64)."""
        return torch.cat([self.body(part) for part in tensor(items).split(500)])

    @torch.no_grad()
    def classes(self, items: np.ndarray) -> np.ndarray:
        """(N, 32, 32, 1) uint8 => (N,) digits."""
        return self.head(self.features(items)).argmax(dim=1).numpy()

    def distance(self, real: np.ndarray, made: np.ndarray) -> float:
        """The Fréchet distance of two sets' features."""
        return frechet(Reference(self.features(real)), self.features(made))["frechet"].value


def read_digits(home: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """MNIST's images, zero-padded to (N, 32, 32, 1) uint8, and labels (N,)."""
    images, labels = (
        np.frombuffer(gzip.decompress((home / f"{part}-{name}-ubyte.gz").read_bytes()), np.uint8, offset=offset)
        for name, offset in (("images-idx3", 16), ("labels-idx1", 8))
    )
    padded = np.pad(images.reshape(-1, 28, 28, 1), ((0, 0), (2, 2), (2, 2), (0, 0)))
    return padded, labels.astype(np.int64)


def grey_level_curve(real: np.ndarray, made: np.ndarray) -> np.ndarray:
    """The monotone map of grey levels that gives `made` the distribution of grey levels of `real`: (256,) uint8."""
    shares = [np.cumsum(np.bincount(items.ravel(), minlength=256)) / items.size for items in (made, real)]
    return np.searchsorted(shares[1], shares[0] - 1e-9).clip(0, 255).astype(np.uint8)
