"""The edge energy of an image as its only feature."""

from torch import Tensor

from raectl.extractors.images import ImageExtractor


class Edges(ImageExtractor):
    """The mean squared difference of neighbouring pixels, in every channel: D = 1.

        e(x) = [sum_chw (x[c, h, w+1] - x[c, h, w])^2 + (x[c, h+1, w] - x[c, h, w])^2] / (C (H (W - 1) + (H - 1) W))

    with values in [0, 1], computed in float64. Images one pixel wide have vertical pairs only, and those of one pixel
    have e = 0. Doubled contrast has four times the energy; a grey image has the energy of its copy in colour.
    """

    name = "edges"
    takes_weights = False
    set_metrics = ("sharpness",)
    judged_by = "sharpness"
    dim = 1

    def _features(self, x: Tensor) -> Tensor:
        _, c, h, w = x.shape
        x = x.double()
        vertical, horizontal = (x.diff(dim=side).square().sum(dim=(1, 2, 3)) for side in (2, 3))
        pairs = c * (h * (w - 1) + (h - 1) * w)
        return ((vertical + horizontal) / (max(1, pairs) * 255**2))[:, None]
