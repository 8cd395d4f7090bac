"""Where mixtures start: surplus components, merged, so that no seed ends in a poor local optimum."""

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from raectl.densities.covariance import COVARIANCES
from raectl.densities.latents.standardizer import Standardizer
from raectl.densities.mixtures import start
from raectl.densities.mixtures.gmm import GMM
from raectl.densities.mixtures.merging import merge_components
from raectl.densities.mixtures.parameters import MixtureParameters
from raectl.densities.mixtures.seeding import spread_rows
from raectl.densities.mixtures.start import start_mixture
from raectl.densities.mixtures.student_t import StudentT

# Distance of means, standard deviations, concentration of the weights.
CLOUDS = {
    "separated": (3.0, np.ones(8), 5.0),
    "overlapping": (1.0, np.geomspace(2, 0.5, 8), 5.0),
    "unequal": (1.5, np.geomspace(2, 0.5, 8), 1.5),
    "elongated": (0.5, np.geomspace(3, 0.1, 8), 5.0),
}


def cloud(name, n=12_000, k=8, seed=0):
    """Latents (n, 8) of K normals, and what EM of scikit-learn makes of the true parameters."""
    distance, deviations, concentration = CLOUDS[name]
    rng, d = np.random.default_rng(seed), len(deviations)
    weights = 0.02 + rng.dirichlet(np.full(k, concentration))
    weights /= weights.sum()
    means = distance * rng.normal(size=(k, d))
    roots = np.stack([np.linalg.qr(rng.normal(size=(d, d)))[0] * deviations for _ in range(k)])
    component = rng.choice(k, n, p=weights)
    z = means[component] + np.einsum("nij,nj->ni", roots[component], rng.normal(size=(n, d)))
    precisions = np.linalg.inv(roots @ roots.transpose(0, 2, 1))
    truth = GaussianMixture(k, weights_init=weights, means_init=means, precisions_init=precisions).fit(z)
    return z.astype(np.float32), truth.score(z)


@pytest.mark.parametrize("name", CLOUDS)
def test_every_seed_ends_near_the_best_optimum(name):
    z, best = cloud(name)
    for seed in range(6):
        assert GMM(components=8).fit(z, seed=seed).stats["log_likelihood"] > best - 0.05


def test_of_several_starts_the_likeliest_goes_on(monkeypatch):
    z, best = cloud("elongated")
    bad, real = torch.zeros(8, 8, dtype=torch.float64), start.start_mixture

    def started(*arguments, number, **options):
        """The first start has equal components, which stay equal."""
        found = real(*arguments, number=number, **options)
        equal = MixtureParameters(found.kind, found.weights, bad, torch.eye(8, dtype=torch.float64).repeat(8, 1, 1))
        return found if number else equal

    monkeypatch.setattr(start, "start_mixture", started)
    one, two = (GMM(components=8, starts=starts).fit(z, seed=0).stats["log_likelihood"] for starts in (1, 2))
    assert two > best - 0.05 > one


def test_student_t_mixtures_start_there_too():
    z, best = cloud("elongated")
    assert StudentT(components=8).fit(z, seed=3).stats["log_likelihood"] > best - 0.05


@pytest.mark.parametrize("kind", COVARIANCES)
@pytest.mark.parametrize("n", [5, 40, 3000])
def test_a_start_has_as_many_components_as_asked_for(kind, n):
    z = torch.randn(n, 3, generator=torch.Generator().manual_seed(0))
    for k in (1, 2, 5):
        found = start_mixture(z, Standardizer.fit(z).isotropic(), COVARIANCES[kind], k, seed=0, ridge=1e-6)
        assert found.means.shape == (k, 3)
        assert float(found.weights.sum()) == pytest.approx(1)


def test_the_start_is_in_the_frame_of_the_data():
    """Its means are those of the clusters, though one dimension is a hundred times as wide as the other."""
    rng = np.random.default_rng(0)
    clusters = np.array([[-3.0, 200.0], [3.0, -200.0], [3.0, 200.0]])
    z = torch.from_numpy(clusters[rng.integers(0, 3, 3000)] + rng.normal(size=(3000, 2)) * [0.01, 1.0])
    standardizer = Standardizer.fit(z)
    found = start_mixture(z, standardizer, COVARIANCES["full"], 3, seed=0, ridge=1e-6)
    means = found.means * standardizer.scale + standardizer.centre
    assert torch.cdist(torch.from_numpy(clusters), means).min(dim=1).values.max() < 1.0


def test_rows_far_apart_are_of_all_clusters_and_may_coincide():
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    x = centres.repeat_interleave(200, dim=0)
    x = x + 0.5 * torch.randn(600, 2, generator=torch.Generator().manual_seed(0))
    for seed in range(5):
        found = spread_rows(x, 3, torch.Generator().manual_seed(seed))
        assert sorted(torch.cdist(found, centres).argmin(dim=1).tolist()) == [0, 1, 2]
        assert torch.equal(spread_rows(x / 1024, 3, torch.Generator().manual_seed(seed)), found / 1024)
    assert spread_rows(torch.ones(5, 2), 3, torch.Generator().manual_seed(0)).tolist() == [[1.0, 1.0]] * 3


def mixture(kind, k=6, d=3):
    rng = np.random.default_rng(0)
    roots = rng.normal(size=(k, d, d))
    full = roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(d)
    of_kind = {
        "full": full,
        "tied": full[:1],
        "diag": full.diagonal(axis1=1, axis2=2).copy(),
        "spherical": full.diagonal(axis1=1, axis2=2).mean(axis=1, keepdims=True),
    }[kind]
    weights = torch.from_numpy(rng.dirichlet(np.ones(k)))
    means = torch.from_numpy(rng.normal(size=(k, d)))
    return MixtureParameters(COVARIANCES[kind], weights, means, torch.tensor(of_kind))


def second_moment(m):
    """E[z z^T], written without the code under test."""
    k, d = m.means.shape
    c = m.covariances.expand(k, *m.covariances.shape[1:])
    c = c if c.ndim == 3 else torch.diag_embed(c.expand(k, d))
    return torch.einsum("k,kij->ij", m.weights, c + m.means[:, :, None] * m.means[:, None, :])


@pytest.mark.parametrize("kind", COVARIANCES)
@pytest.mark.parametrize("left", [6, 4, 1])
def test_merging_keeps_the_mean_and_what_it_stores_of_the_covariance(kind, left):
    before = mixture(kind)
    after = merge_components(before, left)
    assert len(after.weights) == left
    torch.testing.assert_close(after.weights @ after.means, before.weights @ before.means)
    a, b = second_moment(before), second_moment(after)
    if kind == "spherical":
        torch.testing.assert_close(a.trace(), b.trace())
    else:
        torch.testing.assert_close(*((a.diagonal(), b.diagonal()) if kind == "diag" else (a, b)))


def test_the_pair_that_costs_least_is_merged():
    before = mixture("full")
    w, mu, sigma = before.weights.numpy(), before.means.numpy(), before.covariances.numpy()
    costs = {}
    for i in range(6):
        for j in range(i + 1, 6):
            whole = w[i] + w[j]
            mean = (w[i] * mu[i] + w[j] * mu[j]) / whole
            spread = sum(w[a] * (sigma[a] + np.outer(mu[a] - mean, mu[a] - mean)) for a in (i, j)) / whole
            log_det = [np.linalg.slogdet(s)[1] for s in (spread, sigma[i], sigma[j])]
            costs[i, j] = (whole * log_det[0] - w[i] * log_det[1] - w[j] * log_det[2]) / 2, whole, mean, spread
    i, j = min(costs, key=lambda pair: costs[pair][0])
    after = merge_components(before, 5)
    at = int((after.weights - (w[i] + w[j])).abs().argmin())
    for found, expected in zip((after.weights, after.means, after.covariances), costs[i, j][1:], strict=True):
        np.testing.assert_allclose(found[at], expected, rtol=1e-12)
    others = [float(w[a]) for a in range(6) if a not in (i, j)]
    np.testing.assert_allclose(sorted(after.weights.tolist()), sorted([*others, float(w[i] + w[j])]), rtol=1e-12)
