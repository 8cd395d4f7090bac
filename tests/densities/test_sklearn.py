"""Densities that scikit-learn has as well: the same numbers."""

import numpy as np
import pytest
import torch
from sklearn.mixture import BayesianGaussianMixture
from sklearn.neighbors import KernelDensity

from raectl.densities.kde import KDE
from raectl.densities.mixtures.bayesian_gmm import BayesianGMM

rng = np.random.default_rng(0)
Z = np.concatenate([rng.normal(size=(150, 3)), rng.normal(size=(100, 3)) * 0.3 + 4]).astype(np.float32)
NEW = rng.normal(size=(40, 3)) * 3
MEAN, SCALE = Z.mean(axis=0, dtype=np.float64), Z.std(axis=0, dtype=np.float64)


@pytest.mark.parametrize("bandwidth", [0.1, 0.425, 2.0])
def test_kde_is_scikit_learns(bandwidth):
    # One leaf: scikit-learn's tree is off by 10 % in the far tails, in logarithms, whatever its tolerances.
    theirs = KernelDensity(bandwidth=bandwidth, leaf_size=1000).fit(Z / SCALE).score_samples(NEW / SCALE)
    theirs -= np.log(SCALE).sum()
    ours = KDE(bandwidth=bandwidth).fit(Z).log_prob(NEW).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_kde_over_more_latents_than_one_block(monkeypatch):
    whole = KDE().fit(Z).log_prob(NEW)
    monkeypatch.setattr("raectl.densities.kde._COLUMNS", 64)
    torch.testing.assert_close(KDE().fit(Z).log_prob(NEW), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_bayesian_gmm_is_scikit_learns_posterior_mean(covariance):
    scale = np.full(3, np.sqrt((SCALE**2).mean())) if covariance == "spherical" else SCALE
    theirs = BayesianGaussianMixture(
        n_components=5, covariance_type=covariance, max_iter=500, weight_concentration_prior=1 / 5, random_state=7
    ).fit((Z - MEAN) / scale)
    ours = BayesianGMM(components=5, covariance=covariance).fit(Z, seed=7)
    arrays = ours.to_arrays()
    np.testing.assert_allclose((arrays["means"] - MEAN) / scale, theirs.means_, rtol=1e-8, atol=1e-8)
    squares = {"diag": scale**2, "spherical": scale[0] ** 2}.get(covariance, np.outer(scale, scale))
    np.testing.assert_allclose(arrays["covariances"], theirs.covariances_ * squares, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(arrays["weights"], theirs.weights_, rtol=1e-9)
    assert ours.stats["iterations"] == theirs.n_iter_ and ours.stats["converged"]


def test_bayesian_gmm_leaves_components_empty():
    density = BayesianGMM(components=20).fit(Z)
    assert 2 <= density.stats["components_in_use"] < 20


def test_bayesian_gmm_says_when_it_did_not_converge():
    density = BayesianGMM(components=5, max_iter=1).fit(Z)
    assert not density.stats["converged"] and "converge" in density.notices[0]
