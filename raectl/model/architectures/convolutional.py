"""The paper's two convolutional networks, for any width and image shape (Ghosh et al. 2020, appendix and code).

    net     kernel  input    encoder (stride 2, BN, ReLU)   decoder: dense to 8F, then (stride 2, BN, ReLU) ...
    conv32  4       2x - 1   F, 2F, 4F, 8F                  4F, 2F       then stride 1 to C, sigmoid
    conv64  5       x        F, 2F, 4F, 8F                  4F, 2F, F    then stride 1 to C, sigmoid

Padding is TensorFlow's 'same': an odd pixel is added at the end. The decoder's dense layer is linear, its output has
sides H / 2^stages and W / 2^stages, rounded up, and the image is cropped to H x W at the end.
"""

import math
from collections.abc import Iterator
from functools import partial

from torch import Tensor, nn

from raectl.model.architectures.pair import Pair, Sigmoid, unpacked

BN_EPS = 1e-3


class Rescale(nn.Module):
    """x => 2x - 1."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x - 1


def same_conv(cin: int, cout: int, kernel: int, height: int, width: int) -> Iterator[nn.Module]:
    """A stride-2 convolution with 'same' padding for inputs of these sides; the output's are half, rounded up."""
    totals = [max(0, (math.ceil(side / 2) - 1) * 2 + kernel - side) for side in (height, width)]
    (top, bottom), (left, right) = ((total // 2, total - total // 2) for total in totals)
    is_even = (top, left) == (bottom, right)
    if not is_even:
        yield nn.ZeroPad2d((left, right, top, bottom))
    yield nn.Conv2d(cin, cout, kernel, stride=2, padding=(top, left) if is_even else 0)


def same_conv_transpose(cin: int, cout: int, kernel: int, stride: int) -> Iterator[nn.Module]:
    """A transposed convolution with 'same' padding; the output's sides are `stride` times the input's."""
    total = kernel - stride  # padding of the convolution whose gradient this is
    before, after = total // 2, total - total // 2
    yield nn.ConvTranspose2d(cin, cout, kernel, stride=stride, padding=before)
    if before != after:
        yield nn.ZeroPad2d((0, -1, 0, -1))  # crops a pixel at the end


def cropped(h: int, w: int, height: int, width: int) -> Iterator[nn.Module]:
    """What is needed to make (B, C, h, w) the smaller (B, C, height, width), by leaving out what is at the end."""
    if (h, w) != (height, width):
        yield nn.ZeroPad2d((0, width - w, 0, height - h))


def convolutional(
    item_shape: tuple[int, ...],
    latent_dim: int,
    width: int,
    bn_momentum: float,
    *,
    kernel: int,
    decoder_widths: tuple[int, ...],
    rescale: bool,
) -> Pair:
    """Encoder and decoder for images (C, H, W); `decoder_widths` are multiples of F = `width`."""
    channels, *shape = unpacked(item_shape, ("C", "H", "W"))
    batch_norm = partial(nn.BatchNorm2d, eps=BN_EPS, momentum=bn_momentum)

    encoder: list[nn.Module] = [Rescale()] if rescale else []
    cin, (h, w) = channels, shape
    for cout in (width, 2 * width, 4 * width, 8 * width):
        encoder += [*same_conv(cin, cout, kernel, h, w), batch_norm(cout), nn.ReLU()]
        cin, h, w = cout, math.ceil(h / 2), math.ceil(w / 2)
    encoder.append(nn.Flatten())
    features = cin * h * w

    h, w = (math.ceil(side / 2 ** len(decoder_widths)) for side in shape)
    decoder: list[nn.Module] = [nn.Linear(latent_dim, cin * h * w), nn.Unflatten(1, (cin, h, w))]
    for cout in (multiple * width for multiple in decoder_widths):
        decoder += [*same_conv_transpose(cin, cout, kernel, stride=2), batch_norm(cout), nn.ReLU()]
        cin, h, w = cout, 2 * h, 2 * w
    decoder += [*same_conv_transpose(cin, channels, kernel, stride=1), *cropped(h, w, *shape), Sigmoid()]
    return Pair(nn.Sequential(*encoder), features, nn.Sequential(*decoder))


Conv32 = partial(convolutional, kernel=4, decoder_widths=(4, 2), rescale=True)
Conv64 = partial(convolutional, kernel=5, decoder_widths=(4, 2, 1), rescale=False)
