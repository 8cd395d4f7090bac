"""The mixture of t densities against SciPy, on heavy tails, and where it becomes the mixture of normals."""

import numpy as np
import pytest
from scipy.stats import kstest, multivariate_t
from scipy.stats import t as student

from raectl.densities import GMM
from raectl.densities.mixtures.student_t import StudentT
from raectl.errors import RaectlError

SHAPE = np.array([[2.0, 0.6], [0.6, 0.5]])


def heavy(n=4000, seed=0, df=6.0):
    rng = np.random.default_rng(seed)
    near, far = (multivariate_t(loc, SHAPE, df=df, seed=rng).rvs(n) for loc in ([0.0, 0.0], [12.0, -3.0]))
    return np.where(rng.uniform(size=(n, 1)) < 0.3, near, far)


def test_the_density_is_scipys():
    z = heavy(500)
    density = StudentT(components=2).fit(z)
    a = density.to_arrays()
    expected = sum(
        w * multivariate_t(m, s, df=nu).pdf(z)
        for w, m, s, nu in zip(a["weights"], a["means"], a["covariances"], a["freedom"], strict=True)
    )
    np.testing.assert_allclose(density.log_prob(z), np.log(expected), rtol=1e-9, atol=1e-9)


def test_it_finds_the_parameters_that_the_latents_were_drawn_with():
    a = StudentT(components=2, tol=1e-6).fit(heavy(40_000)).to_arrays()
    order = a["means"][:, 0].argsort()
    np.testing.assert_allclose(a["weights"][order], [0.3, 0.7], atol=0.01)
    np.testing.assert_allclose(a["means"][order], [[0, 0], [12, -3]], atol=0.06)
    np.testing.assert_allclose(a["covariances"], [SHAPE, SHAPE], atol=0.12)
    assert (abs(a["freedom"] - 6) < 1).all()


def test_each_iteration_is_likelier_and_the_last_beats_normals():
    z, unseen = heavy(), heavy(seed=1)
    fits = [StudentT(components=2, max_iter=n, tol=1e-12).fit(z) for n in (1, 2, 4, 16, 64)]
    values = [float(fit.stats["log_likelihood"]) for fit in fits]
    assert values == sorted(values)
    assert values[-1] == pytest.approx(float(fits[-1].log_prob(z).mean()), abs=1e-5)
    normal = float(GMM(components=2).fit(z).log_prob(unseen).mean())
    assert float(fits[-1].log_prob(unseen).mean()) > normal + 0.05


def test_bic_counts_every_number_that_is_fitted():
    z = heavy(300)
    stats = StudentT(components=2, tol=1e-9).fit(z).stats
    assert stats["parameters"] == 2 * 2 + 1 + 2 * 3 + 2  # means, weights, scale matrices, degrees of freedom
    assert stats["bic"] == pytest.approx(13 * np.log(300) - 600 * stats["log_likelihood"])


def test_degrees_of_freedom_below_one_are_refused():
    density = StudentT(components=2).fit(heavy(300))
    arrays = {**density.to_arrays(), "freedom": np.array([0.9, 6.0])}
    with pytest.raises(RaectlError, match="below 1"):
        StudentT.from_arrays(arrays, components=2)


def test_samples_have_its_distribution():
    density = StudentT(components=1, tol=1e-6).fit(heavy()[:, :1])
    a = density.to_arrays()
    fitted = student(a["freedom"][0], a["means"][0, 0], np.sqrt(a["covariances"][0, 0, 0]))
    assert kstest(density.sample(20_000, seed=3).numpy()[:, 0], fitted.cdf).pvalue > 0.01


def test_of_normal_latents_it_is_nearly_the_mixture_of_normals():
    z = np.random.default_rng(0).normal(size=(4000, 3))
    density, normal = StudentT(components=1, tol=1e-7).fit(z), GMM(components=1).fit(z)
    assert density.to_arrays()["freedom"][0] > 50
    assert float((density.log_prob(z) - normal.log_prob(z)).abs().mean()) < 0.02
