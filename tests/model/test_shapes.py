"""Encoder and decoder pairs for images of any height and width, and what is computed from their decoders."""

import math

import pytest
import torch
from model.test_architectures import NAMES
from support.regularizers import stir_batch_norm
from torch import nn

from raectl import registry
from raectl.model.architectures.pair import Pair
from raectl.model.autoencoder import Autoencoder
from raectl.model.codes import Deterministic
from raectl.model.regularizers.tangent import Trace

# torch.func.jvp makes torch import a module of its own that uses what torch deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

# fmt: off
SHAPES = [
    (8, 8), (8, 9), (9, 8), (8, 40), (40, 8), (9, 17), (10, 31), (11, 64), (12, 100), (13, 33),
    (16, 24), (17, 65), (20, 128), (24, 8), (28, 36), (31, 33), (32, 33), (33, 32), (32, 64), (64, 32),
    (36, 28), (45, 10), (47, 97), (48, 80), (63, 65), (64, 96), (65, 8), (77, 55), (80, 45), (96, 64),
    (99, 101), (100, 13), (120, 67), (127, 9), (128, 72), (129, 31), (200, 15), (256, 24), (333, 11), (512, 40),
]
# fmt: on


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def pair(name: str, height: int, width: int, channels: int = 3, filters: int = 1) -> Pair:
    made: Pair = registry.resolve("architecture", name)((channels, height, width), 3, filters, 0.1)
    return made


def layers_of(module: nn.Module, kind: type) -> list[nn.Module]:
    return [layer for layer in module.modules() if isinstance(layer, kind)]


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_every_shape(name, height, width):
    made = pair(name, height, width)
    x = torch.rand(2, 3, height, width)
    assert made.encoder(x).shape == (2, made.features)
    x_hat = made.decoder(torch.randn(2, 3))
    assert x_hat.shape == x.shape and 0 <= x_hat.min() < x_hat.max() <= 1


@pytest.mark.parametrize(("height", "width"), [(8, 41), (33, 20), (96, 64), (512, 40)])
@pytest.mark.parametrize(("name", "part"), [("conv32", 4), ("conv64", 8)])
def test_the_papers_nets_begin_with_a_part_of_each_side_rounded_up(name, part, height, width):
    decoder = pair(name, height, width).decoder.eval()
    rows, columns = math.ceil(height / part), math.ceil(width / part)
    assert decoder[0].out_features == 8 * rows * columns and decoder[1].unflattened_size == (8, rows, columns)
    seen = []
    layers_of(decoder, nn.ConvTranspose2d)[-1].register_forward_hook(lambda *call: seen.append(call[-1]))
    x_hat = decoder(torch.randn(2, 3))
    top_left = seen[0][:, :, :height, :width]
    torch.testing.assert_close(x_hat, top_left.sigmoid())


@pytest.mark.parametrize(
    ("height", "width", "coarse", "start", "lifts"),
    [
        (28, 12, (7, 3), (7, 3), 2),
        (32, 9, (8, 3), (8, 3), 2),
        (33, 9, (9, 3), (5, 2), 3),
        (9, 33, (3, 9), (2, 5), 3),
        (96, 64, (16, 16), (12, 8), 3),
        (512, 40, (16, 10), (64, 5), 3),
    ],
)
def test_linear_conv_has_a_coarse_image_of_both_sides_and_stages_by_the_longer_one(height, width, coarse, start, lifts):
    made = pair("linear-conv", height, width)
    convolutions, linear = made.decoder[0]
    assert linear[1].unflattened_size == (3, *coarse) and convolutions[1].unflattened_size == (8, *start)
    assert len(layers_of(convolutions, nn.ConvTranspose2d)) == lifts
    x = torch.rand(2, 3, height, width)
    means = made.encoder.eval()(x)[:, -3 * math.prod(coarse) :].view(2, 3, *coarse)
    cells = [max(4, math.ceil(side / 16)) for side in (height, width)]
    bottom, right = (side - cell * (n - 1) for side, cell, n in zip((height, width), cells, coarse, strict=True))
    torch.testing.assert_close(means[:, :, 0, 0], (2 * x - 1)[:, :, : cells[0], : cells[1]].mean(dim=(2, 3)))
    torch.testing.assert_close(means[:, :, -1, -1], (2 * x - 1)[:, :, -bottom:, -right:].mean(dim=(2, 3)))


@pytest.mark.parametrize("name", NAMES)
def test_the_kernels_of_a_shape_are_those_of_the_shape_turned(name):
    tall, wide = (
        [parameter.shape for part in (made.encoder, made.decoder) for parameter in part.parameters()]
        for made in (pair(name, 40, 27), pair(name, 27, 40))
    )
    assert tall == wide


@pytest.mark.parametrize(("height", "width"), [(13, 42), (96, 20)])
@pytest.mark.parametrize("name", NAMES)
def test_the_tangent_through_the_decoder(name, height, width):
    decoder = pair(name, height, width, filters=2).decoder.double().eval()
    stir_batch_norm(decoder)
    z, v = torch.randn(2, 4, 3, dtype=torch.float64)
    trace = Trace(decoder)
    trace.replay(decoder, z)
    pushed = trace.push(v)
    trace.remove()
    _, expected = torch.func.jvp(decoder, (z,), (v,))
    assert pushed.shape == (4, 3, height, width) and pushed.abs().max() > 1e-3
    torch.testing.assert_close(pushed, expected, rtol=1e-5, atol=1e-7, check_dtype=False)


@pytest.mark.parametrize(("height", "width"), [(8, 41), (33, 20), (96, 64), (200, 15)])
@pytest.mark.parametrize("name", NAMES)
def test_a_step_along_the_gradient_lowers_the_error(name, height, width):
    made = pair(name, height, width, filters=2)
    model = Autoencoder(made, Deterministic(made.features, 3), 3)
    optimizer = torch.optim.SGD(model.parameters())
    x = torch.rand(4, 3, height, width)

    def error() -> torch.Tensor:
        return (model.decode(model.encode(x)) - x).square().sum(dim=(1, 2, 3)).mean()

    before = error()
    before.backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    norm = float(nn.utils.get_total_norm(gradients))
    assert all(gradient.abs().max() > 0 for gradient in gradients if gradient.dim() > 1) and math.isfinite(norm)
    optimizer.param_groups[0]["lr"] = 1e-3 / norm
    optimizer.step()
    assert error().item() < before.item()
