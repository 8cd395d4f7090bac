"""The paper's two convolutional networks, for any width and image size (Ghosh et al. 2020, appendix and code).

    net     kernel  input    encoder (stride 2, BN, ReLU)   decoder: dense to 8F, then (stride 2, BN, ReLU) ...
    conv32  4       2x - 1   F, 2F, 4F, 8F                  4F, 2F       then stride 1 to C, sigmoid
    conv64  5       x        F, 2F, 4F, 8F                  4F, 2F, F    then stride 1 to C, sigmoid

Padding is TensorFlow's 'same': an odd pixel is added at the end. The decoder's dense layer is linear, its output has
side s / 2^stages, rounded up, and the image is cropped to side s at the end.
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


def same_conv(cin: int, cout: int, kernel: int, side: int) -> Iterator[nn.Module]:
    """A stride-2 convolution with 'same' padding for inputs of this side; the output's side is ceil(side / 2)."""
    total = max(0, (math.ceil(side / 2) - 1) * 2 + kernel - side)
    before, after = total // 2, total - total // 2
    if before != after:
        yield nn.ZeroPad2d((before, after, before, after))
    yield nn.Conv2d(cin, cout, kernel, stride=2, padding=before if before == after else 0)


def same_conv_transpose(cin: int, cout: int, kernel: int, side: int, stride: int) -> Iterator[nn.Module]:
    """A transposed convolution with 'same' padding; the output's side is `side` * stride."""
    total = kernel - stride  # padding of the convolution whose gradient this is
    before, after = total // 2, total - total // 2
    yield nn.ConvTranspose2d(cin, cout, kernel, stride=stride, padding=before)
    if before != after:
        yield nn.ZeroPad2d((0, -1, 0, -1))  # crops a pixel at the end


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
    """Encoder and decoder for images (C, S, S); `decoder_widths` are multiples of F = `width`."""
    channels, side, _ = unpacked(item_shape, ("C", "S", "S"))
    batch_norm = partial(nn.BatchNorm2d, eps=BN_EPS, momentum=bn_momentum)

    encoder: list[nn.Module] = [Rescale()] if rescale else []
    cin, s = channels, side
    for cout in (width, 2 * width, 4 * width, 8 * width):
        encoder += [*same_conv(cin, cout, kernel, s), batch_norm(cout), nn.ReLU()]
        cin, s = cout, math.ceil(s / 2)
    encoder.append(nn.Flatten())
    features = cin * s * s

    s = math.ceil(side / 2 ** len(decoder_widths))
    decoder: list[nn.Module] = [nn.Linear(latent_dim, cin * s * s), nn.Unflatten(1, (cin, s, s))]
    for cout in (multiple * width for multiple in decoder_widths):
        decoder += [*same_conv_transpose(cin, cout, kernel, s, stride=2), batch_norm(cout), nn.ReLU()]
        cin, s = cout, 2 * s
    decoder += same_conv_transpose(cin, channels, kernel, s, stride=1)
    if s != side:
        decoder.append(nn.ZeroPad2d((0, side - s, 0, side - s)))
    decoder.append(Sigmoid())
    return Pair(nn.Sequential(*encoder), features, nn.Sequential(*decoder))


Conv32 = partial(convolutional, kernel=4, decoder_widths=(4, 2), rescale=True)
Conv64 = partial(convolutional, kernel=5, decoder_widths=(4, 2, 1), rescale=False)
