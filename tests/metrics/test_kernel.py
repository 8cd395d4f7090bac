"""The kernel distance: torchmetrics as oracle, naive loops, the standard error's calibration, blocks."""

import numpy as np
import pytest
import torch
from torchmetrics.image.kid import KernelInceptionDistance

from raectl.metrics import kernel, reference
from raectl.metrics.kernel import kernel_difference, kernel_distance
from raectl.metrics.reference import Reference


def sets(n=30, m=23, d=4, shift=0.5, scale=1.3, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return x.to(dtype), (scale * torch.randn(m, d, generator=generator, dtype=torch.float64) + shift).to(dtype)


def naive(x, y):
    """The formula as it is written, a pair at a time."""

    def k(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    def within(a):
        return np.mean([k(a[i], a[j]) for i in range(len(a)) for j in range(len(a)) if i != j])

    return within(x) + within(y) - 2 * np.mean([k(a, b) for a in x for b in y])


def without(x, i):
    return torch.cat([x[:i], x[i + 1 :]])


def test_the_value_is_the_formulas():
    x, y = sets(9, 7)
    assert kernel_distance(Reference(x), y).value == pytest.approx(naive(x, y), rel=1e-10)


@pytest.mark.parametrize(("n", "m"), [(9, 7), (3, 3), (3, 8)])
def test_the_standard_error_is_the_jackknife_of_a_naive_loop(n, m):
    x, y = sets(n, m)
    left = [
        np.array([naive(without(x, i), y) for i in range(n)]),
        np.array([naive(x, without(y, j)) for j in range(m)]),
    ]
    expected = sum((len(values) - 1) * values.var() for values in left)
    assert kernel_distance(Reference(x), y).se ** 2 == pytest.approx(expected, rel=1e-9)


class Features(torch.nn.Module):
    """What torchmetrics takes for a network: the "images" are the features."""

    def forward(self, x):
        return x.flatten(1)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save all:UserWarning")  # by its design
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_equals_torchmetrics(dtype):
    x, y = sets(200, 200, 12, dtype=dtype)
    oracle = KernelInceptionDistance(feature=Features(), subsets=1, subset_size=200, normalize=True)
    oracle.update(x.reshape(-1, 3, 2, 2), real=True)
    oracle.update(y.reshape(-1, 3, 2, 2), real=False)
    assert kernel_distance(Reference(x), y).value == pytest.approx(float(oracle.compute()[0]), rel=1e-5)


def simulated(shift, scale, runs=300, n=60, d=5):
    found = [kernel_distance(Reference(x), y) for x, y in (sets(n, n, d, shift, scale, seed) for seed in range(runs))]
    return np.array(found).T


@pytest.mark.parametrize(("shift", "scale"), [(0.5, 1.3), (1.0, 1.0)])
def test_the_standard_error_is_that_of_repeated_draws(shift, scale):
    values, errors = simulated(shift, scale)
    assert np.mean(errors**2) == pytest.approx(values.var(ddof=1), rel=0.25)


def test_equal_distributions_give_zero_and_no_smaller_error():
    values, errors = simulated(shift=0, scale=1)
    assert abs(values.mean()) < 3 * values.std() / len(values) ** 0.5
    assert np.mean(errors**2) >= values.var(ddof=1)


@pytest.mark.parametrize("rows", [1, 7, 30, 1000])
def test_it_does_not_depend_on_the_block(monkeypatch, rows):
    x, y = sets(dtype=torch.float32)
    whole = kernel_distance(Reference(x), y)
    monkeypatch.setattr(reference, "NUMBERS", rows * len(x))
    np.testing.assert_allclose(kernel_distance(Reference(x), y), whole, rtol=1e-6)


def test_symmetry_and_precision():
    x, y = sets()
    exact = kernel_distance(Reference(x), y)
    np.testing.assert_allclose(kernel_distance(Reference(y), x), exact, rtol=1e-10)
    np.testing.assert_allclose(kernel_distance(Reference(x.float()), y.float()), exact, rtol=1e-5)
    np.testing.assert_allclose(kernel_distance(Reference(x.float()), y), exact, rtol=1e-5)


def test_no_block_is_as_large_as_all_pairs(monkeypatch):
    monkeypatch.setattr(reference, "NUMBERS", 1600)
    shapes = []
    k = kernel._kernel
    monkeypatch.setattr(kernel, "_kernel", lambda a, b: shapes.append((len(a), len(b))) or k(a, b))
    x, y = sets(100, 90)
    kernel_distance(Reference(x), y)
    assert 1500 < max(rows * columns for rows, columns in shapes) <= 1600


def test_the_error_of_a_difference_is_the_jackknife_of_a_naive_loop():
    x, a = sets(n=20, m=15)
    _, b = sets(n=20, m=12, shift=0.7, seed=1)

    def difference(x, a, b):
        return naive(x, a) - naive(x, b)

    variance = 0.0
    for left in (
        np.array([difference(without(x, i), a, b) for i in range(20)]),
        np.array([difference(x, without(a, i), b) for i in range(15)]),
        np.array([difference(x, a, without(b, i)) for i in range(12)]),
    ):
        variance += (len(left) - 1) * left.var()
    found = kernel_difference(Reference(x), a, b)
    assert found.value == pytest.approx(float(difference(x, a, b)), rel=1e-9)
    assert found.se == pytest.approx(variance**0.5, rel=1e-9)


def test_a_difference_is_surer_than_one_of_independent_numbers_and_changes_sign():
    x, a = sets(n=200, m=200, shift=1.0)
    _, b = sets(n=200, m=200, shift=1.1, seed=1)
    found, other = kernel_difference(Reference(x), a, b), kernel_difference(Reference(x), b, a)
    apart = [kernel_distance(Reference(x), features).se for features in (a, b)]
    assert found.se < np.hypot(*apart)
    assert other == pytest.approx((-found.value, found.se))
