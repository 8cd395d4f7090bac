"""Spectral norm: singular values after training, what it wraps, and what it refuses."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import raectl
from raectl.data import open_dataset
from raectl.device import has_bf16
from raectl.errors import UsageError
from raectl.model.regularizers import kernels
from raectl.model.regularizers.spectral_norm import SpectralNorm
from raectl.model.resolve import resolve


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


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
    model = raectl.model.build.build(config, (1, 16, 16))[0].eval()
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
    with pytest.raises(UsageError, match=r"view='keras' is none of torch, released"):
        SpectralNorm(view="keras")
    config = raectl.Config(reg={"spectral-norm": {"power": 3}}, device="cpu")
    with pytest.raises(UsageError, match="--reg spectral-norm has no option 'power'"):
        resolve(config, open_dataset(pictures(4, 16)))
