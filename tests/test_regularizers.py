"""Each regularizer against its formula, worked out another way."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

import raectl
from raectl import registry
from raectl.build import has_bf16, resolve
from raectl.data import open_dataset
from raectl.errors import UsageError
from raectl.regularizers import kernels
from raectl.regularizers.gradient_penalty import GradientPenalty
from raectl.regularizers.none import NoRegularizer
from raectl.regularizers.spectral_norm import SpectralNorm
from raectl.regularizers.tikhonov import Tikhonov
from raectl.tangent import Trace

D = 3  # latent dimensions of the small decoders
# torch.func.jvp makes torch import a module of its own that uses what torch deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def convolutional() -> nn.Sequential:
    """(B, 3) => (B, 2, 4, 4), float64, with every kind of layer of the paper's decoders, batch norm stirred."""
    decoder = nn.Sequential(
        nn.Linear(D, 16),
        nn.Unflatten(1, (4, 2, 2)),
        nn.ConvTranspose2d(4, 3, 4, stride=2, padding=1),
        nn.BatchNorm2d(3, eps=1e-3),
        nn.ReLU(),
        nn.ConvTranspose2d(3, 2, 4, stride=1, padding=1),
        nn.ZeroPad2d((0, -1, 0, -1)),
        nn.Sigmoid(),
    ).double()
    stir_batch_norm(decoder)
    return decoder


def stir_batch_norm(decoder: nn.Module) -> None:
    for layer in decoder.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.normal_(layer.bias)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.normal_(layer.running_mean)


def smooth(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """(B, 3) => (B, 4), no batch norm, two layers for which there is no rule."""
    return nn.Sequential(nn.Linear(D, 5), nn.Tanh(), nn.Linear(5, 6), nn.GELU(), nn.Linear(6, 4)).to(dtype)


class Affine(nn.Module):
    """Batch norm with the statistics of x, which do not depend on what the layer is called with."""

    def __init__(self, layer: nn.BatchNorm2d, x: Tensor | None) -> None:
        super().__init__()
        self.layer = layer
        mean = layer.running_mean if x is None else x.mean(dim=(0, 2, 3))
        var = layer.running_var if x is None else x.var(dim=(0, 2, 3), correction=0)
        self.mean, self.var = mean.clone(), var.clone()

    def forward(self, x: Tensor) -> Tensor:
        def column(v: Tensor) -> Tensor:
            return v.view(1, -1, 1, 1)

        scaled = (x - column(self.mean)) / torch.sqrt(column(self.var) + self.layer.eps)
        return scaled * column(self.layer.weight) + column(self.layer.bias)


def with_constant_statistics(decoder: nn.Sequential, z: Tensor) -> nn.Sequential:
    """The same layers and parameters, its batch norms replaced by affine layers with the statistics of this pass.

    The Jacobian with respect to a later input takes the statistics as constants; the parameters still move them.
    """
    layers, x = [], z
    for layer in decoder:
        if isinstance(layer, nn.BatchNorm2d):
            layer = Affine(layer, x if decoder.training else None)  # noqa: PLW2901
        layers.append(layer)
        x = layer(x)
    return nn.Sequential(*layers)


def jacobians(decoder: nn.Module, z: Tensor) -> Tensor:
    """dD/dz of each item by reverse mode: (B, values, d), differentiable once more."""
    full = jacobian(decoder, z, create_graph=True)
    return torch.stack([full[i, ..., i, :].reshape(-1, z.shape[1]) for i in range(len(z))])


def frobenius(decoder: nn.Module, z: Tensor) -> Tensor:
    return jacobians(decoder, z).square().sum(dim=(1, 2))


def all_directions(gp: GradientPenalty, decoder: nn.Module, z: Tensor) -> Tensor:
    """The exact form without its Monte Carlo: the sum over the unit vectors."""
    total = torch.zeros(len(z))
    for j in range(z.shape[1]):
        unit = torch.zeros_like(z)
        unit[:, j] = 1
        total = total + gp.directional(decoder, z, decoder(z), unit)
    return total


def assert_same_gradients(got: Tensor, expected: Tensor, parameters: list[Tensor], rtol: float) -> None:
    """Gradients of a weighted sum of the items' values, so that no item can stand in for another."""
    weights = torch.arange(1, len(got) + 1)
    a = torch.autograd.grad((got * weights).sum(), parameters, allow_unused=True, retain_graph=True)
    b = torch.autograd.grad((expected * weights).sum(), parameters, allow_unused=True)
    scale = max(float(q.abs().max()) for q in b if q is not None)
    assert scale > 0
    for parameter, p, q in zip(parameters, a, b, strict=True):
        found = torch.zeros_like(parameter) if p is None else p
        wanted = torch.zeros_like(parameter) if q is None else q
        torch.testing.assert_close(found, wanted, rtol=rtol, atol=0.1 * rtol * scale)


# -- Tikhonov ---------------------------------------------------------------------------------------------------------


def test_tikhonov_is_the_sum_of_squares_of_the_kernels():
    decoder = nn.Sequential(
        nn.Linear(2, 4), nn.Unflatten(1, (1, 2, 2)), nn.ConvTranspose2d(1, 2, 2, stride=2), nn.BatchNorm2d(2)
    )
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.fill_(100.0)  # biases and batch norm: each would be seen
        decoder[0].weight.copy_(torch.arange(8.0).view(4, 2))  # 0 + 1 + ... + 49 = 140
        decoder[2].weight.copy_(torch.full((1, 2, 2, 2), 3.0))  # 8 * 9 = 72
    z = torch.randn(5, 2)
    assert Tikhonov().penalty(decoder, z, decoder(z)).tolist() == [212.0] * 5


@pytest.mark.parametrize("name", ["conv32", "conv64", "mlp"])
def test_tikhonov_of_the_registered_decoders(name):
    decoder = registry.resolve("architecture", name)((1, 8, 8), 4, 2, 0.1).decoder
    layers = [layer for layer in decoder.modules() if isinstance(layer, nn.Linear | nn.ConvTranspose2d)]
    expected = sum(layer.weight.double().square().sum() for layer in layers)
    penalty = Tikhonov().penalty(decoder, torch.randn(3, 4), torch.zeros(3, 1, 8, 8))
    assert penalty.tolist() == pytest.approx([expected.item()] * 3, rel=1e-6)
    for layer in layers:
        (gradient,) = torch.autograd.grad(penalty.mean(), layer.weight, retain_graph=True)
        torch.testing.assert_close(gradient, 2 * layer.weight.detach())


def test_tikhonov_does_not_depend_on_the_batch():
    decoder = convolutional().float()
    values = [Tikhonov().penalty(decoder, z, decoder(z)).unique().item() for z in (torch.randn(2, D), torch.ones(7, D))]
    assert values[0] == values[1] > 0


@pytest.mark.parametrize("view", ["torch", "released"])
def test_tikhonov_sees_the_effective_kernels(view):
    decoder = convolutional().float().eval()
    raw = Tikhonov().penalty(decoder, torch.zeros(1, D), torch.zeros(1)).item()
    SpectralNorm(view).wrap(decoder)
    effective = [layer.weight for layer in (decoder[0], decoder[2], decoder[5])]
    expected = sum(weight.square().sum() for weight in effective).item()
    assert Tikhonov().penalty(decoder, torch.zeros(1, D), torch.zeros(1)).item() == pytest.approx(expected, rel=1e-6)
    assert abs(expected - raw) > 0.1


def test_default_weights():
    assert Tikhonov.default_weight(3072, 64) == pytest.approx(3.072e-4)
    assert NoRegularizer.default_weight(3072, 64) is None and SpectralNorm.default_weight(3072, 64) is None
    assert GradientPenalty.default_weight(3072, 64) > 0


# -- gradient penalty, exact ------------------------------------------------------------------------------------------


def linear_decoders() -> list[tuple[nn.Module, Tensor]]:
    one, two = nn.Linear(4, 6).double(), nn.Linear(6, 5).double()
    return [(one, one.weight), (nn.Sequential(one, two), two.weight @ one.weight)]


@pytest.mark.parametrize("case", [0, 1], ids=["linear", "sequential"])
@pytest.mark.parametrize("wrapped", [True, False])
def test_exact_form_on_a_linear_decoder_is_the_squared_frobenius_norm(case, wrapped):
    decoder, matrix = linear_decoders()[case]
    gp = GradientPenalty()
    if wrapped:
        gp.wrap(decoder)
    z = torch.randn(3, 4, dtype=torch.float64)
    expected = matrix.square().sum().item()
    assert all_directions(gp, decoder, z).tolist() == pytest.approx([expected] * 3, rel=1e-6)

    z = torch.randn(4000, 4, dtype=torch.float64)
    draws = gp.penalty(decoder, z, decoder(z), torch.Generator().manual_seed(1)).double()
    error = draws.std() / math.sqrt(len(draws))
    assert error > 0 and abs(draws.mean() - expected) < 4 * error


def test_exact_form_is_unbiased_for_each_row():
    decoder, gp = smooth(), GradientPenalty()
    gp.wrap(decoder)
    rows = torch.randn(3, D, dtype=torch.float64) * 2
    z = rows.repeat_interleave(3000, dim=0)
    draws = gp.penalty(decoder, z, decoder(z), torch.Generator().manual_seed(2)).double().view(3, -1)
    error = draws.std(dim=1) / math.sqrt(draws.shape[1])
    expected = frobenius(decoder, rows)
    assert expected.max() > 1.1 * expected.min()  # the rows differ, so a value shared by the batch would be seen
    assert (abs(draws.mean(dim=1) - expected) < 4 * error).all()


def test_exact_form_takes_its_directions_from_the_generator_only():
    decoder, gp = smooth(torch.float32), GradientPenalty()
    z = torch.randn(6, D)

    def draw(seed: int, elsewhere: int) -> Tensor:
        torch.manual_seed(elsewhere)
        return gp.penalty(decoder, z, decoder(z), torch.Generator().manual_seed(seed))

    assert torch.equal(draw(1, 1), draw(1, 2))
    assert not torch.equal(draw(1, 1), draw(2, 1))


def test_exact_form_against_the_jacobian_in_evaluation():
    decoder, gp = convolutional().eval(), GradientPenalty()
    gp.wrap(decoder)
    z = torch.randn(4, D, dtype=torch.float64, requires_grad=True)
    got, expected = all_directions(gp, decoder, z), frobenius(with_constant_statistics(decoder, z), z)
    torch.testing.assert_close(got.double(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(expected, frobenius(decoder, z))
    assert_same_gradients(got, expected, [*decoder.parameters()], 1e-5)


def test_exact_form_against_the_jacobian_in_training():
    decoder, gp = convolutional().train(), GradientPenalty()
    gp.wrap(decoder)
    z = torch.randn(4, D, dtype=torch.float64)
    got, expected = all_directions(gp, decoder, z), frobenius(with_constant_statistics(decoder, z), z)
    torch.testing.assert_close(got.double(), expected, rtol=1e-6, atol=0)
    after = [*decoder[3].parameters(), *decoder[5].parameters()]
    assert_same_gradients(got, expected, after, 1e-5)
    assert not torch.allclose(expected, frobenius(decoder.eval(), z), rtol=0.01)  # the statistics matter


def test_gradient_of_the_exact_form_in_training_is_the_gradient_of_its_value():
    decoder, gp = convolutional().train(), GradientPenalty()
    gp.wrap(decoder)
    z = torch.randn(4, D, dtype=torch.float64, requires_grad=True)
    got, expected = all_directions(gp, decoder, z), frobenius(with_constant_statistics(decoder, z), z)
    assert_same_gradients(got, expected, [z, *decoder.parameters()], 1e-5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("name", "side"), [("conv32", 8), ("conv32", 10), ("conv64", 8), ("conv64", 12)])
def test_exact_form_on_the_papers_decoders(name, side, training):
    decoder = registry.resolve("architecture", name)((1, side, side), D, 2, 0.1).decoder.train(training)
    stir_batch_norm(decoder)
    gp = GradientPenalty()
    gp.wrap(decoder)
    z = torch.randn(3, D)
    got, expected = all_directions(gp, decoder, z), frobenius(with_constant_statistics(decoder, z), z)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=0)
    if not training:
        assert_same_gradients(got, expected, [*decoder.parameters()], 2e-3)


@pytest.mark.parametrize("wrapped", [True, False])
def test_layers_without_a_rule(wrapped):
    decoder, gp = smooth(), GradientPenalty()
    if wrapped:
        gp.wrap(decoder)
    z = torch.randn(4, D, dtype=torch.float64, requires_grad=True)
    got, expected = all_directions(gp, decoder, z), frobenius(decoder, z)
    torch.testing.assert_close(got.double(), expected, rtol=1e-6, atol=0)
    assert_same_gradients(got, expected, [z, *decoder.parameters()], 1e-5)


def test_a_decoder_that_is_no_sequential_counts_as_one_layer():
    class Bend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(D, 4)

        def forward(self, z: Tensor) -> Tensor:
            return self.dense(z).sin() + self.dense(z)

    decoder, gp = Bend().double(), GradientPenalty()
    gp.wrap(decoder)
    z = torch.randn(4, D, dtype=torch.float64)
    got, expected = all_directions(gp, decoder, z), frobenius(decoder, z)
    torch.testing.assert_close(got.double(), expected, rtol=1e-6, atol=0)
    assert_same_gradients(got, expected, [*decoder.parameters()], 1e-5)


@pytest.mark.parametrize("first", ["penalty", "norm"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make", [convolutional, smooth])
def test_exact_form_with_spectral_norm(make, training, first):
    decoder, gp, sn = make().train(training), GradientPenalty(), SpectralNorm()
    for regularizer in (gp, sn) if first == "penalty" else (sn, gp):
        regularizer.wrap(decoder)
    z = torch.randn(4, D, dtype=torch.float64)
    with parametrize.cached():
        decoder(z)
        got, expected = all_directions(gp, decoder, z), frobenius(with_constant_statistics(decoder, z), z)
    torch.testing.assert_close(got.double(), expected, rtol=1e-6, atol=0)
    if not training:
        assert_same_gradients(got, expected, [*decoder.parameters()], 1e-5)


def test_a_penalty_makes_no_power_iteration_of_its_own():
    decoder = nn.Linear(6, 5)
    spectral_norm(decoder)
    other, gp = copy.deepcopy(decoder), GradientPenalty()
    gp.wrap(decoder)
    z = torch.randn(2, 6)
    with parametrize.cached():
        gp.penalty(decoder, z, decoder(z))
    with parametrize.cached():
        other(z)
    torch.testing.assert_close(decoder.parametrizations.weight[0]._u, other.parametrizations.weight[0]._u)
    with parametrize.cached():
        before = other.parametrizations.weight[0]._u.clone()
        other(z)
    assert not torch.equal(before, other.parametrizations.weight[0]._u)


@pytest.mark.parametrize("form", ["exact", "released"])
def test_validation_without_gradients(form):
    decoder, gp = convolutional().float().eval(), GradientPenalty(form)
    gp.wrap(decoder)
    z = torch.randn(4, D)
    with torch.no_grad():
        value = gp.penalty(decoder, z, decoder(z), torch.Generator().manual_seed(0))
    assert not value.requires_grad
    expected = gp.penalty(decoder, z, decoder(z), torch.Generator().manual_seed(0))
    torch.testing.assert_close(value, expected.detach())
    assert expected.requires_grad and value.min() > 0


def test_a_pass_is_used_once_and_forgotten():
    decoder = smooth()
    trace = Trace(decoder)
    z = torch.randn(2, D, dtype=torch.float64)
    x_hat = decoder(z)
    assert trace.saw(x_hat) and not trace.saw(x_hat.clone())
    other = decoder(2 * z)
    assert trace.saw(other) and not trace.saw(x_hat)
    trace.push(torch.ones_like(z))
    assert not trace.saw(other) and not trace.saw(x_hat)


def test_a_later_pass_does_not_change_the_penalty_of_an_earlier_one():
    decoder, gp = smooth(), GradientPenalty()
    gp.wrap(decoder)
    z = torch.randn(2, D, dtype=torch.float64)
    x_hat, v = decoder(z), torch.ones_like(z)
    decoder(z + 1)
    expected = (jacobians(decoder, z) @ v[:, :, None]).square().sum(dim=(1, 2))
    torch.testing.assert_close(gp.directional(decoder, z, x_hat, v).double(), expected, rtol=1e-6, atol=0)


def test_a_decoder_that_was_not_wrapped_is_left_as_it_was():
    decoder = smooth(torch.float32)
    z = torch.randn(2, D)
    GradientPenalty().penalty(decoder, z, decoder(z))
    assert not any(layer._forward_hooks for layer in decoder.modules())


def test_unknown_form():
    with pytest.raises(UsageError, match=r"--gp-form 'paper' is none of exact, released"):
        GradientPenalty("paper")


# -- gradient penalty, released ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("requires_grad", [True, False])
def test_released_form_is_the_gradient_of_the_energy(requires_grad):
    decoder, gp = smooth(), GradientPenalty("released")
    z = torch.randn(4, D, dtype=torch.float64, requires_grad=requires_grad)
    x_hat = decoder(z)
    pulled = torch.einsum("bvd,bv->bd", jacobians(decoder, z), x_hat)
    expected = 4 / D * pulled.square().sum(dim=1)
    got = gp.penalty(decoder, z, x_hat)
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=0)
    assert_same_gradients(got, expected, [*([z] if requires_grad else []), *decoder.parameters()], 1e-4)


def test_released_form_vanishes_where_the_output_is_black():
    decoder = nn.Linear(D, 4, bias=False)
    z = torch.zeros(2, D)
    assert GradientPenalty("released").penalty(decoder, z, decoder(z)).tolist() == [0, 0]
    assert all_directions(GradientPenalty(), decoder, z).min() > 0  # which is not the paper's


# -- spectral norm ----------------------------------------------------------------------------------------------------


def largest_singular_values(module: nn.Module, view: str) -> dict[str, float]:
    """Of every effective kernel, as the matrix that the view says."""
    values = {}
    for name, layer in module.named_modules():
        if not isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            continue
        weight = layer.weight.detach()
        if isinstance(layer, nn.ConvTranspose2d) and view == "torch":
            weight = weight.transpose(0, 1)
        values[name] = torch.linalg.svdvals(weight.flatten(1).double())[0].item()
    return values


def pictures(n: int, side: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    place, axis = rng.uniform(0, side, (n, 2, 1, 1)), np.arange(side)
    blob = np.exp(-((axis[None, :, None] - place[:, 0]) ** 2 + (axis[None, None] - place[:, 1]) ** 2) / side)
    return (255 * blob).round().astype(np.uint8)


@pytest.mark.parametrize(("view", "precision"), [("torch", "fp32"), ("released", "fp32"), ("torch", "bf16")])
def test_largest_singular_values_are_one_after_training(view, precision, tmp_path):
    if precision == "bf16" and not has_bf16("cpu"):
        pytest.skip("this processor has no bfloat16")
    reg = {"spectral-norm": {"view": view}}
    config = raectl.Config(
        reg=reg, arch="conv32", width=8, latent_dim=8, epochs=6, batch_size=10, device="cpu", precision=precision
    )
    raectl.train(config, pictures(56, 16), tmp_path / "ckpt")
    decoder = raectl.load(tmp_path / "ckpt", "cpu")._model.decoder
    found = largest_singular_values(decoder, view)
    assert len(found) == 4
    assert found == pytest.approx(dict.fromkeys(found, 1.0), abs=1e-2)
    other = largest_singular_values(decoder, "released" if view == "torch" else "torch")
    assert max(abs(value - 1) for value in other.values()) > 0.1  # the views differ, so the test can tell


@pytest.mark.parametrize("encoder", [False, True])
def test_the_encoder_is_normalized_only_on_request(encoder):
    options = {"encoder": True} if encoder else {}
    config = raectl.Config(reg={"spectral-norm": options}, arch="conv32", width=4, latent_dim=4, device="cpu")
    config = resolve(config, open_dataset(pictures(4, 16)))
    model = raectl.build.build(config, (1, 16, 16))[0].eval()
    for part in (model.encoder, model.code):
        wrapped = [parametrize.is_parametrized(layer, name) for layer, name in kernels(part)]
        assert wrapped and all(given == encoder for given in wrapped)
        if encoder:
            assert max(abs(v - 1) for v in largest_singular_values(part, "torch").values()) < 0.1
    assert all(parametrize.is_parametrized(layer, name) for layer, name in kernels(model.decoder))
    assert len(list(kernels(model.decoder))) == 4


@pytest.mark.parametrize("weight", [0, 0.5])
def test_a_weight_for_a_constraint_is_refused(weight):
    config = raectl.Config(reg={"spectral-norm": weight}, device="cpu")
    with pytest.raises(UsageError, match="spectral-norm takes no weight"):
        resolve(config, open_dataset(pictures(4, 16)))


def test_unknown_view_and_option():
    with pytest.raises(UsageError, match=r"--sn-view 'keras' is none of torch, released"):
        SpectralNorm("keras")
    config = raectl.Config(reg={"spectral-norm": {"power": 3}}, device="cpu")
    with pytest.raises(UsageError, match="spectral-norm does not take the options power"):
        resolve(config, open_dataset(pictures(4, 16)))


@pytest.mark.parametrize("regularizer", [NoRegularizer(), SpectralNorm()])
def test_constraints_cost_nothing(regularizer):
    decoder = smooth(torch.float32)
    regularizer.wrap(decoder)
    z = torch.randn(3, D)
    assert regularizer.penalty(decoder, z, decoder(z)).tolist() == [0, 0, 0]
