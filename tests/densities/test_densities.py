"""Contracts of every density, over the registry's names: a new one is tested the moment it is registered."""

import json

import numpy as np
import pytest
import torch

from raectl import registry
from raectl.densities import Density
from raectl.densities.flow import Flow
from raectl.errors import RaectlError, UsageError

# Options that make a variant worth its own run of the contracts; a name that is absent runs with its defaults.
VARIANTS = {
    "gmm": [{"components": 3, "covariance": kind} for kind in ("full", "tied", "diag", "spherical")],
    "bayesian-gmm": [{"components": 3, "covariance": kind} for kind in ("full", "tied", "diag", "spherical")],
    "student-t": [{"components": k} for k in (1, 3)],
    "vae": [{"components": k, "hidden": 32, "epochs": 1} for k in (None, 2)],
    "flow": [{"base": k, "transforms": 2, "hidden": 8, "epochs": 1} for k in (1, 2)],
}
CASES = [
    pytest.param(name, options, id="-".join([name, *map(str, options.values())]))
    for name in registry.names("density")
    for options in VARIANTS.get(name, [{}])
]
every_density = pytest.mark.parametrize(("name", "options"), CASES)
exact = [case for case in CASES if not registry.resolve("density", case.values[0]).log_prob_is_bound]
every_exact_density = pytest.mark.parametrize(("name", "options"), exact)


def latents(n=300, d=4, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(3, d)) * 4
    return (centres[rng.integers(0, 3, n)] + rng.normal(size=(n, d)) @ rng.normal(size=(d, d))).astype(np.float32)


def fitted(name, options, z=None, seed=0) -> Density:
    return registry.resolve("density", name)(**options).fit(latents() if z is None else z, seed=seed)


@every_density
def test_samples_and_log_prob_have_the_promised_form(name, options):
    density = fitted(name, options)
    z = density.sample(7)
    assert (density.dim, z.shape, z.dtype) == (4, (7, 4), torch.float32)
    log_prob = density.log_prob(z)
    assert (log_prob.shape, log_prob.dtype) == ((7,), torch.float64)
    assert log_prob.isfinite().all()
    assert z.isfinite().all()


@every_density
@pytest.mark.parametrize("d", [1, 2, 16, 64, 128])
def test_a_sample_depends_on_seed_and_index_alone(name, options, d):
    density = fitted(name, options, latents(d=d))
    whole = density.sample(64, seed=9)
    assert torch.equal(density.sample(16, seed=9), whole[:16])
    assert torch.equal(density.sample(48, seed=9, start=16), whole[16:])
    assert torch.equal(density.sample(1, seed=9, start=37), whole[37:38])
    assert torch.equal(density.sample(3000, seed=9)[:64], whole)
    assert (density.sample(64, seed=10) != whole).any(dim=1).all()
    far = density.sample(9000, seed=9)  # more than one block, and across their edges
    assert torch.equal(far[:3000], density.sample(3000, seed=9))
    assert torch.equal(far[2000:8500], torch.cat([density.sample(1300, 9, 2000 + 1300 * i) for i in range(5)]))


@every_density
def test_arrays_and_options_rebuild_the_density_bit_for_bit(name, options):
    density = fitted(name, options)
    stored = json.loads(json.dumps(density.settings))
    again = type(density).from_arrays({key: array.copy() for key, array in density.to_arrays().items()}, **stored)
    z = density.sample(50, seed=3)
    assert torch.equal(again.sample(50, seed=3), z)
    assert torch.equal(again.log_prob(z), density.log_prob(z))
    assert (again.settings, again.dim) == (density.settings, density.dim)


@every_density
def test_arrays_are_copies(name, options):
    density = fitted(name, options)
    before = density.sample(5)
    for array in density.to_arrays().values():
        np.add(array, 1, out=array)
    assert torch.equal(density.sample(5), before)


@every_density
def test_fitting_is_deterministic(name, options):
    first, second = (fitted(name, options, seed=5).to_arrays() for _ in range(2))
    assert all(np.array_equal(first[key], second[key]) for key in first)


@every_density
def test_fitting_leaves_the_latents_and_global_random_states_alone(name, options):
    z = latents()
    torch.manual_seed(1)
    np.random.seed(1)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(1)
    np.random.seed(1)
    fitted(name, options, z).sample(5)
    assert (torch.rand(1), np.random.rand()) == expected
    assert np.array_equal(z, latents())


@every_density
def test_any_array_of_numbers_will_do(name, options):
    z = latents()
    expected = fitted(name, options, z).log_prob(z[:5])
    fixed, tensor = z.copy(), torch.from_numpy(z)
    fixed.flags.writeable = False  # as of a memory-mapped file
    flipped = np.ascontiguousarray(z[::-1])[::-1]
    for same in (z.tolist(), tensor, z.astype(np.float64), tensor.clone().requires_grad_(), fixed, flipped):
        torch.testing.assert_close(fitted(name, options, same).log_prob(z[:5]), expected, rtol=1e-3, atol=1e-3)


@every_exact_density
def test_log_prob_integrates_to_one(name, options):
    density = fitted(name, options, latents(d=1))
    grid = np.linspace(-60, 60, 200_001)
    assert np.trapezoid(density.log_prob(grid[:, None]).exp().numpy(), grid) == pytest.approx(1, abs=1e-4)


@every_density
def test_log_prob_of_a_row_is_its_own(name, options):
    density = fitted(name, options)
    z = density.sample(30_000)
    torch.testing.assert_close(density.log_prob(z)[20_000:20_010], density.log_prob(z[20_000:20_010]))


@every_exact_density
def test_samples_follow_log_prob(name, options):
    """E[p'(z) / p(z)] = 1 for z ~ p and any density p', here p moved a little."""
    density = fitted(name, options, latents(d=2))
    z = density.sample(40_000).double()
    for move in (torch.tensor([0.2, 0.0]), torch.tensor([0.0, -0.2])):
        ratio = (density.log_prob(z + move) - density.log_prob(z)).exp()
        assert float(ratio.mean()) == pytest.approx(1, abs=6 * float(ratio.std()) / 200)


@every_density
@pytest.mark.parametrize(
    "z",
    [np.zeros((3, 2)), np.ones((1, 1)), np.arange(3.0)[:, None] * 1e-20, np.array([[1e17, 0.0], [-1e17, 1e-17]] * 2)],
    ids=["identical", "single", "tiny", "huge"],
)
def test_degenerate_latents_give_finite_results(name, options, z):
    options = {**options, "components": 1} if options.get("components") else options
    if name == "bayesian-gmm" and len(z) == 1:
        with pytest.raises(RaectlError, match="needs two latents"):
            fitted(name, options, z)
        return
    density = fitted(name, options, z)
    assert density.sample(20).isfinite().all()
    assert density.log_prob(z).isfinite().all()


@every_density
@pytest.mark.parametrize(
    ("z", "says"),
    [
        (np.zeros(3), "shape"),
        (np.zeros((0, 3)), "shape"),
        (np.zeros((3, 0)), "shape"),
        ([["a"]], "numbers"),
        (np.ones((4, 2), dtype=complex), "real"),
        (np.array([[0.0, np.nan], [0.0, 1.0], [np.inf, 0.0]]), "2 of 3 latents are not finite"),
        (np.array([[1e19, 0.0]]), "1 of 1 latents is not finite"),
    ],
)
def test_unusable_latents_are_clear_errors(name, options, z, says):
    with pytest.raises(RaectlError, match=says):
        fitted(name, options, z)
    with pytest.raises(RaectlError, match=says):
        fitted(name, options).log_prob(z)


@every_density
def test_misuse_is_a_clear_error(name, options):
    density = registry.resolve("density", name)(**options)
    for use in (lambda: density.sample(1), lambda: density.log_prob([[0.0]]), density.to_arrays):
        with pytest.raises(RaectlError, match="not fitted"):
            use()
    density.fit(latents())
    with pytest.raises(RaectlError, match="7 dimensions"):
        density.log_prob(np.zeros((1, 7)))
    for wrong in ({"n": 0}, {"n": 1.5}, {"n": 1, "seed": -1}, {"n": 1, "start": -1}):
        with pytest.raises(UsageError, match=r"^n=|^start=|seed"):
            density.sample(**wrong)
    with pytest.raises(UsageError, match="seed"):
        density.fit(latents(), seed=-1)
    with pytest.raises(UsageError, match="'no_such_option'"):
        type(density)(no_such_option=1)


@every_density
def test_hostile_arrays_are_clear_errors(name, options):
    density = fitted(name, options)
    arrays = density.to_arrays()
    for key, array in arrays.items():
        bad, other = np.full_like(array, np.nan), np.float64 if array.dtype == np.float32 else np.float32
        changes = [{key: bad}, {key: array.astype(other)}, {key: array[..., None]}, {key: -array}, {"new": array}]
        if key.rpartition(".")[2] in ("mean", "means", "latents") or array.dtype == np.float32:
            changes.pop(3)  # a mean, or a network's weight, may have either sign
        for change in changes:
            with pytest.raises(RaectlError, match=f"no {name} density"):
                type(density).from_arrays({**arrays, **change}, **density.settings)
        with pytest.raises(RaectlError, match="missing"):
            type(density).from_arrays({k: a for k, a in arrays.items() if k != key}, **density.settings)
    with pytest.raises(UsageError, match="has no option"):
        type(density).from_arrays(arrays, **density.settings, weight=1)


@pytest.mark.parametrize("value", [0, -1.0, np.inf, np.nan, True, "1", None])
def test_what_must_be_positive_is_also_finite(value):
    with pytest.raises(UsageError, match=r"^lr=.* is (no finite number|out of range: above 0)"):
        Flow(lr=value)
    assert Flow(lr=np.float32(0.5)).settings["lr"] == 0.5 and type(Flow(bins=np.int64(3)).bins) is int
