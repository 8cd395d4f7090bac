"""Grids: their exact size, and every image at its exact place."""

import numpy as np
import pytest
from PIL import Image

from raectl.errors import RaectlError
from raectl.modalities import pictures
from raectl.modalities.pictures import BACKGROUND, GAP, WIDE_GAP


def random_images(n, h, w, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, h, w, channels), np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("side", "factor"), [(8, 8), (28, 3), (32, 2), (48, 2), (64, 1), (100, 1)])
@pytest.mark.parametrize(("n", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (5, 2, 3), (10, 3, 4), (16, 4, 4)])
def test_grid(n, rows, columns, side, factor, channels):
    images = random_images(n, side, side, channels)
    picture = pictures.grid(images)
    step = side * factor + GAP
    assert picture.shape == (rows * step + GAP, columns * step + GAP, channels)
    assert picture.shape[:2] == pictures.grid_size(n, side, side)
    for i in range(n):
        top, left = GAP + i // columns * step, GAP + i % columns * step
        tile = picture[top : top + side * factor, left : left + side * factor]
        for dy, dx in ((0, 0), (factor - 1, factor - 1)):  # each pixel became a block
            np.testing.assert_array_equal(tile[dy::factor, dx::factor], images[i])
        picture[top : top + side * factor, left : left + side * factor] = BACKGROUND
    assert (picture == BACKGROUND).all()


@pytest.mark.parametrize(("h", "w"), [(64, 256), (256, 64)])
def test_a_grid_of_oblong_images_is_near_square(h, w):
    height, width = pictures.grid_size(64, h, w)
    assert 0.5 < height / width < 2


@pytest.mark.parametrize(
    ("h", "w", "factor"), [(40, 20, 4), (96, 64, 1), (512, 40, 2), (512, 8, 2), (8, 512, 2), (31, 500, 2), (9, 200, 5)]
)
def test_oblong_images_are_enlarged_by_their_shorter_side_up_to_a_largest_side(h, w, factor):
    images = random_images(3, h, w)
    picture = pictures.rows(images[None])
    assert picture.shape == (h * factor + 2 * GAP, 3 * (w * factor + GAP) + GAP, 3)
    for i in range(3):
        left = GAP + i * (w * factor + GAP)
        tile = picture[GAP:-GAP:factor, left : left + w * factor : factor]
        np.testing.assert_array_equal(tile, images[i])


def test_labels_of_low_rows_stand_below_each_other():
    labels = ["oddest", "reconstruction", "where"]
    picture = pictures.labelled_rows(labels, random_images(6, 8, 512).reshape(3, 2, 8, 512, 3))
    text = (picture[:, : -2 * (1024 + GAP) - GAP] < BACKGROUND).any(axis=(1, 2))
    starts = np.flatnonzero(np.diff(text.astype(int)) == 1)
    assert len(starts) == 3, "three lines of text, with background between them"


def test_pair_grid():
    originals, reconstructions = random_images(6, 64, 64, seed=1), random_images(6, 64, 64, seed=2)
    picture = pictures.pair_grid(originals, reconstructions)
    down, right = 64 + WIDE_GAP, 128 + GAP + WIDE_GAP
    assert picture.shape == (3 * down + WIDE_GAP, 2 * right + WIDE_GAP, 3)
    for i in range(6):
        top, left = WIDE_GAP + i // 2 * down, WIDE_GAP + i % 2 * right
        np.testing.assert_array_equal(picture[top : top + 64, left : left + 64], originals[i])
        beside = left + 64 + GAP
        np.testing.assert_array_equal(picture[top : top + 64, beside : beside + 64], reconstructions[i])
        assert (picture[top : top + 64, left + 64 : beside] == BACKGROUND).all()


def test_progress():
    originals, reconstructions, samples = (random_images(n, 64, 64, seed=n) for n in (4, 4, 7))
    reconstructions = 255 - originals
    picture = pictures.progress(originals, reconstructions, samples)
    step = 64 + GAP
    assert picture.shape == (GAP + 2 * step + (WIDE_GAP - GAP) + 2 * step, GAP + 4 * step, 3)
    np.testing.assert_array_equal(picture[GAP : GAP + 64, GAP + step : GAP + step + 64], originals[1])
    np.testing.assert_array_equal(picture[GAP + step : GAP + step + 64, GAP : GAP + 64], reconstructions[0])
    top = GAP + step + 64 + WIDE_GAP
    np.testing.assert_array_equal(picture[top : top + 64, GAP : GAP + 64], samples[0])
    np.testing.assert_array_equal(picture[-GAP - 64 : -GAP, GAP + 2 * step : GAP + 2 * step + 64], samples[6])
    assert pictures.progress(originals, reconstructions, None).shape == (GAP + 2 * step, GAP + 4 * step, 3)


def test_progress_of_many_originals_wraps():
    items = random_images(20, 64, 64)
    assert pictures.progress(items, items, items).shape[1] == GAP + 16 * (64 + GAP)


def test_too_large_grids_are_refused_before_they_are_made(monkeypatch):
    monkeypatch.setattr(pictures, "MAX_PIXELS", 80 * 80)
    images = random_images(2, 64, 64)
    assert pictures.grid(images[:1]).shape == (72, 72, 3)
    for refuse in (lambda: pictures.grid(images), lambda: pictures.pair_grid(images[:1], images[:1])):
        with pytest.raises(RaectlError, match="pixels") as error:
            refuse()
        assert error.value.hint is not None and ".npz" in error.value.hint


def test_webp_has_a_largest_side(tmp_path):
    with pytest.raises(RaectlError, match="WebP"):
        pictures.save(tmp_path / "long.webp", np.zeros((1, 16384, 1), np.uint8))


@pytest.mark.parametrize("suffix", pictures.SUFFIXES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_format_can_be_written(tmp_path, suffix, channels):
    pictures.save(tmp_path / f"p{suffix}", random_images(1, 20, 30, channels)[0])
    with Image.open(tmp_path / f"p{suffix}") as image:
        assert image.size == (30, 20)
