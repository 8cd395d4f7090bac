"""Latents in other units, in another order, in double precision: the density follows, and nothing else changes."""

import numpy as np
import pytest
import torch
from support.densities import CASES, OPTIONS, every_fitted, fitted

from raectl.checkpoint.latent_files import read_latents
from raectl.densities.standard_normal import StandardNormal

NETWORKS = ("vae", "flow")
DIMENSIONS = np.array([1e-4, 30.0, 1e3, 0.39])


def latents(n=300, d=4, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(3, d)) * 6
    return centres[np.arange(n) % 3] + rng.normal(size=(n, d)) @ rng.normal(size=(d, d))


@every_fitted
@pytest.mark.parametrize("scale", [np.full(4, 1e-4), np.full(4, 1e4), DIMENSIONS], ids=["tiny", "huge", "each"])
def test_scaling_and_shifting_does_that_to_the_density_and_nothing_else(name, options, scale):
    if options.get("covariance") == "spherical":
        scale = np.full(4, scale[1])  # one variance for all dimensions knows one scale
    z, shift = latents(), scale * [5.0, -7.0, 0.0, 1.0]
    before, after = fitted(name, options, z), fitted(name, options, z * scale + shift)
    spread = z.std(axis=0)
    x = (after.sample(200).double().numpy() - shift) / scale
    np.testing.assert_allclose(x / spread, before.sample(200).double().numpy() / spread, rtol=0, atol=1e-4)
    expected = before.log_prob(z) - np.log(scale).sum()
    torch.testing.assert_close(after.log_prob(z * scale + shift), expected, rtol=1e-4, atol=1e-3)
    assert after.notices == before.notices


@every_fitted
def test_float32_scaled_by_a_power_of_two_is_the_same(name, options):
    z = latents().astype(np.float32)
    before, after = fitted(name, options, z), fitted(name, options, z * np.float32(2**-13))
    torch.testing.assert_close(after.sample(100) * 2**13, before.sample(100), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "options"), [case for case in CASES if case.values[0] not in NETWORKS])
def test_mirrored_and_permuted_dimensions_have_the_same_density(name, options):
    """Its samples have that density, but with other random numbers; a network starts at other weights besides."""
    order, sign = [2, 0, 3, 1], np.array([1.0, -1.0, -1.0, 1.0])
    z = latents()
    before, after = fitted(name, options, z), fitted(name, options, (z * sign)[:, order])
    torch.testing.assert_close(after.log_prob((z * sign)[:, order]), before.log_prob(z), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_permuted_dimensions_give_a_network_that_is_as_good(name):
    options = {"vae": {"hidden": 32, "epochs": 30, "lr": 1e-2, "beta": 0.05}}.get(name, OPTIONS["flow"][0])
    order, z = [2, 0, 3, 1], latents()
    before, after = fitted(name, options, z), fitted(name, options, z[:, order])
    gap = float(after.log_prob(z[:, order]).mean() - before.log_prob(z).mean())
    assert abs(gap) / 4 < 0.25


def test_a_kernel_is_as_wide_as_the_latents_are():
    z = np.random.default_rng(0).normal(size=(2200, 8)).astype(np.float32) * np.float32(1e-4)
    spread = fitted("kde", {}, z).sample(20_000).std(dim=0).numpy()
    np.testing.assert_allclose(spread, np.sqrt(1 + 0.425**2) * z.std(axis=0), rtol=0.03)


@every_fitted
def test_double_precision_far_from_zero_is_kept(name, options):
    x = latents(d=3)
    near, far = fitted(name, options, x), fitted(name, options, 1e6 + x * 1e-2)
    samples = far.sample(200)
    assert samples.dtype == torch.float64 and near.sample(1).dtype == torch.float32
    np.testing.assert_allclose((samples.numpy() - 1e6) * 100, near.sample(200), rtol=0, atol=5e-3)
    assert far.notices == near.notices
    again = type(far).from_arrays(far.to_arrays(), **far.settings)
    assert torch.equal(again.sample(200), samples)


def test_python_numbers_are_doubles():
    z = (1e6 + np.random.default_rng(0).normal(0, 1e-2, (100, 2))).tolist()
    density = fitted("gaussian", {}, z)
    assert density.notices == []
    np.testing.assert_allclose(density.sample(2000).std(dim=0), [1e-2] * 2, rtol=0.2)


def test_a_file_of_doubles_is_fitted_and_sampled_in_double_precision(cli, tmp_path):
    z = 1e6 + np.random.default_rng(0).normal(0, 1e-2, (2000, 4))
    np.save(tmp_path / "z.npy", z)
    assert np.array_equal(read_latents(tmp_path / "z.npy"), z)
    result = cli("fit-density", tmp_path / "d", "--latents", tmp_path / "z.npy", "--components", 1)
    assert "constant" not in result.err
    cli("sample", tmp_path / "d", "-n", 500, "-o", tmp_path / "new.npy")
    np.testing.assert_allclose(np.load(tmp_path / "new.npy").std(axis=0), z.std(axis=0), rtol=0.15)


@pytest.mark.parametrize(("deviation", "figure"), [(0.39, "0.39"), (0.002, "0.002"), (5.0, "5")])
def test_the_standard_normal_says_how_wide_the_latents_are(deviation, figure):
    z = np.random.default_rng(0).normal(0, deviation, (20_000, 8))
    (notice,) = StandardNormal().fit(z).notices
    assert f"standard deviation is {figure} " in notice and "--density gaussian" in notice
    (notice,) = StandardNormal().fit(z / deviation + 3).notices
    assert "mean 3 from 0" in notice
    assert StandardNormal().fit(z / deviation).notices == []
