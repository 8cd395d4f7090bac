"""Sharpness of images: their edge energy over that of the real ones."""

import math

from torch import Tensor

from raectl.metrics.reference import Measured, Reference


def sharpness(reference: Reference, features: Tensor) -> dict[str, Measured]:
    """Mean edge energy of the images over that of the real ones; 1 is right, below it is blur, above it grain.

        sharpness = mean_j e(y_j) / mean_i e(x_i)

    with e the mean squared difference of neighbouring pixels, the feature of `extractors/edges.py`. It compares means
    only: noise on blurred images can make up for their lost edges. Omitted if no real image has an edge, so also for
    images of one pixel.

    The standard error is the delta method's for a ratio of two independent means,

        SE^2 = (s_y^2 / M + sharpness^2 s_x^2 / N) / (mean_i e(x_i))^2

    with s^2 the unbiased variances of e. Of reconstructions of the same real images, which are not independent of them,
    it is too large.

    Reference: Cochran, "Sampling Techniques", 1977, chapter 6 (the ratio's variance).

    Example:
        >>> import torch
        >>> e = torch.tensor([[0.1], [0.3]])
        >>> round(sharpness(Reference(e), e / 4)["sharpness"].value, 6)  # half the contrast
        0.25
    """
    measured, real = reference.check(features).double(), reference.features.double()
    energy = float(real.mean())
    if not energy:
        return {}
    ratio = float(measured.mean()) / energy
    variance = float(measured.var()) / len(measured) + ratio**2 * float(real.var()) / len(real)
    return {"sharpness": Measured(ratio, math.sqrt(variance) / energy)}
