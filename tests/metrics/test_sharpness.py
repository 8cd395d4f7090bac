"""Edge energy and sharpness: closed forms, a naive oracle, directions, and what the standard error covers."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits, load_sample_images

from raectl.errors import RaectlError
from raectl.extractors.edges import Edges
from raectl.metrics.reference import TARGETS, Reference, badness
from raectl.metrics.sharpness import sharpness

DIGITS = (load_digits().images * 15).astype(np.uint8)[np.random.default_rng(0).permutation(1797), ..., None]


def energies(images):
    return Edges()(images).numpy()[:, 0]


def naive(image):
    """Pair by pair, in float64: (H, W, C) uint8 => the mean squared difference."""
    x = image.astype(float) / 255
    h, w, _ = x.shape
    across = [(x[i, j + 1] - x[i, j]) ** 2 for i in range(h) for j in range(w - 1)]
    down = [(x[i + 1, j] - x[i, j]) ** 2 for i in range(h - 1) for j in range(w)]
    return np.mean(across + down)


def measured(real, images):
    return sharpness(Reference(Edges()(real)), Edges()(images))["sharpness"]


# -- edge energy ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(9, 7), (7, 1), (1, 7), (64, 64), (2, 2)])
@pytest.mark.parametrize("channels", [1, 3])
def test_energies_equal_a_naive_loop(size, channels):
    images = np.stack(
        [photo[100 : 100 + size[0], 200 : 200 + size[1], :channels] for photo in load_sample_images().images]
    )
    np.testing.assert_allclose(energies(images), [naive(image) for image in images], rtol=1e-6)


def test_energies_by_hand():
    board = (np.indices((8, 8)).sum(axis=0) % 2 * 255).astype(np.uint8)  # every pair differs by 1
    half = np.zeros((8, 8), np.uint8)
    half[:, 4:] = 255  # one pair in seven of each row: 8 of 112 pairs
    images = np.stack([board, half, np.full((8, 8), 77, np.uint8)])[..., None]
    np.testing.assert_allclose(energies(images), [1, 8 / 112, 0], rtol=1e-7)


def test_doubled_contrast_has_four_times_the_energy():
    assert np.array_equal(energies(2 * (DIGITS // 2)), 4 * energies(DIGITS // 2))


def test_grey_has_the_energy_of_its_copy_in_colour_turned_or_mirrored():
    some = DIGITS[:50]
    for same in (some.repeat(3, axis=3), some[:, ::-1], some[:, :, ::-1], some.swapaxes(1, 2), 255 - some):
        np.testing.assert_array_equal(energies(np.ascontiguousarray(same)), energies(some))


def test_an_image_of_one_pixel_has_no_edges():
    assert energies(np.full((2, 1, 1, 3), 200, np.uint8)).tolist() == [0, 0]


# -- sharpness -----------------------------------------------------------------------------------------------------


def test_the_ratio_is_that_of_means():
    real, images = DIGITS[:300], DIGITS[300:900]
    expected = np.mean([naive(image) for image in images]) / np.mean([naive(image) for image in real])
    assert measured(real, images).value == pytest.approx(expected, rel=1e-6)
    assert measured(real, real).value == 1
    assert measured(real, real // 2 * 2).value == pytest.approx(4 * measured(real, real // 2).value)


def test_blur_lowers_it_and_grain_raises_it():
    real = DIGITS[:300]
    blurred = [gaussian_filter(DIGITS[300:600], (0, sigma, sigma, 0)) for sigma in (0.4, 0.8, 1.6)]
    noise = np.random.default_rng(0).normal(0, 80, DIGITS[300:600].shape)
    noisy = (DIGITS[300:600] + noise).clip(0, 255).astype(np.uint8)
    values = [measured(real, images).value for images in (noisy, DIGITS[300:600], *blurred)]
    assert values == sorted(values, reverse=True) and values[0] > 1.1
    assert values[1] == pytest.approx(1, abs=3 * measured(real, DIGITS[300:600]).se) and values[-1] < 0.3


def test_it_is_best_at_one():
    assert TARGETS["sharpness"] == 1
    assert badness("sharpness", 1) == 0 < badness("sharpness", 1.2) < badness("sharpness", 0.7)


def test_images_without_edges():
    flat = np.full((6, 8, 8, 1), 128, np.uint8)
    assert sharpness(Reference(Edges()(flat)), Edges()(DIGITS[:6])) == {}
    nothing = measured(DIGITS[:6], flat)
    assert nothing == (0, 0)


def test_order_does_not_matter():
    first, again = measured(DIGITS[:200], DIGITS[200:500]), measured(DIGITS[199::-1], DIGITS[499:199:-1])
    assert again == pytest.approx(first, rel=1e-12)


def test_the_standard_error_is_that_of_a_ratio():
    """Of 400 repetitions; and twice the error to both sides holds the true ratio about as often as it should."""
    rng = np.random.default_rng(0)
    values, errors = [], []
    for _ in range(400):
        real = torch.from_numpy(rng.gamma(2, 0.5, (60, 1)))  # mean 1
        features = torch.from_numpy(rng.gamma(4, 0.2, (40, 1)))  # mean 0.8
        m = sharpness(Reference(real), features)["sharpness"]
        values.append(m.value)
        errors.append(m.se)
    inside = np.abs(np.array(values) - 0.8) <= 2 * np.array(errors)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.1) and 0.92 < inside.mean() < 0.98


@pytest.mark.parametrize("n", [0, 1])
def test_one_image_is_no_set(n):
    with pytest.raises(RaectlError, match=f"at least 2 measured items, not {n}"):
        sharpness(Reference(torch.ones(3, 1)), torch.ones(n, 1))
