"""The gradient penalty in both forms, against Jacobians worked out another way."""

import copy
import math

import pytest
import torch
from support.regularizers import D, convolutional, smooth, stir_batch_norm
from torch import Tensor, nn
from torch.autograd.functional import jacobian
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from raectl import registry
from raectl.errors import UsageError
from raectl.model.architectures.pair import Sum
from raectl.model.regularizers.gradient_penalty import GradientPenalty
from raectl.model.regularizers.spectral_norm import SpectralNorm
from raectl.model.regularizers.tangent import Trace

# torch.func.jvp makes torch import a module of its own that uses what torch deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


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
        elif isinstance(layer, Sum):
            layer = Sum(*(with_constant_statistics(branch, x) for branch in layer))  # noqa: PLW2901
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

    gp = GradientPenalty(part=1)
    z = torch.randn(4000, 4, dtype=torch.float64)
    draws = gp.penalty(decoder, z, decoder(z), torch.Generator().manual_seed(1)).double()
    error = draws.std() / math.sqrt(len(draws))
    assert error > 0 and abs(draws.mean() - expected) < 4 * error


def test_exact_form_is_unbiased_for_each_row():
    decoder, gp = smooth(), GradientPenalty(part=1)
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


@pytest.mark.parametrize("make", [convolutional, smooth])
def test_exact_form_of_the_first_items_is_that_of_all_but_the_rest(make):
    decoder, gp = make().train(), GradientPenalty()
    gp.wrap(decoder)
    z = torch.randn(5, D, dtype=torch.float64)
    v = torch.randn(5, D, dtype=torch.float64)
    got = gp.directional(decoder, z, decoder(z), v[:2])
    expected = gp.directional(decoder, z, decoder(z), v)[:2]
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)
    assert_same_gradients(got, expected, [*decoder.parameters()], 1e-5)


@pytest.mark.parametrize(("part", "count"), [(0.25, 2), (0.5, 3), (0.51, 4), (1, 6), (1e-9, 1)])
def test_a_part_of_the_batch_stands_for_all_of_it(part, count):
    decoder, gp = smooth(torch.float32), GradientPenalty(part=part)
    z = torch.randn(6, D)
    values = gp.penalty(decoder, z, decoder(z), torch.Generator().manual_seed(0))
    assert values.shape == (6,) and (values[:count] > 0).all() and (values[count:] == 0).all()
    with torch.no_grad():
        assert (gp.penalty(decoder, z, decoder(z), torch.Generator().manual_seed(0)) > 0).all(), "in validation, all"


def test_a_part_of_a_batch_in_random_order_leaves_the_mean_unbiased():
    decoder, gp = smooth(), GradientPenalty()
    z = torch.randn(8, D, dtype=torch.float64) * 2
    exact = frobenius(decoder, z)
    generator = torch.Generator().manual_seed(3)
    draws = []
    z = z.repeat(5, 1)
    for _ in range(400):
        shuffled = z[torch.randperm(len(z), generator=generator)]
        draws.append(gp.penalty(decoder, shuffled, decoder(shuffled), generator).mean().detach())
    draws = torch.stack(draws).double()
    error = draws.std() / math.sqrt(len(draws))
    assert exact.max() > 1.1 * exact.min() and error < 0.02 * exact.mean()
    assert abs(draws.mean() - exact.mean()) < 4 * error


@pytest.mark.parametrize("part", [0, -0.5, 1.5, math.nan, "half", True])
def test_a_part_that_is_none(part):
    with pytest.raises(
        UsageError, match=r"^part=.* is (no finite number|out of range: above 0, up to 1).*\(part=0.25\)"
    ):
        GradientPenalty(part=part)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("conv32", 8),
        ("conv32", 10),
        ("conv64", 8),
        ("conv64", 12),
        ("linear-conv", 8),
        ("linear-conv", 10),
        ("linear-conv", 33),
    ],
)
def test_exact_form_on_convolutional_decoders(name, side, training):
    decoder = registry.resolve("architecture", name)((1, side, side), D, 2, 0.1).decoder.train(training)
    stir_batch_norm(decoder)
    gp = GradientPenalty()
    gp.wrap(decoder)
    z = torch.randn(3, D)
    got, expected = all_directions(gp, decoder, z), frobenius(with_constant_statistics(decoder, z), z)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=0)
    if not training:
        assert_same_gradients(got, expected, [*decoder.parameters()], 2e-3)


def test_sums_within_sums():
    inner = Sum(nn.Linear(4, 6), nn.Sequential(nn.Linear(4, 5), nn.Sigmoid(), nn.Linear(5, 6)))
    decoder = nn.Sequential(Sum(nn.Sequential(nn.Linear(D, 4), nn.ReLU(), inner), nn.Linear(D, 6)), nn.Sigmoid())
    decoder, gp = decoder.double(), GradientPenalty()
    gp.wrap(decoder)
    z = torch.randn(4, D, dtype=torch.float64, requires_grad=True)
    got, expected = all_directions(gp, decoder, z), frobenius(decoder, z)
    torch.testing.assert_close(got.double(), expected, rtol=1e-6, atol=0)
    assert_same_gradients(got, expected, [z, *decoder.parameters()], 1e-5)


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
    decoder, gp = convolutional().float().eval(), GradientPenalty(form=form, part=1)
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
    with pytest.raises(UsageError, match=r"form='paper' is none of exact, released"):
        GradientPenalty(form="paper")


# -- gradient penalty, released ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("requires_grad", [True, False])
def test_released_form_is_the_gradient_of_the_energy(requires_grad):
    decoder, gp = smooth(), GradientPenalty(form="released")
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
    assert GradientPenalty(form="released").penalty(decoder, z, decoder(z)).tolist() == [0, 0]
    assert all_directions(GradientPenalty(), decoder, z).min() > 0  # which is not the paper's
