"""The average of the weights: what it is, that it is what is validated and kept, and that training does not see it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.cli import write_pictures

import raectl
from raectl.data import open_dataset
from raectl.model.resolve import resolve
from raectl.training.loop import Loop

SMALL: dict[str, Any] = {
    "width": 2, "latent_dim": 4, "image_size": 12, "batch_size": 16, "device": "cpu", "precision": "fp32",
}  # fmt: skip


def loop(folder: Path, **options: Any) -> Loop:
    source = write_pictures(folder / "images", 60)
    dataset = open_dataset(source, raectl.DataOptions(image_size=12))
    return Loop(resolve(raectl.Config(**{**SMALL, **options}), dataset), dataset, folder)


def state(run: Loop) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in run.model.state_dict().items()}


def test_it_is_the_weighted_sum_of_the_weights_after_each_step(tmp_path: Path) -> None:
    run = loop(tmp_path, average=0.5)
    names = [name for name, _ in run.model.named_parameters()]
    expected = {name: value.detach().double().clone() for name, value in run.model.named_parameters()}
    for step, _ in enumerate(run.epoch()):
        decay = min(0.5, (1 + step) / (10 + step))
        for name, value in run.model.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * value.detach().double()
    assert all(torch.allclose(run.average[name].double(), expected[name], atol=1e-6) for name in names)


@pytest.mark.parametrize("reg", ["none", "spectral-norm"])
def test_the_model_is_as_it_was_after_a_look_at_the_average(tmp_path: Path, reg: str) -> None:
    run = loop(tmp_path, reg=reg)
    list(run.epoch())
    before = state(run)
    with run.averaged():
        assert all(torch.equal(value, run.average[name]) for name, value in run.model.named_parameters())
        inside = state(run)
    after = state(run)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert any(not torch.equal(before[name], inside[name]) for name in before)
    with pytest.raises(KeyError), run.averaged():
        raise KeyError
    assert all(torch.equal(before[name], value) for name, value in state(run).items())


def test_batch_norm_s_statistics_are_those_of_the_average(tmp_path: Path) -> None:
    """With one batch, they are that batch's mean and variance, computed by hand."""
    run = loop(tmp_path, batch_size=100)
    list(run.epoch())
    assert run.batches == 1
    norm = next(module for module in run.model.modules() if isinstance(module, torch.nn.BatchNorm2d))
    seen: list[torch.Tensor] = []
    with run.averaged():
        handle = norm.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
        run.model.train()
        run.model.encode(run.tensor(run.train_rows))
        handle.remove()
    with run.averaged():
        mean, var = norm.running_mean, norm.running_var
        assert mean is not None and var is not None
        assert torch.allclose(mean, seen[0].mean(dim=(0, 2, 3)), atol=1e-5)
        assert torch.allclose(var, seen[0].var(dim=(0, 2, 3)), rtol=1e-3)


def test_the_average_is_what_is_kept_and_without_one_the_last_weights_are(tmp_path: Path) -> None:
    for average in (0.9, 0.0):
        run = loop(tmp_path, average=average)
        list(run.epoch())
        run.end_epoch()
        kept = run.average or {name: value.detach() for name, value in run.model.named_parameters()}
        assert all(np.array_equal(run.best[name], value.numpy()) for name, value in kept.items())
        assert bool(run.average) is bool(average)


def test_a_state_that_is_not_finite_is_never_made(tmp_path: Path) -> None:
    run = loop(tmp_path)
    list(run.epoch())
    run.state()
    next(run.model.parameters()).data.fill_(float("nan"))
    with pytest.raises(raectl.RaectlError, match="no longer finite"):
        run.state()
