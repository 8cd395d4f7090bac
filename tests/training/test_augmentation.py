"""Augmentations: what each does to an image; they depend on seed and step alone; where they are not applied."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from support.checkpoints import SMALL
from torch import Tensor

import raectl
from raectl import registry
from raectl.data import open_dataset
from raectl.errors import UsageError
from raectl.model.resolve import resolve
from raectl.training.augmentation import augmented, flip, recolour, shift, turn
from raectl.training.loop import Loop

NAMES = registry.names("augmentation")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int = 64, channels: int = 3, height: int = 16, width: int = 16) -> Tensor:
    return torch.rand((n, channels, height, width), generator=generator(7)) * 0.6 + 0.2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 8), (3, 16, 16), (4, 9, 17)])
def test_shape_range_and_reproducibility(name: str, channels: int, height: int, width: int) -> None:
    x = pictures(8, channels, height, width)
    once, again, other = (augmented(x, name, generator(seed)) for seed in (0, 0, 1))
    assert once.shape == x.shape and once.dtype == x.dtype
    assert once.min() >= 0 and once.max() <= 1
    assert torch.equal(once, again) and not torch.equal(once, other) and not torch.equal(once, x)


def test_flip_exchanges_left_and_right_of_half_of_the_images() -> None:
    x = pictures(1000)
    y = flip(x, generator())
    kept, flipped = ((y == z).flatten(1).all(dim=1) for z in (x, x.flip(3)))
    assert (kept ^ flipped).all() and 400 < int(flipped.sum()) < 600


def test_shift_moves_whole_pixels_by_an_eighth_at_most() -> None:
    x = pictures(300, height=16, width=24)
    seen = set()
    for before, after in zip(x, shift(x, generator()), strict=True):
        padded = torch.nn.functional.pad(before[None], (3, 3, 2, 2), mode="replicate")[0]
        moves = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-3, 4)
            if torch.equal(after, padded[:, 2 + down : 18 + down, 3 + right : 27 + right])
        ]
        assert len(moves) == 1
        seen.add(moves[0])
    assert len(seen) == 5 * 7, "all of them, in both directions"


def test_turn_is_a_rotation_about_the_middle() -> None:
    """Against SciPy's, in the part of the picture that no border enters."""
    rows, columns = np.mgrid[:33, :33]
    picture = np.sin(rows / 5) * np.cos(columns / 7) * 0.4 + 0.5
    turned = turn(torch.from_numpy(picture).float().expand(50, 1, 33, 33), generator())[:, 0].numpy()
    angles = []
    for image in turned:
        tries = {
            angle: np.abs(
                ndimage.rotate(picture, angle, reshape=False, order=1)[10:23, 10:23] - image[10:23, 10:23]
            ).max()
            for angle in np.arange(-10.25, 10.26, 0.25)
        }
        angles.append(min(tries, key=tries.__getitem__))
        assert tries[angles[-1]] < 0.01
    assert min(angles) < -7 and max(angles) > 7 and max(map(abs, angles)) <= 10.25


def test_colour_is_affine_in_an_image_of_one_channel() -> None:
    x = pictures(200, channels=1)
    x = 0.35 + 0.3 * (x - x.mean(dim=(1, 2, 3), keepdim=True))  # so that nothing is clipped
    y = recolour(x, generator())
    slopes = y.flatten(1).std(dim=1) / x.flatten(1).std(dim=1)
    moved = y.mean(dim=(1, 2, 3)) - x.mean(dim=(1, 2, 3))
    fitted = y.mean(dim=(1, 2, 3), keepdim=True) + slopes[:, None, None, None] * (
        x - x.mean(dim=(1, 2, 3), keepdim=True)
    )
    torch.testing.assert_close(fitted, y, atol=1e-5, rtol=0)
    assert slopes.min() > 1 / 1.26 and slopes.max() < 1.26 and slopes.log().mean().abs() < 0.05
    assert moved.abs().max() < 0.101 and moved.mean().abs() < 0.02


def test_colour_keeps_grey_images_grey() -> None:
    y = recolour(pictures(channels=1).expand(-1, 3, -1, -1), generator())
    torch.testing.assert_close(y, y[:, :1].expand_as(y))


def test_validation_and_statistics_see_the_images_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8))
    config = resolve(raectl.Config(**{**SMALL, "augment": "flip,colour"}), dataset)
    loop, calls = Loop(config, dataset, tmp_path), []
    monkeypatch.setattr("raectl.training.loop.augmented", lambda x, names, g: calls.append(names) or x)
    list(loop.epoch())
    assert calls == ["flip,colour"] * loop.batches
    loop.end_epoch()
    with loop.averaged():
        loop.validate()
    assert len(calls) == loop.batches


def test_auto_spares_short_runs_many_images_and_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(side: int, **options: object) -> str:
        items = np.random.default_rng(0).integers(0, 256, (64, side, side, 3), np.uint8)
        return resolve(raectl.Config(**options), open_dataset(items)).augment

    assert chosen(16, epochs=39) == "off" and chosen(16, epochs=40) == "flip,shift" and chosen(8, epochs=40) == "flip"
    assert chosen(16) == "flip,shift", "64 images make many epochs"
    monkeypatch.setattr("raectl.model.resolve._FEW_IMAGES", 50)
    assert chosen(16) == "off", "many images are not learned by heart"
    assert chosen(16, augment="off") == "off" and chosen(8, epochs=1, augment="colour,flip") == "flip,colour"


def test_strings_are_not_augmented(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("x\nx+1\nsin(x)\nx*2\n" * 20)
    dataset = open_dataset(tmp_path / "lines.txt", raectl.DataOptions(grammar="expressions"))
    assert resolve(raectl.Config(grammar="expressions"), dataset).augment == "off"
    with pytest.raises(UsageError, match="--augment flip is for images"):
        resolve(raectl.Config(grammar="expressions", augment="flip"), dataset)
