"""The loop that fits densities: what is kept, clipped and told, in closed form."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from raectl.densities import networks as training
from raectl.densities.fitting import fit
from raectl.densities.networks import NetworkDensity, Recipe, fit_network, set_aside
from raectl.progress import Progress


class Slope(nn.Module):
    """One weight, 0 at first. Adam moves it by the learning rate at each step if its gradient stays the same."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


def test_what_is_kept_is_a_running_average_that_forgets_the_start():
    module, x = Slope(), torch.zeros(12, 1)
    recipe = Recipe(epochs=3, batch_size=4, lr=0.1, patience=5, gain=0.0, average=0.3)
    fit_network(module, lambda rows, generator: module.weight.sum(), x, x, recipe, 0, Progress())
    weight = kept = 0.0
    for step in range(1, 10):
        weight -= 0.1
        retained = min(0.3, step / (step + 10))
        kept = retained * kept + (1 - retained) * weight
    assert float(module.weight.detach()) == pytest.approx(kept, rel=1e-5)


def test_longer_gradients_are_scaled_to_the_longest_allowed():
    """Then they are all equally long, and the weight moves by the learning rate, however long they were."""
    module, x = Slope(), torch.arange(1.0, 13.0)[:, None]
    recipe = Recipe(epochs=2, batch_size=4, lr=0.1, patience=5, gain=0.0, clip=0.5)
    fit_network(module, lambda rows, generator: (module.weight * rows).mean(), x, x, recipe, 0, Progress())
    assert float(module.weight.detach()) == pytest.approx(-0.6, rel=1e-4)


class Recording(Progress):
    def __init__(self):
        self.steps, self.epochs = [], []

    def step(self, *told):
        self.steps.append(told)

    def epoch(self, record):
        self.epochs.append((record["items_per_second"], record["seconds"]))


def test_progress_tells_the_mean_loss_the_rate_and_what_is_left(monkeypatch):
    """Every step takes half a second for two rows, and its loss is its number: 120 steps an epoch, two epochs."""
    module, x, progress, made = Slope(), torch.zeros(240, 1), Recording(), []

    def loss(rows, generator):
        if torch.is_grad_enabled():
            made.append(0.5)
        return module.weight.sum() * 0 + len(made)

    monkeypatch.setattr(training, "time", SimpleNamespace(perf_counter=lambda: sum(made)))
    fit_network(module, loss, x, x[:1], Recipe(epochs=2, batch_size=2, lr=0.1, patience=5, gain=0.0), 0, progress)
    assert progress.steps == [
        (1, 50, 120, {"loss": 25.5}, 4.0, 95.0),
        (1, 100, 120, {"loss": 50.5}, 4.0, 70.0),
        (2, 50, 120, {"loss": 145.5}, 4.0, 35.0),
        (2, 100, 120, {"loss": 170.5}, 4.0, 10.0),
    ]
    assert progress.epochs == [(4.0, 60.0), (4.0, 60.0)]


@pytest.mark.parametrize(("n", "aside"), [(2, 1), (19, 1), (20, 2), (25, 2)])
def test_a_tenth_is_set_aside_and_not_fitted_to(n, aside):
    fitted, held_out = set_aside(torch.arange(n), 3)
    assert len(held_out) == aside
    assert torch.cat([fitted, held_out]).sort().values.tolist() == [*range(n)]


def test_a_single_row_serves_as_both():
    assert [part.tolist() for part in set_aside(torch.tensor([[7.0]]), 3)] == [[[7.0]], [[7.0]]]


@pytest.mark.parametrize(("n", "steps"), [(12, 51), (40, 50), (1000, 250)])
def test_an_epoch_of_few_rows_has_the_least_number_of_steps(n, steps):
    """Whole passes over the rows, so it may be some more; an epoch of many rows is one pass."""
    module, x, made = Slope(), torch.zeros(n, 1), []

    def loss(rows, generator):
        made.extend([len(rows)] if torch.is_grad_enabled() else [])
        return module.weight.sum() * 0

    recipe = Recipe(epochs=1, batch_size=4, lr=0.1, patience=5, gain=0.0, least_steps=50)
    fit_network(module, loss, x, x, recipe, 0, Progress())
    assert made == [4] * steps


class Drawn(NetworkDensity):
    """A network that is judged alone."""

    name = "drawn"
    _draw_block = _to_arrays = _fit = _log_prob = _adopt = None


Drawn.__abstractmethods__ = frozenset()


def test_the_spread_is_judged_in_each_dimension_too():
    z = torch.randn(2000, 6, generator=torch.Generator().manual_seed(0))
    for factors, said in (
        ([1.0] * 6, None),
        ([0.85] * 6, None),
        ([0.4] * 6, "samples are 0.4 times as wide as the latents: the density underfits"),
        ([0.4, 1.3, 1.0, 1.0, 1.2, 1.0], "more than twice as wide as the latents in 1 of 6 dimensions: the density"),
    ):
        density = Drawn()
        density._judge_spread((z * torch.tensor(factors)).numpy(), z, z.std(dim=0).double())
        assert density.underfits is (said is not None)
        assert (said or "") in "".join(density.notices) and len(density.notices) == density.underfits
    density._judge_spread(z.numpy(), z, z.std(dim=0).double())
    assert not density.underfits, "of the last fit"


def test_a_network_below_a_gaussian_underfits_and_is_not_said_to_overfit(monkeypatch):
    monkeypatch.setattr(NetworkDensity, "_judge_spread", lambda *_: None)  # which sees nothing here
    z = np.random.default_rng(0).normal(size=(300, 8))
    density = fit("vae", z[:20], z[20:] * 3, hidden=8, epochs=1, lr=1e-9, beta=1e-6).density
    assert density.underfits
    said = " ".join(density.notices)
    assert "latents are likelier under a single Gaussian, by" in said and "overfits" not in said
