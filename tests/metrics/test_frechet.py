"""The Fréchet distance: SciPy and torchmetrics as oracles, closed forms, invariances, singular covariances."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.stats import ortho_group
from torchmetrics.image.fid import FrechetInceptionDistance

from raectl.metrics import frechet
from raectl.metrics.frechet import frechet_distance
from raectl.metrics.reference import Reference


def normal(n, mean, factor, seed):
    """n draws of N(mean, factor factor')."""
    noise = np.random.default_rng(seed).normal(size=(n, len(factor)))
    return torch.from_numpy(noise @ np.asarray(factor).T + mean)


def pair(d=12, n=300, m=200, dtype=torch.float64):
    rng = np.random.default_rng(3)
    a = normal(n, rng.normal(size=d), rng.normal(size=(d, d)), seed=1)
    return a.to(dtype), normal(m, rng.normal(size=d), rng.normal(size=(d, d)), seed=2).to(dtype)


def exactly(mean, covariance, n=40):
    """A set of items with just this mean and unbiased covariance."""
    d = len(mean)
    x = np.random.default_rng(0).normal(size=(n, d))
    x = np.linalg.qr(x - x.mean(axis=0))[0] * (n - 1) ** 0.5
    return torch.from_numpy(x @ np.linalg.cholesky(covariance).T + mean)


@pytest.mark.parametrize("d", [1, 2, 12, 40])
def test_it_equals_the_formula_with_scipys_root(d):
    x, y = pair(d)
    s, t = (np.atleast_2d(np.cov(features.numpy(), rowvar=False)) for features in (x, y))
    squares = float((x.mean(dim=0) - y.mean(dim=0)).square().sum())
    expected = squares + np.trace(s + t - 2 * sqrtm(s @ t).real)
    assert frechet_distance(Reference(x), y) == pytest.approx(expected, rel=1e-9)


class Features(torch.nn.Module):
    """What torchmetrics takes for a network: the "images" are the features."""

    num_features = 12

    def forward(self, x):
        return x.flatten(1)


def test_it_equals_torchmetrics():
    x, y = pair(dtype=torch.float32)
    oracle = FrechetInceptionDistance(feature=Features(), normalize=True)
    oracle.update(x.reshape(-1, 3, 2, 2), real=True)
    oracle.update(y.reshape(-1, 3, 2, 2), real=False)
    assert frechet_distance(Reference(x), y) == pytest.approx(float(oracle.compute()), rel=1e-5)


def test_covariances_that_commute():
    rotation = ortho_group.rvs(4, random_state=0)
    a, b = np.array([4.0, 1.0, 9.0, 0.25]), np.array([1.0, 16.0, 9.0, 4.0])
    m = np.array([1.0, -2.0, 0.0, 3.0])
    x = exactly(np.zeros(4), rotation @ np.diag(a) @ rotation.T)
    y = exactly(m, rotation @ np.diag(b) @ rotation.T)
    expected = (m**2).sum() + ((a**0.5 - b**0.5) ** 2).sum()  # 14 + 1 + 9 + 0 + 2.25
    assert frechet_distance(Reference(x), y) == pytest.approx(expected, rel=1e-10)


def test_a_shift_and_a_scale():
    x, _ = pair()
    variance = float(x.var(dim=0).sum())
    assert frechet_distance(Reference(x), x + 2) == pytest.approx(4 * 12, rel=1e-9)
    centred = x - x.mean(dim=0)
    assert frechet_distance(Reference(centred), 3 * centred) == pytest.approx(4 * variance, rel=1e-9)


def test_symmetry_and_invariance_to_rotation_and_shift():
    x, y = pair()
    value = frechet_distance(Reference(x), y)
    assert frechet_distance(Reference(y), x) == pytest.approx(value, rel=1e-9)
    q = torch.from_numpy(ortho_group.rvs(12, random_state=1))
    assert frechet_distance(Reference(x @ q + 5), y @ q + 5) == pytest.approx(value, rel=1e-9)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    assert frechet_distance(Reference(x), y[order]) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("n", [30, 300])
def test_identical_sets(n):
    x = pair(n=n, d=60)[0]
    assert 0 <= frechet_distance(Reference(x), x) < 1e-6 * float(x.var(dim=0).sum())


@pytest.mark.parametrize(("n", "m"), [(20, 300), (300, 20), (20, 15), (2, 2)])
def test_fewer_items_than_features(n, m):
    """Covariances of low rank: the root's trace is then a nuclear norm of the items' products."""
    x, y = (features.double() for features in pair(50, n, m, torch.float32))
    a, b = (features - features.mean(dim=0) for features in (x, y))
    trace = torch.linalg.svdvals(a @ b.T).sum() / ((n - 1) * (m - 1)) ** 0.5
    expected = (x.mean(dim=0) - y.mean(dim=0)).square().sum() + x.var(dim=0).sum() + y.var(dim=0).sum() - 2 * trace
    assert frechet_distance(Reference(x), y) == pytest.approx(float(expected), rel=1e-6)


def test_items_that_are_all_the_same():
    x = pair()[0]
    point = torch.ones(8, 12, dtype=torch.float64)
    expected = float((x.mean(dim=0) - 1).square().sum() + x.var(dim=0).sum())
    assert frechet_distance(Reference(x), point) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(Reference(point), x) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(Reference(point), point) == 0


def test_fewer_items_bias_it_upwards():
    x = normal(4000, 0.0, np.eye(8), seed=1)
    values = [frechet_distance(Reference(x), normal(n, 0.0, np.eye(8), seed=2)) for n in (50, 200, 800)]
    assert values[0] > 2 * values[1] > 4 * values[2] > 0


def test_what_is_known_of_the_reference_is_computed_once(monkeypatch):
    x, y = pair()
    seen = []
    moments = frechet._moments
    monkeypatch.setattr(frechet, "_moments", lambda features: seen.append(len(features)) or moments(features))
    reference = Reference(x)
    assert frechet_distance(reference, y) == frechet_distance(reference, y)
    assert seen == [len(y), len(x), len(y)] or seen == [len(x), len(y), len(y)]
