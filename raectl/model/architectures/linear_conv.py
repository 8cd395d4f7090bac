"""A linear net of the coarse image beside a convolutional one, whose sum is the image; for any width and image shape.

    longer side   encoder (stride 2, BN, ReLU)   decoder: dense to 8F, BN, ReLU, then (stride 2, BN, ReLU) ...
    to 32         F, 2F, 4F, 8F                  4F           then stride 2 to C
    above         F, 2F, 4F, 8F                  4F, 2F       then stride 2 to C
    both          image of H' x W', by means     dense to C x H' x W', bilinear to C x H x W

The coarse image's sides are H' = H / 4 and W' = W / 4, rounded up, and 16 at most.

The encoder's features are those of both columns, the image is the sigmoid of their sum. All kernels are 4 x 4; the
encoder sees 2x - 1.

The linear part learns in few steps what principal components would say of an image, which is most of a photograph, and
leaves detail to the convolutions. In training the paper's nets (`convolutional.py`), four fifths of a CPU's time are
the decoder's, and half of these its last two layers', which work at the image's full size. Here the last layer is a
stride as well, from half the size straight to the C channels of the image, so that nothing wider has its full size,
and training makes 1.7 to 1.9 times as many steps in the same time. Figures are in benchmarks/README.md.

The convolutions are the decoder of DCGAN (Radford, Metz, Chintala, "Unsupervised representation learning with deep
convolutional generative adversarial networks", ICLR 2016). Strides divide kernels, so that all pixels have as many
terms and no grid comes from the number of them (Odena, Dumoulin, Olah, "Deconvolution and checkerboard artifacts",
Distill 2016).

Padding is as in `convolutional.py`. The dense layer's output has sides H / 2^stages and W / 2^stages, rounded up, and
the image is cropped to H x W at the end.
"""

import math
from functools import partial

from torch import nn

from raectl.model.architectures.convolutional import BN_EPS, Rescale, cropped, same_conv, same_conv_transpose
from raectl.model.architectures.pair import Concatenation, Pair, Sigmoid, Sum, unpacked

_KERNEL = 4
_SMALL = 32  # pixels
_COARSE, _GRID = 4, 16  # pixels a pixel of the coarse image, at least; its sides, at most


def LinearConv(item_shape: tuple[int, ...], latent_dim: int, width: int, bn_momentum: float) -> Pair:  # noqa: N802
    """Encoder and decoder for images (C, H, W)."""
    channels, *shape = unpacked(item_shape, ("C", "H", "W"))
    batch_norm = partial(nn.BatchNorm2d, eps=BN_EPS, momentum=bn_momentum)
    cell_h, cell_w = (max(_COARSE, math.ceil(side / _GRID)) for side in shape)
    coarse = channels, math.ceil(shape[0] / cell_h), math.ceil(shape[1] / cell_w)

    down: list[nn.Module] = []
    cin, (h, w) = channels, shape
    for cout in (width, 2 * width, 4 * width, 8 * width):
        down += [*same_conv(cin, cout, _KERNEL, h, w), batch_norm(cout), nn.ReLU()]
        cin, h, w = cout, math.ceil(h / 2), math.ceil(w / 2)
    means = nn.Sequential(nn.AvgPool2d((cell_h, cell_w), ceil_mode=True), nn.Flatten())
    encoder = nn.Sequential(Rescale(), Concatenation(nn.Sequential(*down, nn.Flatten()), means))
    features = cin * h * w + math.prod(coarse)

    multiples = (4,) if max(shape) <= _SMALL else (4, 2)
    h, w = (math.ceil(side / 2 ** (len(multiples) + 1)) for side in shape)
    up: list[nn.Module] = [nn.Linear(latent_dim, cin * h * w), nn.Unflatten(1, (cin, h, w)), batch_norm(cin), nn.ReLU()]
    for cout in (multiple * width for multiple in multiples):
        up += [*same_conv_transpose(cin, cout, _KERNEL, stride=2), batch_norm(cout), nn.ReLU()]
        cin, h, w = cout, 2 * h, 2 * w
    up += [*same_conv_transpose(cin, channels, _KERNEL, stride=2), *cropped(2 * h, 2 * w, *shape)]
    linear = nn.Sequential(
        nn.Linear(latent_dim, math.prod(coarse)),
        nn.Unflatten(1, coarse),
        nn.Upsample(size=tuple(shape), mode="bilinear"),
    )
    return Pair(encoder, features, nn.Sequential(Sum(nn.Sequential(*up), linear), Sigmoid()))
