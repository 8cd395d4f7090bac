"""What holds for everything that is registered: a new component is tested the moment it has its line."""

import inspect
import itertools
import json
import re
from typing import Any

import numpy as np
import pytest
import torch
from model.test_recurrent import NAMES as RECURRENT
from support.strings import GRAMMAR, derivations, write_lines
from support.toy import register_toy, surface

import raectl
from raectl import registry
from raectl.config import FLAGS
from raectl.data import DataOptions
from raectl.errors import RaectlError, UsageError
from raectl.modalities.base import modality_of
from raectl.model.build import build, make_regularizer
from raectl.model.reconstructions import fill_in
from raectl.storage.arrays import read_arrays

register_toy()
MODALITIES = registry.names("modality")
MODELS = registry.names("model")
REGULARIZERS = registry.names("regularizer")
DENSITIES = registry.names("density")
FEW = {"components": 3, "epochs": 4}
TINY = {"width": 2, "epochs": 1, "batch_size": 20, "latent_dim": 2, "device": "cpu", "precision": "fp32"}
# torch.func.jvp makes torch import a module of its own that uses what torch deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


def images(n: int = 40, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 8, 8, channels), dtype=np.uint8)


def options_of(kind: str) -> dict:
    """Small options for a density, where it has components or is trained."""
    return {name: value for name, value in FEW.items() if name in registry.resolve("density", kind).options}


# -- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in FLAGS for name in registry.names(kind)])
def test_options_of(kind, name):
    component = registry.resolve(kind, name)
    given = () if kind != "reconstruction" else (modality_of("images"),)
    assert [*inspect.signature(component).parameters][len(given) :] == [*component.options]
    made, typed = component(*given), f"{FLAGS[kind]} {name}"
    assert made.settings == {key: option.default for key, option in component.options.items()}
    assert component(*given, **json.loads(json.dumps(made.settings))).settings == made.settings
    for key, option in component.options.items():
        assert option.help.endswith(".") and option.shown and option.describe()
        assert option.check(option.default, "") == option.default
        for wrong in (float("nan"), "nonsense", [], {}, -1e300):
            with pytest.raises(UsageError, match=re.escape(f"{typed},{key}=")):
                component.checked({key: wrong}, typed)
    with pytest.raises(UsageError, match="has no option 'no_such'"):
        component(*given, no_such=1)


# -- regularizers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", registry.names("architecture"))
@pytest.mark.parametrize("name", REGULARIZERS)
def test_regularizer(name, arch):
    shape = (9, 12) if arch in RECURRENT else (1, 8, 8)
    model, _ = build(raectl.Config(**TINY | {"arch": arch, "latent_dim": 3}), shape)
    regularizer = make_regularizer(name, {})
    regularizer.wrap(model.decoder)
    z = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)  # not all behind a dead ReLU
    x_hat = model.decoder(z)
    generator = torch.Generator().manual_seed(1)
    penalty = regularizer.penalty(model.decoder, z, x_hat, generator)
    assert penalty.shape == (20,) and torch.isfinite(penalty).all() and (penalty >= 0).all()
    weight = type(regularizer).default_weight(64, 3)
    assert (weight is None) == ("weight" not in regularizer.options or not regularizer.penalizes)
    assert weight is None or (isinstance(weight, float) and weight > 0)
    assert (weight is None) == (not penalty.requires_grad)
    assert regularizer.perturb(z, generator).shape == z.shape
    if weight is not None:
        kernels = [p for p in model.decoder.parameters() if p.dim() > 1]
        gradients = torch.autograd.grad(penalty.mean(), kernels)
        assert all(torch.isfinite(g).all() and g.abs().max() > 0 for g in gradients)


# -- reconstruction terms ---------------------------------------------------------------------------------------------


def small_options(name: str) -> dict:
    """A term's options with each that has a range near its least value, so that a run of few steps sees all of it."""
    options = registry.resolve("reconstruction", name).options
    return {"name": name, **{key: max(option.low, 1) for key, option in options.items()}}


def items_for(modality: str) -> np.ndarray:
    return {"images": images(6, 3), "vectors": surface(6), "strings": derivations(6)}[modality]


@pytest.mark.parametrize(
    ("modality", "name"),
    [(kind, name) for kind in MODALITIES for name in registry.resolve("modality", kind).reconstructions],
)
def test_reconstruction(modality, name):
    kind = modality_of(modality, DataOptions(grammar=GRAMMAR.text()))
    options = fill_in(small_options(name))
    del options["name"]
    term = registry.resolve("reconstruction", name)(kind, **options)
    x = kind.to_tensor(torch.from_numpy(items_for(modality)))
    x_hat = (0.7 * x + 0.3 * x.roll(1, dims=0)).requires_grad_()
    last = term.constant_from
    assert type(last) is int and last >= 0
    for step in (0, last // 2, last, last + 1000):
        assert term(x, x, step).tolist() == [0] * 6, "equal items are at no distance"
        with torch.autocast("cpu", torch.bfloat16):
            values = term(x, x_hat.bfloat16(), step)
        assert values.shape == (6,) and values.dtype == torch.float32 and (values > 0).all()
        torch.testing.assert_close(term(x[:2], x_hat[:2], step), term(x, x_hat, step)[:2])
        (gradient,) = torch.autograd.grad(term(x, x_hat, step).sum(), x_hat)
        assert torch.isfinite(gradient).all() and gradient.abs().max() > 0
    assert torch.equal(term(x, x_hat, last), term(x, x_hat, last + 1000)), "it no longer changes"
    assert last == 0 or not torch.equal(term(x, x_hat, last), term(x, x_hat, last - 1)), "and no sooner"


@pytest.mark.parametrize("name", registry.names("reconstruction"))
def test_a_reconstruction_term_has_a_modality(name):
    assert any(name in registry.resolve("modality", modality).reconstructions for modality in MODALITIES)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", registry.resolve("modality", "vectors").reconstructions)
def test_every_model_with_every_reconstruction_term(model, name, tmp_path):
    config = raectl.Config(**TINY | {"model": model, "reconstruction": small_options(name), "epochs": 2})
    checkpoint = raectl.train(config, "toy", tmp_path / "ckpt")
    assert checkpoint.config.reconstruction == fill_in(small_options(name))
    for line in map(json.loads, (tmp_path / "ckpt" / "log.jsonl").read_text().splitlines()):
        assert all(np.isfinite(value) for value in line["train"].values())
    check_whole_way(checkpoint, surface(), ("gaussian",))


# -- the whole way ----------------------------------------------------------------------------------------------------


def check_whole_way(checkpoint: raectl.Checkpoint, items: np.ndarray, densities: tuple[str, ...] = DENSITIES) -> None:
    """Densities, samples, reconstructions and log-densities of a trained model, before and after loading it."""
    shape = checkpoint.item_shape
    d = checkpoint.latent_dim
    z, x_hat = checkpoint.encode(items[:7]), checkpoint.decode(checkpoint.encode(items[:7]))
    assert z.shape == (7, d) and x_hat.shape == (7, *shape)
    assert torch.isfinite(z).all() and x_hat.min() >= 0 and x_hat.max() <= 1
    assert np.array_equal(checkpoint.reconstruct(items[:7]), checkpoint.modality.to_items(x_hat))
    assert checkpoint.reconstruct(items[:7]).dtype == np.uint8
    torch.testing.assert_close(checkpoint.encode(checkpoint.modality.to_tensor(torch.from_numpy(items[:7]))), z)
    if registry.resolve("model", checkpoint.config.model).prior:
        assert checkpoint.sample(2).shape == (2, *items.shape[1:])
    else:
        with pytest.raises(RaectlError, match="no fitted density"):
            checkpoint.sample(2)
    names = []
    for kind in densities:
        fit = checkpoint.fit_density(kind, **options_of(kind))
        names.append(fit.default_name)
        assert np.isfinite(fit.train) and fit.held_out is not None and np.isfinite(fit.held_out)
        assert fit.n_train + fit.n_held_out == len(items)
    again = raectl.load(checkpoint.directory.path, "cpu")
    assert again.densities() == checkpoint.densities() == tuple(names)
    torch.testing.assert_close(again.decode(again.encode(items[:7])), x_hat, rtol=0, atol=0)
    for name in names:
        drawn = again.sample(5, seed=3, density=name)
        assert drawn.shape == (5, *items.shape[1:]) and drawn.dtype == np.uint8
        assert np.array_equal(drawn, checkpoint.sample(5, seed=3, density=name))
        assert np.array_equal(drawn[:2], again.sample(2, seed=3, density=name))
        log_prob = again.log_prob(items[:7], density=name)
        assert log_prob.shape == (7,) and torch.isfinite(log_prob).all()
        torch.testing.assert_close(log_prob, again.density(name).log_prob(z))
    assert np.array_equal(again.sample(3), again.sample(3, density=names[-1]))


@pytest.mark.parametrize("reg", REGULARIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_every_model_with_every_regularizer_on_vectors(model, reg, tmp_path):
    config = raectl.Config(**TINY | {"model": model, "reg": reg})
    checkpoint = raectl.train(config, "toy", tmp_path / "ckpt")
    assert checkpoint.item_shape == (12,) and checkpoint.config.arch == "mlp"
    record = json.loads((tmp_path / "ckpt" / "log.jsonl").read_text())
    assert all(np.isfinite(value) for value in record["train"].values())
    assert (reg in record["train"]) == (registry.resolve("regularizer", reg).default_weight(12, 2) is not None)
    # A density knows of the decoder nothing, and so nothing of a regularizer.
    check_whole_way(checkpoint, surface(), DENSITIES if reg == "none" else ("gaussian",))


@pytest.mark.parametrize(
    ("model", "reg"), [*((model, "none") for model in MODELS), *(("rae", reg) for reg in REGULARIZERS[1:])]
)
def test_every_model_and_every_regularizer_on_strings(model, reg, tmp_path):
    config = raectl.Config(**TINY | {"model": model, "reg": reg, "grammar": "expressions"})
    checkpoint = raectl.train(config, write_lines(tmp_path / "lines.txt", 60), tmp_path / "ckpt")
    assert checkpoint.item_shape == (9, 12) and checkpoint.config.arch == "conv-gru"
    x_hat = checkpoint.decode(checkpoint.encode(np.array(checkpoint.open_data().items)))
    assert x_hat.shape == (60, 9, 12) and torch.isfinite(x_hat).all()
    densities = DENSITIES if (model, reg) == ("rae", "none") else ("gaussian",)  # as vectors have shown
    check_whole_way(checkpoint, np.array(checkpoint.open_data().items), densities)
    assert (tmp_path / "ckpt" / "samples" / "epoch-0001.txt").is_file()


@pytest.mark.parametrize("arch", ["conv32", "conv64", "linear-conv"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_whole_way_on_images(arch, channels, tmp_path):
    items = images(channels=channels)
    np.save(tmp_path / "images.npy", items)
    reg = ["tikhonov", "gradient-penalty", "spectral-norm"]
    checkpoint = raectl.train(
        raectl.Config(**TINY | {"reg": reg, "arch": arch}), tmp_path / "images.npy", tmp_path / "ckpt"
    )
    assert checkpoint.item_shape == (channels, 8, 8)
    check_whole_way(checkpoint, items, DENSITIES if (arch, channels) == ("conv64", 3) else ("gaussian",))
    assert [*(tmp_path / "ckpt" / "samples").glob("epoch-0001.*")]


@pytest.mark.parametrize("reg", [pair for pair in itertools.combinations(REGULARIZERS, 2) if "none" not in pair])
def test_regularizers_go_together(reg, tmp_path):
    checkpoint = raectl.train(raectl.Config(**TINY | {"reg": list(reg)}), "toy", tmp_path / "ckpt")
    assert set(checkpoint.config.reg) == set(reg)
    assert torch.isfinite(checkpoint.decode(checkpoint.encode(surface(4)))).all()


def test_training_learns(tmp_path):
    config = raectl.Config(**TINY | {"epochs": 40, "width": 4, "lr": 3e-3})
    checkpoint = raectl.train(config, "toy", tmp_path / "ckpt")
    items = surface()
    x = modality_of("vectors").to_tensor(torch.from_numpy(items))
    error = registry.resolve("metric", "mse")(x, checkpoint.decode(checkpoint.encode(items))).mean()
    assert error < 0.35 * x.var(dim=0, correction=0).mean()


def test_the_weights_kept_are_those_of_the_best_epoch(tmp_path):
    """A run that gets worse after its best epoch leaves the weights of a run that stopped there."""
    config = raectl.Config(**TINY | {"epochs": 8, "lr": 0.05, "arch": "conv32"})
    checkpoint = raectl.train(config, images(), tmp_path / "long")
    assert 0 < checkpoint.epoch < 8
    raectl.train(config.replace(epochs=checkpoint.epoch), images(), tmp_path / "short")
    long, short = (read_arrays(tmp_path / name / "model.safetensors", Any)[0] for name in ("long", "short"))
    assert long.keys() == short.keys()
    for name, array in short.items():
        np.testing.assert_array_equal(long[name], array, err_msg=name)


# -- metrics ----------------------------------------------------------------------------------------------------------

LOWER_IS_BETTER = {"mse"}


@pytest.mark.parametrize("name", registry.resolve("modality", "images").metrics)
def test_more_noise_is_worse(name):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(16, 3, 16, 16, generator=generator)
    noise = torch.randn(x.shape, generator=generator)
    measure = registry.resolve("metric", name)
    values = [measure(x, (x + sigma * noise).clamp(0, 1)) for sigma in (0.0, 0.02, 0.1, 0.5)]
    assert all(value.shape == (16,) and torch.isfinite(value).all() for value in values)
    sign = -1 if name in LOWER_IS_BETTER else 1
    for better, worse in itertools.pairwise(values):
        assert (sign * better > sign * worse).all()
    torch.testing.assert_close(measure(x[:3], (x[:3] + 0.1 * noise[:3]).clamp(0, 1)), values[2][:3])


def test_every_modality_is_measured_by_registered_metrics():
    for name in registry.names("modality"):
        assert set(registry.resolve("modality", name).metrics) <= set(registry.names("metric"))


def test_every_extractor_is_for_registered_measures():
    for name in registry.names("extractor"):
        assert set(registry.resolve("extractor", name).set_metrics) <= set(registry.names("set-metric"))
