"""The flow: it integrates to one, knows shapes that a Gaussian does not, and does not mind its latents' units."""

import numpy as np
import pytest
import torch
from sklearn.datasets import make_moons

from raectl.densities import GMM, Gaussian, flow
from raectl.densities.flow import Flow
from raectl.errors import RaectlError, UsageError

FAST = {"base": 1, "transforms": 4, "hidden": 24, "epochs": 25, "lr": 1e-2, "batch_size": 128}
SHEAR, SHIFT = np.array([[30.0, 8.0], [0.0, 0.5]]), np.array([100.0, -7.0])


def moons(n=1000, seed=0):
    """Correlated, shifted, and of very unlike scales."""
    return make_moons(n, noise=0.1, random_state=seed)[0] @ SHEAR + SHIFT


@pytest.fixture(scope="module")
def fitted():
    return Flow(**FAST).fit(moons(), seed=1)


def test_it_integrates_to_one_in_the_plane(fitted):
    x, y = np.linspace(-3, 4, 250), np.linspace(-3, 3.5, 250)
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    cell = (x[1] - x[0]) * (y[1] - y[0]) * np.linalg.det(SHEAR)
    total = float(fitted.log_prob(grid @ SHEAR + SHIFT).exp().sum()) * cell
    assert total == pytest.approx(1, abs=0.01)


def test_held_out_moons_are_likelier_than_under_a_gaussian(fitted):
    z = moons(500, seed=9)
    gaussian = Gaussian().fit(moons())
    assert float(fitted.log_prob(z).mean()) > float(gaussian.log_prob(z).mean()) + 0.5
    # and its samples are moons: likely under it as fresh data are, which those of the Gaussian are not
    typical = float(fitted.log_prob(z).quantile(0.05))
    share = [
        float((fitted.log_prob(s) > typical).double().mean()) for s in (fitted.sample(1000), gaussian.sample(1000))
    ]
    assert share[0] > 0.85 and share[1] < 0.7


def test_rescaling_latents_rescales_the_density(fitted):
    """log p_a(a z) = log p(z) - d log a, up to what rounding does to a fit."""
    scale = 2.0**10
    other = Flow(**FAST).fit(moons() * scale, seed=1)
    z = moons(300, seed=9)
    shifted = other.log_prob(z * scale) + 2 * np.log(scale)
    assert float((shifted - fitted.log_prob(z)).abs().mean()) < 0.05


def test_the_initial_flow_is_the_gaussian():
    z = moons(200)
    flow = Flow(base=1, transforms=2, hidden=4, epochs=1, lr=1e-30).fit(z)
    assert float((flow.log_prob(z) - Gaussian().fit(z).log_prob(z)).abs().mean()) < 0.1, "but for the tenth set aside"
    assert flow.stats["best_epoch"] in (0, 1)


def test_the_base_is_chosen_by_latents_set_aside():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(5, 2))[rng.integers(0, 5, 600)] * 10 + rng.normal(size=(600, 2))
    flow = Flow(transforms=1, hidden=4, epochs=1).fit(z)
    assert 5 <= flow.stats["base"] == len(flow.to_arrays()["base.weights"]) <= 20
    assert flow.settings["base"] is None
    again = Flow.from_arrays(flow.to_arrays(), **flow.settings)
    assert torch.equal(again.sample(20), flow.sample(20))
    gmm = GMM(components=flow.stats["base"]).fit(z)
    assert float(flow.log_prob(z).mean()) == pytest.approx(float(gmm.log_prob(z).mean()), abs=0.1)


def test_log_prob_is_the_change_of_variables(fitted):
    """By automatic differentiation of the whole map, not by its own bookkeeping."""
    z, arrays = torch.from_numpy(moons(8, seed=3)), fitted.to_arrays()
    mean, covariance = (torch.from_numpy(arrays[f"base.{name}"][0]) for name in ("means", "covariances"))
    q = torch.distributions.MultivariateNormal(mean, covariance)

    def normalised(row):
        return fitted._transform(fitted._whiten(row[None]))[0, :-1]

    for row, log_prob in zip(z, fitted.log_prob(z), strict=True):
        log_det = torch.linalg.slogdet(torch.autograd.functional.jacobian(normalised, row)).logabsdet
        base = q.log_prob(normalised(row))
        assert float(log_prob) == pytest.approx(float((base + log_det).detach()), abs=1e-8)


def test_sampling_inverts_the_map(fitted):
    z = fitted.sample(256, seed=4)
    back = fitted._transform(fitted._whiten(z))[:, :-1].detach()
    torch.testing.assert_close(back, torch.from_numpy(fitted._base.draw(4, 0, 256)), rtol=0, atol=2e-3)


@pytest.mark.parametrize("n", [1, 7, 64, 1000])
def test_a_row_depends_on_seed_and_index_alone(fitted, n):
    whole = fitted.sample(1500, seed=5)
    fitted.sample(3, seed=6)
    assert torch.equal(fitted.sample(n, seed=5), whole[:n])
    assert torch.equal(fitted.sample(n, seed=5, start=333), whole[333 : 333 + n])
    z = moons(1000)
    assert torch.equal(fitted.log_prob(z)[:n], fitted.log_prob(z[:n]))


def test_arrays_rebuild_it_bit_for_bit(fitted):
    state = torch.random.get_rng_state()
    again = Flow.from_arrays(fitted.to_arrays(), **fitted.settings)
    assert torch.equal(torch.random.get_rng_state(), state), "building it draws nothing"
    assert torch.equal(again.sample(100, seed=2), fitted.sample(100, seed=2))
    assert torch.equal(again.log_prob(moons(50)), fitted.log_prob(moons(50)))
    arrays = again.to_arrays()
    assert all(np.array_equal(array, arrays[name]) for name, array in fitted.to_arrays().items())


def test_seeds_decide_the_fit():
    options = {"base": 1, "transforms": 1, "hidden": 4, "epochs": 1}
    first, again, other = (Flow(**options).fit(moons(100), seed).to_arrays() for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["0.hyper.0.weight"], other["0.hyper.0.weight"])


def test_damaged_arrays_are_refused(fitted):
    arrays, options = fitted.to_arrays(), fitted.settings
    upper = {**arrays, "factor": arrays["factor"].T.copy()}
    flat = {**arrays, "factor": np.zeros_like(arrays["factor"])}
    for damaged in (upper, flat, {**arrays, "mean": arrays["mean"][:1]}):
        with pytest.raises(RaectlError, match="no flow density"):
            Flow.from_arrays(damaged, **options)
    for name, value in {"hidden": 10**7, "transforms": 10**4, "bins": 10**4}.items():
        with pytest.raises(RaectlError, match="no flow density"):
            Flow.from_arrays(arrays, **{**options, name: value})


def test_options_are_checked_before_work():
    for wrong in (
        {"base": 0},
        {"transforms": 0},
        {"hidden": 0},
        {"bins": 1},
        {"epochs": 0},
        {"batch_size": 0},
        {"lr": -1},
    ):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            Flow(**wrong)
    least = {"base": 1, "transforms": 1, "hidden": 1, "bins": 2, "epochs": 1, "batch_size": 1, "lr": 1e-9}
    assert Flow(**least).settings == least


@pytest.mark.parametrize(("n", "epochs"), [(200, 6000), (1000, 2000)])
def test_by_default_it_makes_six_thousand_steps(monkeypatch, n, epochs):
    """Of 256 latents, or of all if there are fewer; a tenth is set aside."""
    recipes = []

    def fit_network(module, loss, x, held_out, recipe, seed, progress):
        recipes.append(recipe)
        return {}

    monkeypatch.setattr(flow, "fit_network", fit_network)
    Flow(base=1).fit(moons(n))
    assert [recipe.epochs for recipe in recipes] == [epochs]


@pytest.mark.parametrize("transforms", [1, 2, 3])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_the_number_of_parameters_is_that_of_its_networks(d, transforms):
    untrained = Flow(transforms=transforms, hidden=3, bins=4)
    networks = untrained._build(d, 0)
    assert untrained._numbers(d) == sum(parameter.numel() for parameter in networks.parameters())


@pytest.mark.parametrize("d", [4, 5])
def test_the_halves_change_their_parts_and_then_come_others(d):
    masks = [coupling.mask for coupling in Flow(transforms=4, hidden=2)._build(d, 0)]
    assert torch.equal(masks[1], ~masks[0]) and torch.equal(masks[3], ~masks[2])
    assert not torch.equal(masks[0], masks[2])
    assert {int(mask.sum()) for mask in masks} == {d // 2, (d + 1) // 2}
