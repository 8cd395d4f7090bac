"""Covariances shrunk towards the pooled one: against NumPy, and what it is worth where latents are few."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import multivariate_normal

from raectl.densities import GMM, choose_components
from raectl.densities.covariance import COVARIANCES
from raectl.densities.fitting import fit
from raectl.densities.latents.standardizer import Standardizer
from raectl.densities.mixtures.bayesian_gmm import BayesianGMM
from raectl.densities.mixtures.em import e_step, m_step
from raectl.densities.mixtures.start import start_mixture
from raectl.densities.mixtures.student_t import StudentT
from raectl.errors import UsageError


def few(n, d=64, k=5, seed=0):
    """Latents of K clusters in d dimensions whose variances decay, which share most of their covariance."""
    rng = np.random.default_rng(seed)
    deviations = 1 / np.arange(1, d + 1)
    shared, *own = [np.linalg.qr(rng.normal(size=(d, d)))[0] * deviations for _ in range(k + 1)]
    means = rng.normal(size=(k, d)) @ shared.T
    component, e = rng.integers(0, k, n), rng.normal(size=(2, n, d))
    away = 0.7 * e[0] @ shared.T + 0.5 * np.einsum("nij,nj->ni", np.stack(own)[component], e[1])
    return (means[component] + away).astype(np.float32)


def state(kind, n=60, d=3, k=4):
    """Latents, their standardizer, which does nothing, and a mixture of them."""
    z = torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * torch.tensor(
        [1.0, 2.0, 0.5]
    )
    units = Standardizer(torch.zeros(d, dtype=torch.float64), torch.ones(d, dtype=torch.float64), [])
    return z, units, start_mixture(z, units, COVARIANCES[kind], k, seed=0, ridge=1e-6)


def stored(kind, covariances):
    """(K, d, d) as this kind stores them, without the code under test."""
    diagonals = np.stack([c.diagonal() for c in covariances])
    return {"full": covariances, "diag": diagonals, "spherical": diagonals.mean(axis=1, keepdims=True)}[kind]


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
@pytest.mark.parametrize("nu", [0.0, 1.5, 40.0])
def test_the_m_step_is_the_formula(kind, nu):
    z, units, mixture = state(kind)
    full = mixture.covariances if kind == "full" else torch.diag_embed(mixture.covariances.expand(4, 3))
    joint = [
        np.log(w) + multivariate_normal(mu, c).logpdf(z)
        for w, mu, c in zip(mixture.weights.numpy(), mixture.means.numpy(), full.numpy(), strict=True)
    ]
    r = softmax(np.stack(joint, axis=1), axis=1)
    n = r.sum(axis=0)
    means = r.T @ z.numpy() / n[:, None]
    away = z.numpy()[:, None] - means
    s = np.einsum("nk,nki,nkj->kij", r, away, away) / n[:, None, None]
    pooled = np.einsum("k,kij->ij", n / n.sum(), s)
    shrunk = (n[:, None, None] * s + nu * pooled) / (n + nu)[:, None, None] + 1e-3 * np.eye(3)
    after = m_step(mixture, e_step(z, units, mixture), 1e-3, shrinkage=nu)
    np.testing.assert_allclose(after.means, means, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(after.covariances, stored(kind, shrunk), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", COVARIANCES)
def test_no_shrinkage_changes_no_bit_and_a_tied_covariance_is_the_pooled_one(kind):
    z, units, mixture = state(kind)
    sums = e_step(z, units, mixture)
    plain, zero, much = m_step(mixture, sums, 1e-6), *(m_step(mixture, sums, 1e-6, shrinkage=nu) for nu in (0.0, 9.0))
    assert torch.equal(zero.covariances, plain.covariances)
    assert torch.equal(much.covariances, plain.covariances) == (kind == "tied")


def test_each_step_climbs_the_likelihood_with_its_prior():
    """The prior of a step: sum_k -nu/2 (log det Sigma_k + tr Sigma_k^-1 P)."""
    z, units, mixture = state("full", n=200)
    nu = 10.0
    for _ in range(30):
        sums = e_step(z, units, mixture)
        unshrunk, after = m_step(mixture, sums, 1e-12), m_step(mixture, sums, 1e-12, shrinkage=nu)
        pooled = torch.tensordot(sums.counts / sums.counts.sum(), unshrunk.covariances, 1)

        def objective(m, pooled=pooled):
            prior = torch.logdet(m.covariances) + torch.linalg.solve(m.covariances, pooled).diagonal(
                dim1=1, dim2=2
            ).sum(1)
            return e_step(z, units, m).log_likelihood - nu / 2 * float(prior.sum())

        assert objective(after) >= objective(mixture) - 1e-9
        mixture = after


def test_much_shrinkage_gives_the_tied_mixture():
    z = np.concatenate([few(200, d=4, k=1), few(200, d=4, k=1, seed=1) + 6])
    shrunk = GMM(components=2, shrinkage=1e9, tol=1e-7).fit(z)
    covariances = shrunk.to_arrays()["covariances"]
    np.testing.assert_allclose(covariances[0], covariances[1], rtol=1e-5)
    tied = GMM(components=2, covariance="tied", tol=1e-7).fit(z)
    assert shrunk.stats["log_likelihood"] == pytest.approx(tied.stats["log_likelihood"], abs=1e-3)


@pytest.mark.parametrize("kind", ["gmm", "student-t"])
def test_of_few_latents_shrinkage_is_chosen_and_makes_new_ones_likelier(kind):
    z = few(2270)
    train, held_out, new = z[:240], z[240:270], z[270:]
    chosen, without = fit(kind, train, held_out), fit(kind, train, held_out, shrinkage=0.0)
    nu = chosen.density.settings["shrinkage"]
    assert nu in (8.0, 32.0, 128.0, 512.0) and chosen.density.settings["components"] > 1
    assert {row["shrinkage"] for row in chosen.tried} >= {0.0, nu} and {row["shrinkage"] for row in without.tried} == {
        0.0
    }
    of_new = [float(f.density.log_prob(new).mean()) / 64 for f in (chosen, without)]
    assert of_new[0] > of_new[1] + 0.03
    assert chosen.train - of_new[0] < 0.5
    assert chosen.density.notices == []
    best = max(chosen.tried, key=lambda row: row["heldout"])
    assert (best["components"], best["shrinkage"]) == (chosen.density.settings["components"], nu)


def test_of_many_latents_none_is_tried():
    z = few(3000, d=2)
    _, tried = choose_components(z[:2500], z[2500:], candidates=(1, 2, 5))
    assert [(row["components"], row["shrinkage"]) for row in tried] == [(1, 0.0), (2, 0.0), (5, 0.0)]


def test_it_is_searched_upwards_and_handed_on():
    z = few(270)
    _, tried = choose_components(z[:240], z[240:], candidates=(1, 2, 5))
    of_two = [row["shrinkage"] for row in tried if row["components"] == 2]
    assert of_two[:2] == [0.0, 8.0] and of_two == sorted(of_two)
    of_five = [row["shrinkage"] for row in tried if row["components"] == 5]
    best = max((row for row in tried if row["components"] == 2), key=lambda row: row["heldout"])
    assert of_five[0] == best["shrinkage"]
    for kind, options in ((GMM, {"shrinkage": 3.0}), (GMM, {"covariance": "diag"}), (BayesianGMM, {})):
        density, tried = choose_components(z[:240], z[240:], candidates=(1, 2), kind=kind, **options)
        assert len(tried) == 2 and density.settings.get("shrinkage", 3.0) == options.get(
            "shrinkage", density.settings.get("shrinkage", 3.0)
        )


@pytest.mark.parametrize("kind", [GMM, StudentT])
def test_it_is_a_number_from_0(kind):
    with pytest.raises(UsageError, match="shrinkage"):
        kind(shrinkage=-1)
    assert kind(shrinkage=2).settings["shrinkage"] == 2.0


def test_the_command_says_what_was_chosen(cli, tmp_path):
    np.save(tmp_path / "z.npy", few(270, d=16))
    told = cli("fit-density", tmp_path / "d", "--latents", tmp_path / "z.npy", "--json").json
    assert told["options"]["shrinkage"] > 0
    assert {"components", "shrinkage", "train", "heldout", "bic"} == set(told["tried"][0])
    shown = cli("fit-density", tmp_path / "e", "--latents", tmp_path / "z.npy").out
    assert f"{told['options']['shrinkage']:g} latents" in shown and "shrinkage" in shown
