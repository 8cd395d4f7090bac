"""Densities against SciPy, scikit-learn and closed forms."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.mixture import GaussianMixture

from raectl.densities import choose_components
from raectl.densities.covariance import COVARIANCES
from raectl.densities.gaussian import Gaussian
from raectl.densities.latents.standardizer import Standardizer
from raectl.densities.mixtures.gmm import GMM
from raectl.densities.mixtures.start import fit_mixture, start_mixture
from raectl.densities.standard_normal import StandardNormal
from raectl.errors import RaectlError, UsageError
from raectl.rng import normals

KINDS = tuple(COVARIANCES)


def curved(n=2000, d=3, seed=0):
    """Latents that no small mixture fits exactly, of mean about 0 and deviation about 1."""
    rng = np.random.default_rng(seed)
    z = np.tanh(rng.normal(size=(n, d)) @ rng.normal(size=(d, 2 * d))) @ rng.normal(size=(2 * d, d))
    return (z - z.mean(axis=0)) / z.std(axis=0) + 0.05 * rng.normal(size=(n, d))


def clusters(n=600, seed=0):
    rng = np.random.default_rng(seed)
    return np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])[rng.integers(0, 3, n)] + rng.normal(size=(n, 2))


def natural_covariances(arrays, kind, k, d):
    """(K, d, d) from the shape in files, written without the code under test."""
    c = arrays["covariances"]
    return {
        "full": lambda: c,
        "tied": lambda: np.stack([c] * k),
        "diag": lambda: np.stack([np.diag(row) for row in c]),
        "spherical": lambda: np.stack([value * np.eye(d) for value in c]),
    }[kind]()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_mixture_log_prob_is_scipys(kind, offset):
    z = curved() * 0.01 + offset
    gmm = GMM(components=4, covariance=kind).fit(z)
    arrays = gmm.to_arrays()
    covariances = natural_covariances(arrays, kind, 4, 3)
    expected = np.logaddexp.reduce(
        [
            np.log(w) + stats.multivariate_normal(mu, sigma).logpdf(z)
            for w, mu, sigma in zip(arrays["weights"], arrays["means"], covariances, strict=True)
        ]
    )
    np.testing.assert_allclose(gmm.log_prob(z), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_fitted_mixture_is_scikit_learns_from_the_same_start(kind):
    z, k = curved(), 5
    standardizer = Standardizer.fit(torch.from_numpy(z))
    standardizer = standardizer.isotropic() if kind == "spherical" else standardizer
    first = start_mixture(torch.from_numpy(z), standardizer, COVARIANCES[kind], k, seed=0, ridge=1e-6)
    means = (first.means * standardizer.scale + standardizer.centre).numpy()
    covariances = COVARIANCES[kind].rescale(first.covariances, standardizer.scale)
    shaped = covariances.numpy().reshape(COVARIANCES[kind].file_shape(k, 3))
    theirs = GaussianMixture(
        k,
        covariance_type=kind,
        weights_init=first.weights.numpy(),
        means_init=means,
        precisions_init=np.linalg.inv(shaped) if kind in ("full", "tied") else 1 / shaped,
        max_iter=200,
    ).fit(z)
    for data, tolerance in ((z, 1e-5), (z.astype(np.float32), 1e-3)):
        ours = GMM(components=k, covariance=kind).fit(data)
        assert ours.stats["converged"]
        assert ours.stats["iterations"] == pytest.approx(theirs.n_iter_, abs=1)
        assert ours.stats["log_likelihood"] == pytest.approx(theirs.lower_bound_, rel=tolerance)
        assert float(ours.log_prob(data).mean()) == pytest.approx(ours.stats["log_likelihood"], rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_bic_is_scikit_learns(kind):
    z, k = curved(), 3
    gmm = GMM(components=k, covariance=kind).fit(z)
    theirs = GaussianMixture(k, covariance_type=kind).fit(z)
    assert gmm.stats["parameters"] == theirs._n_parameters()
    expected = theirs._n_parameters() * np.log(len(z)) - 2 * float(gmm.log_prob(z).sum())
    assert gmm.stats["bic"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_likelihood_never_falls(kind, dtype):
    z = torch.from_numpy(curved(d=5)).to(dtype)
    standardizer = Standardizer.fit(z).isotropic()
    # A small ridge: what it adds to the variances is not part of the likelihood that EM climbs.
    history = fit_mixture(z, standardizer, COVARIANCES[kind], 6, seed=0, max_iter=60, tol=1e-9, ridge=1e-9).history
    assert len(history) > 10
    assert np.diff(history).min() > -1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_one_component_has_the_moments_of_the_data(kind):
    z = curved() * [1.0, 10.0, 0.1] + 3
    arrays = GMM(components=1, covariance=kind).fit(z).to_arrays()
    covariance = np.cov(z.T, bias=True)
    expected = {
        "full": covariance[None],
        "tied": covariance,
        "diag": covariance.diagonal()[None],
        "spherical": covariance.diagonal().mean(keepdims=True),
    }[kind]
    np.testing.assert_allclose(arrays["means"][0], z.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(arrays["covariances"], expected, rtol=1e-5, atol=1e-9)


def test_gaussian_is_the_closed_form():
    z = curved() * [1.0, 10.0, 0.1] + 3
    gaussian = Gaussian().fit(z)
    arrays = gaussian.to_arrays()
    covariance = np.cov(z.T, bias=True)
    np.testing.assert_allclose(arrays["mean"], z.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(arrays["covariance"], covariance + 1e-6 * np.diag(covariance.diagonal()), rtol=1e-9)
    expected = stats.multivariate_normal(arrays["mean"], arrays["covariance"]).logpdf(z)
    np.testing.assert_allclose(gaussian.log_prob(z), expected, rtol=1e-6)
    told = gaussian.stats
    assert told["log_likelihood"] == pytest.approx(expected.mean())
    assert told["parameters"] == 3 + 6
    assert told["bic"] == pytest.approx(9 * np.log(len(z)) - 2 * expected.sum())


def test_latents_far_from_the_origin_keep_their_place():
    z = (curved() * 0.01 + 1e4).astype(np.float32)
    arrays = GMM(components=1).fit(z).to_arrays()
    np.testing.assert_allclose(arrays["means"][0], z.mean(axis=0, dtype=np.float64), rtol=1e-9)
    np.testing.assert_allclose(
        arrays["covariances"][0], np.cov(z.T.astype(np.float64), bias=True), rtol=1e-3, atol=1e-9
    )


def test_standard_normal_is_scipys():
    z = curved()
    np.testing.assert_allclose(StandardNormal().fit(z).log_prob(z), stats.norm.logpdf(z).sum(axis=1))


@pytest.mark.parametrize("kind", KINDS)
def test_sample_moments_are_the_mixtures(kind):
    gmm = GMM(components=4, covariance=kind).fit(curved())
    arrays = gmm.to_arrays()
    w, mu, sigma = arrays["weights"], arrays["means"], natural_covariances(arrays, kind, 4, 3)
    mean = w @ mu
    covariance = np.einsum("k,kij->ij", w, sigma) + np.einsum("k,ki,kj->ij", w, mu - mean, mu - mean)
    z = gmm.sample(100_000).numpy()
    np.testing.assert_allclose(z.mean(axis=0), mean, atol=0.02)
    np.testing.assert_allclose(np.cov(z.T), covariance, atol=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_mean_and_factor_times_noise_of_their_component(kind):
    gmm = GMM(components=4, covariance=kind).fit(curved())
    arrays = gmm.to_arrays()
    factors = np.linalg.cholesky(natural_covariances(arrays, kind, 4, 3))
    rows, component = gmm.parameters.choose(5, 0, 500)
    assert np.array_equal(np.sort(rows), np.arange(500)) and (np.diff(component) >= 0).all()
    np.testing.assert_allclose(np.bincount(component, minlength=4) / 500, arrays["weights"], atol=0.1)
    expected = np.empty((500, 3))
    for row, k, e in zip(rows, component, normals(5, 0, 500, 3), strict=True):
        expected[row] = arrays["means"][k] + factors[k] @ e
    np.testing.assert_allclose(gmm.parameters.draw(5, 0, 500), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_rescaled_latents_have_the_rescaled_density(kind):
    k, scale = 3, np.full(3, 1e-6) if kind == "spherical" else np.array([1e-6, 1.0, 1e6])
    z = curved()
    before, after = (GMM(components=k, covariance=kind).fit(data).log_prob(data) for data in (z, z * scale))
    torch.testing.assert_close(after, before - np.log(scale).sum(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [1, 2, 16])
def test_degenerate_latents_are_survived(kind, d):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(40, d)).astype(np.float32)
    constant = z.copy()
    constant[:, 0] = 7.3
    cases = [
        (z, 1),
        (z, 40),
        (np.repeat(z[:3], 10, axis=0), 10),
        (np.full_like(z, 0.1), 5),
        (constant, 4),
        (z * 1e-12 + 1.0, 4),
        (np.concatenate([z * 1e-7, z * 1e-7 + 1e6]), 2),
    ]
    for data, k in cases:
        gmm = GMM(components=k, covariance=kind).fit(data)
        arrays = gmm.to_arrays()
        assert all(np.isfinite(array).all() for array in arrays.values())
        assert np.isfinite(list(gmm.stats.values())).all()
        assert gmm.log_prob(data).isfinite().all()
        assert gmm.sample(50).isfinite().all()
        again = GMM.from_arrays(arrays, **gmm.settings)
        assert torch.equal(again.sample(50), gmm.sample(50))


def test_more_components_than_latents_is_an_error():
    with pytest.raises(RaectlError, match="50 components are more than the 20 latents") as caught:
        GMM(components=50).fit(np.random.default_rng(0).normal(size=(20, 2)))
    assert caught.value.hint == "use --components 20 or fewer"


@pytest.mark.parametrize(
    "options",
    [
        {"components": 0},
        {"components": 2.0},
        {"components": True},
        {"components": "auto"},
        {"covariance": "round"},
        {"max_iter": 0},
        {"tol": 0},
        {"tol": float("nan")},
        {"reg_covar": -1.0},
        {"reg_covar": "x"},
    ],
)
def test_wrong_options_are_usage_errors_that_name_them(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        GMM(**options)


def test_arrays_that_are_no_mixture_are_refused():
    gmm = GMM(components=2).fit(curved())
    arrays = gmm.to_arrays()
    skew, singular = arrays["covariances"].copy(), arrays["covariances"].copy()
    skew[0, 0, 1] += 1e-6
    singular[1] = 1.0
    changes = [
        ({"weights": np.array([0.7, 0.7])}, "sum to 1"),
        ({"weights": np.array([1.5, -0.5])}, "sum to 1"),
        ({"covariances": skew}, "not symmetric"),
        ({"covariances": singular}, "not positive definite"),
        ({"means": arrays["means"][:, :2]}, "'covariances' has shape"),
        ({"means": arrays["means"] * 1e60}, "absurdly large"),
    ]
    for change, says in changes:
        with pytest.raises(RaectlError, match=says):
            GMM.from_arrays({**arrays, **change}, **gmm.settings)
    with pytest.raises(RaectlError, match="'weights' has shape"):
        GMM.from_arrays(arrays, components=3)


def test_notices_say_what_the_user_should_know():
    z = curved(n=6, d=8)
    z[:, 2] = 0.5
    notices = " ".join(Gaussian().fit(z).notices)
    assert "6 latents do not fix 7 directions" in notices
    assert "constant (2)" in notices
    assert "did not converge in 1 iterations" in GMM(components=3, max_iter=1).fit(curved()).notices[-1]
    assert GMM(components=2).fit(curved()).notices == []


@pytest.mark.parametrize("kind", KINDS)
def test_only_full_covariances_need_latents_for_every_direction_of_every_component(kind):
    notices = GMM(components=4, covariance=kind).fit(curved(n=20, d=8)).notices
    assert [notice for notice in notices if "directions" in notice] == (
        [
            "20 latents do not fix 32 directions of variance: reg_covar makes up the rest; try fewer --components or "
            "--covariance diag or more data"
        ]
        if kind == "full"
        else []
    )


def test_a_component_of_weight_zero_is_never_drawn():
    arrays = GMM(components=3).fit(clusters()).to_arrays()
    arrays["means"][1] = 1e9
    arrays["weights"] = np.array([0.4, 0.0, 0.6])
    gmm = GMM.from_arrays(arrays, components=3)
    assert float(gmm.sample(2000).abs().max()) < 1e3
    assert gmm.log_prob(clusters()).isfinite().all()


def test_choose_components_finds_three_clusters():
    gmm, table = choose_components(clusters(seed=0), clusters(seed=1), candidates=(1, 2, 3, 4, 6, 8, 10))
    assert gmm.components == 3
    assert [row["components"] for row in table] == [1, 2, 3, 4, 6]  # two worse in a row end the search
    best = max(table, key=lambda row: row["heldout"])
    assert best["components"] == 3
    assert best["bic"] == min(row["bic"] for row in table)
    assert best["train"] == pytest.approx(gmm.stats["log_likelihood"] / 2)


def test_choose_components_stays_within_the_latents():
    _, table = choose_components(clusters(n=8), clusters(seed=1), covariance="spherical")
    assert max(row["components"] for row in table) <= 5
    assert choose_components(clusters(n=8), clusters(seed=1), candidates=(8, 9))[0].components == 8
    with pytest.raises(RaectlError, match="no candidate"):
        choose_components(clusters(n=8), clusters(), candidates=(9,))
