"""Black and white points: haze goes, and nothing else changes."""

import numpy as np
import pytest
import torch
from torch import nn

from raectl.model.levels import FEWEST, Levels, SharpDecoder


def noise(*shape: int, seed: int = 0, low: int = 0, high: int = 256) -> np.ndarray:
    """(N, H, W) => (N, H, W, 1) uint8."""
    return np.random.default_rng(seed).integers(low, high, shape).astype(np.uint8)[..., None]


def tensor(items: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(items).permute(0, 3, 1, 2).float() / 255


def bytes_of(x: torch.Tensor) -> np.ndarray:
    return (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def points(decoded: np.ndarray, real: np.ndarray) -> list[list[float]]:
    levels = Levels(real.shape[-1])
    levels.fit(decoded, real)
    return (levels.points * 255).round().tolist()


def test_it_begins_as_the_identity() -> None:
    x = torch.rand(3, 2, 5, 4)
    assert torch.allclose(Levels(2)(x), x, atol=1e-6)


def test_haze_becomes_background_and_white_becomes_white() -> None:
    rng = np.random.default_rng(0)
    is_ink = rng.random((20, 60, 60, 1)) < 0.2
    real = np.where(is_ink, 255, 0).astype(np.uint8)
    decoded = np.where(is_ink, rng.integers(248, 256, is_ink.shape), rng.integers(0, 5, is_ink.shape)).astype(np.uint8)
    levels = Levels(1)
    levels.fit(decoded, real)
    assert np.array_equal(bytes_of(levels(tensor(decoded))), real)
    assert points(decoded, real) == [[16.0, 239.0]], "the farthest, as there is nothing between"


def test_the_share_of_black_is_never_above_the_real_one() -> None:
    real = np.where(np.random.default_rng(0).random((20, 60, 60, 1)) < 0.3, 0, 200).astype(np.uint8)
    decoded = noise(20, 60, 60, low=0, high=40)  # 2.5 % a level: 30 % are the first 12
    ((black, _),) = points(decoded, real)
    assert black in (10.0, 11.0)
    assert (decoded <= black).mean() <= (real == 0).mean() < (decoded <= black + 1).mean()


@pytest.mark.parametrize("seed", range(3))
def test_images_without_pure_black_and_white_are_left_alone(seed: int) -> None:
    real = noise(10, 80, 80, seed=seed, low=1, high=255)
    assert points(noise(10, 80, 80, seed=seed + 9), real) == [[0.0, 255.0]]


def test_a_decoder_that_is_right_is_left_alone() -> None:
    images = noise(10, 80, 80)
    assert points(images, images) == [[0.0, 255.0]]


def test_channels_have_their_own_points() -> None:
    real = np.concatenate([np.zeros((20, 60, 60, 1), np.uint8), noise(20, 60, 60, low=5, high=250)], axis=3)
    decoded = np.concatenate([noise(20, 60, 60, high=4), noise(20, 60, 60)], axis=3)
    assert points(decoded, real) == [[16.0, 239.0], [0.0, 255.0]]


def test_the_map_is_monotone_and_changes_the_ends_only() -> None:
    levels = Levels(1)
    levels.points[0] = torch.tensor([0.1, 0.95])
    x = torch.tensor([0.0, 0.1, 0.15, 0.2, 0.5, 0.9, 0.925, 0.95, 1.0]).view(1, 1, 1, 9)
    assert levels(x).flatten().tolist() == pytest.approx([0, 0, 0.1, 0.2, 0.5, 0.9, 0.95, 1, 1], abs=1e-6)
    steps = levels(torch.linspace(0, 1, 1001).view(1, 1, 1, -1)).diff()
    assert bool((steps >= -1e-6).all())


def test_few_values_say_too_little() -> None:
    few = np.zeros((1, 200, 200, 1), np.uint8)
    assert few.size < FEWEST
    assert points(few + 3, few) == [[0.0, 255.0]]


def test_a_sharp_decoder_is_the_decoder_and_then_the_levels() -> None:
    decoder = nn.Sequential(nn.Linear(2, 3 * 4), nn.Unflatten(1, (3, 2, 2)), nn.Sigmoid())
    sharp, z = SharpDecoder(decoder, 3), torch.randn(5, 2)
    assert torch.allclose(sharp(z), decoder(z), atol=1e-6)
    sharp.levels.points[:, 0] = 0.2
    assert torch.equal(sharp(z), sharp.levels(decoder(z)))
    assert not torch.equal(sharp(z), decoder(z))
    assert set(sharp.state_dict()) == {"decoder.0.weight", "decoder.0.bias", "levels.points"}
