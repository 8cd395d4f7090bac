"""Reconstruction metrics: scikit-image as the oracle, closed forms, directions, and no dependence on the batch."""

import numpy as np
import pytest
import torch
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity
from sklearn.datasets import load_digits, load_sample_images

from raectl.errors import RaectlError
from raectl.metrics.reconstruction import mse, psnr, ssim
from raectl.registry import names, resolve

METRICS = [resolve("metric", name) for name in ("mse", "psnr", "ssim")]


def photographs():
    patches = [
        image[y : y + 40, x : x + 52] for image in load_sample_images().images for y in (0, 200) for x in (0, 300)
    ]
    return np.stack(patches).transpose(0, 3, 1, 2) / 255


def digits():
    return load_digits().images[:16, None] / 16


def noise(channels):
    return np.random.default_rng(0).random((6, channels, 17, 23))


def noisy(x, amount, seed=1):
    return np.clip(x + amount * np.random.default_rng(seed).normal(size=x.shape), 0, 1)


DATA = {"photographs": photographs(), "digits": digits(), "grey noise": noise(1), "colour noise": noise(3)}


@pytest.mark.parametrize("x", DATA.values(), ids=DATA)
@pytest.mark.parametrize("amount", [0.01, 0.3])
def test_they_equal_scikit_image(x, amount):
    x_hat = noisy(x, amount)
    a, b = torch.from_numpy(x), torch.from_numpy(x_hat)
    expected = [structural_similarity(p, q, data_range=1, channel_axis=0) for p, q in zip(x, x_hat, strict=True)]
    np.testing.assert_allclose(ssim(a, b), expected, rtol=0, atol=1e-10)
    expected = [mean_squared_error(p, q) for p, q in zip(x, x_hat, strict=True)]
    np.testing.assert_allclose(mse(a, b), expected, rtol=1e-12)
    expected = [peak_signal_noise_ratio(p, q, data_range=1) for p, q in zip(x, x_hat, strict=True)]
    np.testing.assert_allclose(psnr(a, b), expected, rtol=1e-12)


@pytest.mark.parametrize("x", DATA.values(), ids=DATA)
def test_more_noise_is_worse(x):
    a = torch.from_numpy(x)
    worse = [torch.from_numpy(noisy(x, amount)) for amount in (0, 0.02, 0.1, 0.4)]
    for metric, sign in ((mse, 1), (psnr, -1), (ssim, -1)):
        values = [sign * metric(a, b).mean().item() for b in worse]
        assert values == sorted(values) and len(set(values)) == len(values)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)
def test_a_value_does_not_depend_on_the_batch(metric):
    x = torch.from_numpy(DATA["photographs"]).float()
    x_hat = torch.from_numpy(noisy(DATA["photographs"], 0.1)).float().contiguous(memory_format=torch.channels_last)
    whole = metric(x, x_hat)
    assert whole.shape == (len(x),) and whole.dtype == torch.float64
    single = torch.cat([metric(x[i : i + 1], x_hat[i : i + 1]) for i in range(len(x))])
    np.testing.assert_allclose(single, whole, rtol=1e-12)


def test_identical_images():
    x = torch.from_numpy(DATA["photographs"]).float()
    assert (mse(x, x) == 0).all()
    torch.testing.assert_close(psnr(x, x), torch.full((len(x),), 100.0, dtype=torch.float64))
    torch.testing.assert_close(ssim(x, x), torch.ones(len(x), dtype=torch.float64))


def test_closed_forms():
    zero, tenth = torch.zeros(2, 3, 8, 8), torch.full((2, 3, 8, 8), 0.1, dtype=torch.float64)
    np.testing.assert_allclose(mse(zero, tenth), 0.01)
    np.testing.assert_allclose(psnr(zero, tenth), 20)
    np.testing.assert_allclose(ssim(zero, tenth), 1e-4 / (0.01 + 1e-4))  # only the means differ
    assert psnr(zero, torch.ones_like(zero)).tolist() == [0, 0]


def test_mse_is_defined_for_items_of_any_shape():
    x = torch.rand(4, 12)
    np.testing.assert_allclose(mse(x, x + 0.5), 0.25, rtol=1e-6)


def test_ssim_needs_a_window():
    with pytest.raises(RaectlError, match="at least 7 x 7 pixels, not 6 x 9"):
        ssim(torch.zeros(1, 1, 6, 9), torch.zeros(1, 1, 6, 9))


def test_they_are_registered():
    assert {"mse", "psnr", "ssim"} <= set(names("metric"))
    assert [mse, psnr, ssim] == METRICS
