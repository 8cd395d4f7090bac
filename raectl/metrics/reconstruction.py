"""Reconstruction metrics of images, in float64; the value of a run is the mean over its images."""

import torch
from torch.nn.functional import avg_pool2d

from raectl.errors import RaectlError

_WINDOW = 7  # pixels
_C1, _C2 = 0.01**2, 0.03**2  # for values in [0, 1]
_SMALLEST_MSE = 1e-10  # PSNR 100 dB


def mse(x: torch.Tensor, x_hat: torch.Tensor) -> torch.Tensor:
    """Mean squared error of each item: x, x_hat (B, *item_shape) in [0, 1] => (B,) float64. Lower is better.

        MSE = mean (x - x_hat)^2

    The loss's reconstruction term is this times the number of values.
    """
    squares = (_double(x) - _double(x_hat)).square()
    return squares.mean(dim=tuple(range(1, x.ndim)))


def psnr(x: torch.Tensor, x_hat: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB: x, x_hat (B, *item_shape) in [0, 1] => (B,) float64. Higher is better.

        PSNR = 10 log10(1 / MSE)

    An MSE below 1e-10 counts as 1e-10: identical items have 100 dB.
    """
    return 10 * mse(x, x_hat).clamp_min(_SMALLEST_MSE).reciprocal().log10()


def ssim(x: torch.Tensor, x_hat: torch.Tensor) -> torch.Tensor:
    """Structural similarity: x, x_hat (B, C, H, W) in [0, 1] => (B,) float64 in [-1, 1]. Higher is better.

        SSIM = mean over windows, channels of (2 m m' + C1) (2 s_xx' + C2) / ((m^2 + m'^2 + C1) (s_x^2 + s_x'^2 + C2))

    with m, m' the means, s^2 and s_xx' the unbiased variances and covariance of x and x_hat in a uniform 7 x 7 window
    inside the image, C1 = 0.01^2, C2 = 0.03^2. As scikit-image's
    `structural_similarity(data_range=1, channel_axis=...)`; Gaussian windows give other values.

    Reference: Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment: From Error Visibility to Structural
    Similarity", IEEE Transactions on Image Processing 13, 2004, eq. 13.

    Raises:
        RaectlError: the images are smaller than the window.
    """
    if min(x.shape[2:]) < _WINDOW:
        h, w = x.shape[2:]
        raise RaectlError(f"SSIM needs images of at least {_WINDOW} x {_WINDOW} pixels, not {h} x {w}")
    a, b = _double(x), _double(x_hat)
    m_a, m_b, m_aa, m_bb, m_ab = (_window_mean(values) for values in (a, b, a * a, b * b, a * b))
    unbiased = _WINDOW**2 / (_WINDOW**2 - 1)
    v_a, v_b, v_ab = unbiased * (m_aa - m_a**2), unbiased * (m_bb - m_b**2), unbiased * (m_ab - m_a * m_b)
    similarity = (2 * m_a * m_b + _C1) * (2 * v_ab + _C2) / ((m_a**2 + m_b**2 + _C1) * (v_a + v_b + _C2))  # eq. 13
    return similarity.mean(dim=(1, 2, 3))


def _double(x: torch.Tensor) -> torch.Tensor:
    return (x.cpu() if x.device.type == "mps" else x).double()  # Apple's GPUs have no float64


def _window_mean(values: torch.Tensor) -> torch.Tensor:
    """Mean over each window: (B, C, H, W) => (B, C, H - 6, W - 6), as a separable filter."""
    return avg_pool2d(avg_pool2d(values, (_WINDOW, 1), stride=1), (1, _WINDOW), stride=1)
