"""Tikhonov regularization and what all regularizers share, against their formulas worked out another way."""

import pytest
import torch
from support.regularizers import D, convolutional, smooth
from torch import nn

import raectl
import raectl.model.build
from raectl import registry
from raectl.model.regularizers.base import NoRegularizer
from raectl.model.regularizers.code_noise import CodeNoise
from raectl.model.regularizers.gradient_penalty import GradientPenalty
from raectl.model.regularizers.spectral_norm import SpectralNorm
from raectl.model.regularizers.tikhonov import Tikhonov


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


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


@pytest.mark.parametrize("name", ["conv32", "conv64", "linear-conv", "mlp"])
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
    SpectralNorm(view=view).wrap(decoder)
    effective = [layer.weight for layer in (decoder[0], decoder[2], decoder[5])]
    expected = sum(weight.square().sum() for weight in effective).item()
    assert Tikhonov().penalty(decoder, torch.zeros(1, D), torch.zeros(1)).item() == pytest.approx(expected, rel=1e-6)
    assert abs(expected - raw) > 0.1


def test_default_weights():
    assert Tikhonov.default_weight(3072, 64) == pytest.approx(3.072e-4)
    assert NoRegularizer.default_weight(3072, 64) is None and SpectralNorm.default_weight(3072, 64) is None
    assert GradientPenalty.default_weight(3072, 64) > 0


@pytest.mark.parametrize("regularizer", [NoRegularizer(), SpectralNorm()])
def test_constraints_cost_nothing(regularizer):
    decoder = smooth(torch.float32)
    regularizer.wrap(decoder)
    z = torch.randn(3, D)
    assert regularizer.penalty(decoder, z, decoder(z)).tolist() == [0, 0, 0]


def test_noise_is_a_gradient_penalty_in_the_codes_units():
    """E |D(z + w S e) - x|^2 - |D(z) - x|^2 = w^2 ||J S||_F^2 exactly for a linear decoder."""
    decoder = nn.Linear(3, 5).double()
    z = torch.randn(40_000, 3, dtype=torch.float64) * torch.tensor([0.1, 1.0, 30.0], dtype=torch.float64)
    x = torch.randn(40_000, 5, dtype=torch.float64)
    noisy = CodeNoise(weight=0.2).perturb(z)
    excess = (decoder(noisy) - x).square().sum(dim=1) - (decoder(z) - x).square().sum(dim=1)
    expected = 0.2**2 * (decoder.weight * z.std(dim=0)).square().sum()
    assert abs(excess.mean() - expected) < 5 * excess.std() / 200


def test_noise_does_not_depend_on_the_codes_scale():
    generator = torch.Generator()
    z = torch.randn(6, 3)
    small, large = (CodeNoise().perturb(scale * z, generator.manual_seed(1)) / scale for scale in (1.0, 1024.0))
    assert torch.equal(small, large)
    constant = torch.ones(4, 3)  # a dimension without spread stays as it is
    assert torch.equal(CodeNoise().perturb(constant), constant)


def test_noise_is_there_in_training_only():
    config = raectl.Config(reg="noise=0.5", width=2, latent_dim=4)
    with_noise, without = (
        raectl.model.build.build(c.replace(arch="mlp", beta=0.0), (1, 8, 8))[0]
        for c in (config, config.replace(reg={}))
    )
    z = torch.randn(3, 4)
    assert not torch.equal(with_noise.perturb(z), z) and torch.equal(without.perturb(z), z)
    assert torch.equal(with_noise.eval().perturb(z), z)
