"""The nets for derivations: the Grammar VAE's sizes, any length, layers that mean what they say."""

import numpy as np
import pytest
import torch
from torch import nn

from raectl import registry
from raectl.errors import UsageError
from raectl.model.architectures.recurrent import Recurrent
from raectl.model.autoencoder import Autoencoder
from raectl.model.codes import Deterministic
from raectl.model.regularizers.base import kernels
from raectl.model.regularizers.spectral_norm import SpectralNorm
from raectl.model.regularizers.tangent import Trace

NAMES = ("conv-gru", "conv-gru-medium", "conv-gru-large")


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def pair(name: str, shape: tuple[int, ...] = (15, 12), latent_dim: int = 3, width: int = 2):
    return registry.resolve("architecture", name)(shape, latent_dim, width, 0.1)


def sizes(module: nn.Module, kind: type[nn.Module]) -> list[tuple[int, ...]]:
    return [tuple(layer.weight.shape) for layer in module.modules() if isinstance(layer, kind)]


@pytest.mark.parametrize(
    ("name", "shape", "latent_dim", "convolutions", "dense", "units", "norms"),
    [
        ("conv-gru", (15, 12), 25, [(2, 12, 2), (3, 2, 3), (4, 3, 4)], (100, 36), 100, [(2,), (3,), (4,), (25,)]),
        ("conv-gru-medium", (170, 76), 56, [(9, 76, 9), (9, 9, 9), (10, 9, 11)], (222, 1440), 256, []),
        ("conv-gru-large", (277, 76), 56, [(9, 76, 9), (9, 9, 9), (10, 9, 11)], (435, 2510), 501, []),
    ],
)
def test_sizes_are_the_grammar_vaes(name, shape, latent_dim, convolutions, dense, units, norms):
    made = pair(name, shape, latent_dim, width=32)
    assert sizes(made.encoder, nn.Conv1d) == convolutions and sizes(made.encoder, nn.Linear) == [dense]
    assert made.features == dense[0]
    assert sizes(made.encoder, nn.BatchNorm1d) + sizes(made.decoder, nn.BatchNorm1d) == norms
    assert sizes(made.decoder, nn.Linear) == [(latent_dim, latent_dim), (shape[1], units)]
    (gru,) = (layer for layer in made.decoder.modules() if isinstance(layer, nn.GRU))
    assert (gru.input_size, gru.hidden_size, gru.num_layers) == (latent_dim, units, 3)


@pytest.mark.parametrize("length", [1, 6, 7, 15, 27, 40])
@pytest.mark.parametrize("name", NAMES)
def test_shapes_range_and_gradients(name, length):
    made = pair(name, (length, 12))
    model = Autoencoder(made, Deterministic(made.features, 3), 3)
    x = torch.eye(12)[torch.randint(12, (4, length))]
    assert made.encoder(x).shape == (4, made.features)
    x_hat = model.decode(model.encode(x))
    assert x_hat.shape == x.shape and x_hat.dtype == torch.float32 and x_hat.min() >= 0
    torch.testing.assert_close(x_hat.sum(dim=2), torch.ones(4, length))
    (x_hat - x).square().sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), parameter_name


@pytest.mark.parametrize("name", NAMES)
def test_rows_do_not_depend_on_each_other_in_evaluation(name):
    made = pair(name)
    encoder, decoder = made.encoder.eval(), made.decoder.eval()
    x, z = torch.rand(5, 15, 12), torch.randn(5, 3)
    torch.testing.assert_close(encoder(x)[:2], encoder(x[:2]))
    torch.testing.assert_close(decoder(z)[:2], decoder(z[:2]))


def test_convolutions_run_over_time_and_norms_over_channels():
    encoder = pair("conv-gru").encoder.train()
    seen = {}
    for layer in encoder:
        layer.register_forward_hook(lambda layer, x, y: seen.update({layer: y}))
    encoder(torch.rand(6, 15, 12))
    norms = [layer for layer in encoder if isinstance(layer, nn.BatchNorm1d)]
    assert [tuple(seen[norm].shape) for norm in norms] == [(6, 2, 14), (6, 3, 12), (6, 4, 9)]
    means = seen[norms[0]].mean(dim=(0, 2))
    torch.testing.assert_close(means, torch.zeros(2), atol=1e-5, rtol=0)


def test_weights_begin_as_keras_has_them():
    gru = Recurrent(25, 100).gru
    for name, parameter in gru.named_parameters():
        for gate in parameter.detach().chunk(3):
            if "bias" in name:
                assert not gate.any()
            elif "weight_hh" in name:
                torch.testing.assert_close(gate @ gate.T, torch.eye(100), atol=1e-4, rtol=0)
            else:
                bound = (6 / sum(gate.shape)) ** 0.5
                assert 0.95 * bound < gate.abs().max() <= bound


def test_spectral_norm_reaches_the_recurrent_kernels():
    decoder = pair("conv-gru").decoder.train()
    z = torch.randn(4, 3)
    before = decoder(z)
    regularizer = SpectralNorm()
    regularizer.wrap(decoder)
    decoder(z)
    regularizer.converge(decoder)
    names = [name for layer, name in kernels(decoder)]
    assert [name for name in names if name.startswith("weight_hh")] == ["weight_hh_l0", "weight_hh_l1", "weight_hh_l2"]
    for layer, name in kernels(decoder):
        assert np.linalg.svd(getattr(layer, name).detach().numpy())[1][0] == pytest.approx(1, abs=1e-2)
    after = decoder(z)
    assert (after - before).abs().max() > 1e-4
    after.square().sum().backward()
    assert all(parameter.grad is not None for parameter in decoder.parameters())


def test_a_tangent_passes_through():
    decoder = pair("conv-gru").decoder.eval()
    z, v = torch.randn(4, 3), torch.randn(4, 3)
    trace = Trace(decoder)
    trace.replay(decoder, z)
    pushed = trace.push(v)
    step = 1e-2
    with torch.no_grad():
        expected = (decoder(z + step * v) - decoder(z - step * v)) / (2 * step)
    torch.testing.assert_close(pushed, expected, atol=2e-4, rtol=2e-2)
    pushed.square().sum().backward()


@pytest.mark.parametrize("name", NAMES)
def test_items_of_another_shape_are_refused(name):
    with pytest.raises(UsageError, match=r"items of shape \(T, D\), not \(1, 8, 8\)"):
        pair(name, (1, 8, 8))
    with pytest.raises(UsageError, match=r"items of shape \(C, H, W\), not \(15, 12\)"):
        pair("conv32")
