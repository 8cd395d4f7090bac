"""Encoder and decoder pairs: contracts over the registry, and the paper's two nets against independent references."""

import itertools
import math

import numpy as np
import pytest
import torch
from model.test_recurrent import NAMES as RECURRENT
from torch import nn

from raectl import registry
from raectl.model.architectures.convolutional import same_conv, same_conv_transpose
from raectl.model.architectures.pair import Sigmoid
from raectl.model.autoencoder import Autoencoder
from raectl.model.codes import Deterministic

NAMES = [name for name in registry.names("architecture") if name not in RECURRENT]  # those that take images
CONVOLUTIONAL = ("conv32", "conv64")
KERNEL = {"conv32": 4, "conv64": 5}


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def pair(name: str, side: int, channels: int, width: int = 1, latent_dim: int = 3, bn_momentum: float = 0.1):
    return registry.resolve("architecture", name)((channels, side, side), latent_dim, width, bn_momentum)


# -- every architecture -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 9, 28, 32, 33, 64, 100])
@pytest.mark.parametrize("name", NAMES)
def test_shapes_range_and_gradients(name, side, channels):
    made = pair(name, side, channels)
    model = Autoencoder(made, Deterministic(made.features, 3), 3)
    x = torch.rand(3, channels, side, side)
    features = made.encoder(x)
    assert features.shape == (3, made.features)
    x_hat = model.decode(50 * model.encode(x))
    assert x_hat.shape == x.shape and x_hat.dtype == torch.float32
    assert x_hat.min() >= 0 and x_hat.max() <= 1
    (x_hat - x).square().sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), parameter_name
    kernels = [p for p in model.parameters() if p.dim() > 1]
    assert all(p.grad.abs().max() > 0 for p in kernels)


@pytest.mark.parametrize("name", NAMES)
def test_512_pixels(name):
    made = pair(name, 512, 1)
    with torch.no_grad():
        features = made.encoder.eval()(torch.rand(1, 1, 512, 512))
        assert features.shape == (1, made.features)
        assert made.decoder.eval()(torch.rand(1, 3)).shape == (1, 1, 512, 512)


@pytest.mark.parametrize("name", NAMES)
def test_rows_do_not_depend_on_each_other_in_evaluation(name):
    made = pair(name, 9, 3, width=2)
    encoder, decoder = made.encoder.eval(), made.decoder.eval()
    x, z = torch.rand(5, 3, 9, 9), torch.randn(5, 3)
    torch.testing.assert_close(encoder(x)[:2], encoder(x[:2]))
    torch.testing.assert_close(decoder(z)[:2], decoder(z[:2]))


def test_mlp_takes_items_of_any_shape():
    made = registry.resolve("architecture", "mlp")((2, 3, 4, 5), 3, 1, 0.1)
    assert made.decoder(torch.randn(2, 3)).shape == (2, 2, 3, 4, 5)
    assert made.encoder(torch.rand(2, 2, 3, 4, 5)).shape == (2, made.features)


@pytest.mark.parametrize("name", NAMES)
def test_glorot_uniform_kernels_and_zero_biases(name):
    made = pair(name, 16, 3, width=4, latent_dim=20)
    model = Autoencoder(made, Deterministic(made.features, 20), 20)
    seen = 0
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            a, b, *space = layer.weight.shape
            bound = math.sqrt(6 / ((a + b) * math.prod(space)))
            size = layer.weight.abs().max().item()
            # The largest of n uniform draws is below 1 - 8/n with a chance of e^-8.
            assert bound * (1 - 8 / layer.weight.numel()) < size <= bound * (1 + 1e-6)
            assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.25)
            assert layer.bias.abs().max() == 0
            seen += 1
    assert seen == {"conv32": 9, "conv64": 10, "linear-conv": 9, "mlp": 6}[name]


# -- 'same' padding ---------------------------------------------------------------------------------------------------


def reference_conv(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """TensorFlow's 'same' convolution, a position at a time: x (in, H, W), kernel (out, in, k, k)."""
    _, height, width = x.shape
    k = kernel.shape[-1]
    rows, columns = -(-height // stride), -(-width // stride)
    top, left = (max((out - 1) * stride + k - side, 0) // 2 for out, side in ((rows, height), (columns, width)))
    y = np.zeros((len(kernel), rows, columns))
    for o, i, j, c, a, b in np.ndindex(len(kernel), rows, columns, len(x), k, k):
        row, column = i * stride + a - top, j * stride + b - left
        if 0 <= row < height and 0 <= column < width:
            y[o, i, j] += kernel[o, c, a, b] * x[c, row, column]
    return y


@pytest.mark.parametrize("kernel", [4, 5])
@pytest.mark.parametrize(
    ("height", "width"),
    [*((side, side) for side in range(1, 9)), (1, 2), (2, 1), (3, 8), (8, 3), (4, 6), (5, 4), (7, 2)],
)
def test_same_convolution(height, width, kernel):
    layers = nn.Sequential(*same_conv(2, 3, kernel, height, width)).double()
    x = torch.randn(2, height, width, dtype=torch.float64)
    expected = reference_conv(x.numpy(), layers[-1].weight.detach().numpy(), 2)
    expected += layers[-1].bias.detach().numpy()[:, None, None]
    np.testing.assert_allclose(layers(x[None])[0].detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("kernel", [4, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("height", "width"), [*((side, side) for side in range(1, 6)), (1, 3), (4, 1), (2, 5)])
def test_same_transposed_convolution_is_the_adjoint(height, width, stride, kernel):
    layers = nn.Sequential(*same_conv_transpose(2, 3, kernel, stride)).double()
    nn.init.zeros_(layers[0].bias)
    y = torch.randn(2, height, width, dtype=torch.float64)
    x = torch.randn(3, height * stride, width * stride, dtype=torch.float64)
    forward = reference_conv(x.numpy(), layers[0].weight.detach().numpy(), stride)  # (2, height, width)
    lifted = layers(y[None])[0].detach()
    assert lifted.shape == x.shape
    assert float((lifted * x).sum()) == pytest.approx(float((forward * y.numpy()).sum()), rel=1e-10)
    # The same for every single input and output place: <conv(e_p), y> is the value of convT(y) at p.
    for place in np.ndindex(1, *x.shape[1:]):
        unit = np.zeros(x.shape)
        unit[place] = 1
        value = (reference_conv(unit, layers[0].weight.detach().numpy(), stride) * y.numpy()).sum()
        assert lifted[place].item() == pytest.approx(value, abs=1e-10)
        if place[1] + place[2] > 4:  # a corner and both edges
            break


# -- the paper's sizes ------------------------------------------------------------------------------------------------


def on_meta(name: str, side: int, channels: int, latent_dim: int):
    with torch.device("meta"):
        return pair(name, side, channels, width=128, latent_dim=latent_dim, bn_momentum=0.01)


def layers_of(module: nn.Module, kind: type | tuple[type, ...]) -> list[nn.Module]:
    return [layer for layer in module.modules() if isinstance(layer, kind)]


@pytest.mark.parametrize(
    ("name", "side", "channels", "latent_dim", "features", "up"),
    [
        ("conv32", 32, 1, 16, 4096, [1024, 512, 256, 1]),
        ("conv32", 32, 3, 128, 4096, [1024, 512, 256, 3]),
        ("conv64", 64, 3, 64, 16384, [1024, 512, 256, 128, 3]),
    ],
)
def test_the_papers_sizes(name, side, channels, latent_dim, features, up):
    made, k = on_meta(name, side, channels, latent_dim), KERNEL[name]
    assert made.features == features
    down = [channels, 128, 256, 512, 1024]
    convs = layers_of(made.encoder, nn.Conv2d)
    assert [tuple(conv.weight.shape) for conv in convs] == [(o, i, k, k) for i, o in itertools.pairwise(down)]
    assert all(conv.stride == (2, 2) for conv in convs)
    (dense,) = layers_of(made.decoder, nn.Linear)
    assert dense.weight.shape == (8 * 8 * 1024, latent_dim)
    lifts = layers_of(made.decoder, nn.ConvTranspose2d)
    assert [tuple(lift.weight.shape) for lift in lifts] == [(i, o, k, k) for i, o in itertools.pairwise(up)]
    assert [lift.stride for lift in lifts] == [*[(2, 2)] * (len(lifts) - 1), (1, 1)]

    encoder = sum(k * k * i * o + 3 * o for i, o in itertools.pairwise(down))  # kernel, bias, BN's two
    decoder = (latent_dim + 1) * 65536 + sum(k * k * i * o + 3 * o for i, o in itertools.pairwise(up))
    decoder -= 2 * channels  # no batch norm at the end
    assert sum(p.numel() for p in made.encoder.parameters()) == encoder
    assert sum(p.numel() for p in made.decoder.parameters()) == decoder
    norms = layers_of(nn.Sequential(made.encoder, made.decoder), nn.BatchNorm2d)
    assert len(norms) == 4 + len(up) - 2
    assert all(norm.eps == 1e-3 and norm.momentum == 0.01 and norm.affine for norm in norms)


@pytest.mark.parametrize(
    ("name", "encoder", "decoder"), [("conv32", 11_017_856, 11_606_273), ("conv64", 17_218_560, 21_475_331)]
)
def test_number_of_parameters_at_the_papers_width(name, encoder, decoder):
    made = on_meta(name, 32 if name == "conv32" else 64, 1 if name == "conv32" else 3, 16 if name == "conv32" else 64)
    assert sum(p.numel() for p in made.encoder.parameters()) == encoder
    assert sum(p.numel() for p in made.decoder.parameters()) == decoder


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@pytest.mark.parametrize("side", [8, 9])
def test_only_conv32_rescales_and_pads_after_it(name, side):
    made = pair(name, side, 1)
    (first, *_), seen = layers_of(made.encoder, nn.Conv2d), []
    first.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    x = torch.rand(2, 1, side, side)
    made.encoder(x)
    padded = seen[0]
    before = 0 if first.padding != (0, 0) else 1  # both kernels have one pixel before where the padding is uneven
    inner = padded[:, :, before : before + side, before : before + side]
    torch.testing.assert_close(inner, 2 * x - 1 if name == "conv32" else x)
    assert padded.sum().item() == pytest.approx(inner.sum().item(), abs=1e-4)  # zeros around, after the rescaling
    if padded.shape != inner.shape:
        assert padded[:, :, 0].abs().max() == 0 and padded[:, :, -1].abs().max() == 0


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_the_decoders_dense_layer_is_linear(name):
    decoder = pair(name, 8, 1).decoder
    kinds = [type(layer).__name__ for layer in decoder if not isinstance(layer, nn.ZeroPad2d)]
    stage = ["ConvTranspose2d", "BatchNorm2d", "ReLU"]
    stages = 2 if name == "conv32" else 3
    assert kinds == ["Linear", "Unflatten", *stage * stages, "ConvTranspose2d", "Sigmoid"]


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@pytest.mark.parametrize("side", [9, 11])
def test_output_is_cropped_at_the_end(name, side):
    decoder = pair(name, side, 1).decoder.eval()
    whole = nn.Sequential(*[layer for layer in decoder if not _is_last_crop(decoder, layer)])
    z = torch.randn(2, 3)
    larger = whole(z)
    assert larger.shape[-1] == math.ceil(side / (4 if name == "conv32" else 8)) * (4 if name == "conv32" else 8)
    torch.testing.assert_close(decoder(z), larger[:, :, :side, :side])


def _is_last_crop(decoder: nn.Sequential, layer: nn.Module) -> bool:
    return layer is decoder[-2] and isinstance(layer, nn.ZeroPad2d)


# -- a linear net beside a convolutional one --------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("side", [*range(8, 36), 48, 63, 64, 65, 96, 127, 128, 130])
def test_every_size(side, channels):
    made = pair("linear-conv", side, channels)
    x = torch.rand(2, channels, side, side)
    features = made.encoder(x)
    assert features.shape == (2, made.features)
    assert made.decoder(torch.randn(2, 3)).shape == x.shape


@pytest.mark.parametrize(("side", "start", "up"), [(28, 7, [4]), (32, 8, [4]), (33, 5, [4, 2]), (64, 8, [4, 2])])
def test_layers_of_linear_conv(side, start, up):
    made = pair("linear-conv", side, 3, width=2)
    downs = layers_of(made.encoder, nn.Conv2d)
    assert [tuple(down.weight.shape) for down in downs] == [
        (o, i, 4, 4) for i, o in itertools.pairwise([3, 2, 4, 8, 16])
    ]
    dense, coarse = layers_of(made.decoder, nn.Linear)
    assert dense.weight.shape == (16 * start**2, 3)
    assert coarse.weight.shape == (3 * min(16, -(-side // 4)) ** 2, 3)
    lifts = layers_of(made.decoder, nn.ConvTranspose2d)
    assert [tuple(lift.weight.shape) for lift in lifts] == [
        *((2 * i, 2 * o, 4, 4) for i, o in itertools.pairwise([8, *up])),
        (2 * up[-1], 3, 4, 4),
    ]
    assert all(layer.stride == (2, 2) for layer in downs + lifts)
    convolutions, _ = made.decoder[0]
    kinds = [type(layer).__name__ for layer in convolutions if not isinstance(layer, nn.ZeroPad2d)]
    stage = ["ConvTranspose2d", "BatchNorm2d", "ReLU"]
    assert kinds == ["Linear", "Unflatten", *stage[1:], *stage * len(up), "ConvTranspose2d"]


def test_nothing_but_the_image_has_its_full_size():
    decoder, seen = pair("linear-conv", 64, 3).decoder, []
    for layer in decoder.modules():
        layer.register_forward_hook(lambda layer, inputs, output: seen.append(output.shape))
    decoder(torch.randn(2, 3))
    assert {shape[1] for shape in seen if shape[-1] == 64} == {3}


def test_the_image_is_the_sum_of_its_parts():
    made = pair("linear-conv", 33, 3)
    decoder, z, x = made.decoder.eval(), torch.randn(2, 3), torch.rand(2, 3, 33, 33)
    convolutions, linear = decoder[0]
    torch.testing.assert_close(decoder(z), (convolutions(z) + linear(z)).sigmoid())
    torch.testing.assert_close(linear(2 * z) + linear(0 * z), 2 * linear(z))
    means = made.encoder.eval()(x)[:, -3 * 81 :].view(2, 3, 9, 9)
    cells = [slice(start, start + 4) for start in range(0, 33, 4)]  # the last one is of a pixel
    rows = [torch.stack([(2 * x - 1)[:, :, a, b].mean(dim=(2, 3)) for b in cells], dim=2) for a in cells]
    torch.testing.assert_close(means, torch.stack(rows, dim=2))


@torch.no_grad()
def spread(lift: nn.ConvTranspose2d) -> float:
    """By how much an image varies inside that is made from equal values by equal weights, over its mean."""
    nn.init.constant_(lift.weight, 1.0)
    nn.init.zeros_(lift.bias)
    inside = lift(torch.ones(1, lift.in_channels, 8, 8))[:, :, 3:-3, 3:-3]
    return float((inside.max() - inside.min()) / inside.mean())


def test_no_place_in_the_grid_gets_more_terms_than_another():
    assert all(spread(lift) == 0 for lift in layers_of(pair("linear-conv", 64, 1).decoder, nn.ConvTranspose2d))
    assert spread(layers_of(pair("conv64", 64, 1).decoder, nn.ConvTranspose2d)[0]) > 0.5  # of kernel 5 and stride 2


# -- the sigmoid ------------------------------------------------------------------------------------------------------


def test_sigmoid_is_float32_under_autocast():
    x = torch.linspace(-8, 8, 301)
    got = Sigmoid()(x.bfloat16())
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, torch.sigmoid(x.bfloat16().float()), rtol=0, atol=0)
    assert len(got.unique()) > len(torch.sigmoid(x.bfloat16()).unique())


@pytest.mark.parametrize("name", NAMES)
def test_decoders_give_float32_under_autocast(name):
    decoder = pair(name, 8, 1, width=2).decoder.eval()
    z = torch.randn(2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        x_hat = decoder(z)
    assert x_hat.dtype == torch.float32
    exact = decoder(z)
    torch.testing.assert_close(x_hat, exact, rtol=0, atol=0.02)
    assert not torch.equal(x_hat, exact)  # bfloat16 was in use
