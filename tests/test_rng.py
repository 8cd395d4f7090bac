"""Counter-based draws: a row is a function of the seed and its index, and the numbers are what they claim to be."""

import hashlib

import numpy as np
import pytest
import torch
from scipy import stats

from raectl.errors import UsageError
from raectl.rng import gammas, normals, permutation, torch_generator, uniforms

WIDTHS = (1, 3, 4, 5, 17)
WRONG_SEEDS = (-1, 2**64, 1.0, "0", True, None)


@pytest.mark.parametrize("draw", [uniforms, normals])
@pytest.mark.parametrize("m", WIDTHS)
def test_rows_depend_on_seed_and_index_alone(draw, m):
    whole = draw(5, 0, 64, m)
    assert whole.shape == (64, m)
    assert np.array_equal(draw(5, 0, 16, m), whole[:16])
    assert all(np.array_equal(draw(5, i, 1, m)[0], whole[i]) for i in range(64))
    assert not np.isin(draw(6, 0, 64, m), whole).any()


def test_rows_far_out_are_reached_at_once():
    far = 2**62
    assert np.array_equal(uniforms(0, far, 4, 3)[1:], uniforms(0, far + 1, 3, 3))


def test_rows_do_not_share_numbers():
    assert len(np.unique(uniforms(0, 0, 1000, 6))) == 6000


def test_the_stream_is_pinned():
    """A stored seed must give the same samples in the next release."""
    key = [3, int.from_bytes(hashlib.sha256(b"samples").digest()[:8], "little")]
    words = np.random.Philox(key=np.array(key, np.uint64)).random_raw(2) >> np.uint64(12)
    assert np.array_equal(uniforms(3, 0, 1, 2)[0], (words + 0.5) / 2**52)


def test_uniforms_are_uniform_and_open():
    u = uniforms(11, 0, 50_000, 2)
    assert stats.kstest(u.ravel(), "uniform").pvalue > 0.01
    assert abs(np.corrcoef(u.T)[0, 1]) < 0.02
    assert u.min() > 0
    assert u.max() < 1


def test_the_extreme_words_stay_inside_the_open_interval():
    assert ((np.uint64(2**64 - 1) >> np.uint64(12)) + 0.5) * 2.0**-52 < 1


@pytest.mark.parametrize("word", [0, 2**64 - 1])
def test_normals_of_the_extreme_words_are_finite(monkeypatch, word):
    monkeypatch.setattr("raectl.rng._words", lambda *_: np.full(4, word, np.uint64))
    e = normals(0, 0, 1, 8)
    assert np.isfinite(e).all() and abs(e).max() < 6.8


def test_normals_are_normal():
    e = normals(12, 0, 500_000, 16)
    assert e.dtype == np.float32
    sums = [e[:, i] + e[:, j] for i, j in ((0, 1), (0, 8), (1, 8))]  # 0 and 8 are of one pair of words
    assert min(stats.kstest(e[:, j], "norm").pvalue for j in range(16)) > 0.01 / 16
    assert min(stats.kstest(total / np.sqrt(2), "norm").pvalue for total in sums) > 0.01 / 3
    assert stats.kstest(np.square(e[:, [0, 8]]).sum(axis=1), stats.chi2(2).cdf).pvalue > 0.01
    tails = [4, 4.5, 5]
    expected = [2 * stats.norm.sf(tail) * e.size for tail in tails]
    np.testing.assert_allclose([(abs(e) > tail).sum() for tail in tails], expected, rtol=0.5)


def test_normals_are_those_of_box_and_muller():
    key = [3, int.from_bytes(hashlib.sha256(b"samples").digest()[:8], "little")]
    words = np.random.Philox(key=np.array(key, np.uint64)).random_raw(8)
    low, high = words & np.uint64(2**32 - 1), words >> np.uint64(32)
    w = (
        np.stack([low, high], axis=1).reshape(4, 4).astype(np.float64)
    )  # radii and angles of the first row, of the second
    for row in range(2):
        r, v = np.sqrt(-2 * np.log((w[2 * row] + 0.5) / 2**32)), 2 * np.pi * w[2 * row + 1] / 2**32
        expected = np.concatenate([r * np.cos(v), r * np.sin(v)])
        np.testing.assert_allclose(normals(3, row, 1, 8)[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [0.5, 0.9, 2.5, 30.0, 500.0])
def test_gamma_numbers_follow_the_gamma_distribution(shape):
    assert stats.kstest(gammas(np.full(100_000, shape), 5, 0), stats.gamma(shape).cdf).pvalue > 0.01


def test_a_gamma_number_is_a_function_of_seed_index_and_shape():
    shapes = np.random.default_rng(0).uniform(0.5, 9, 3000)
    whole = gammas(shapes, 1, 7)
    assert all(gammas(shapes[i : i + 1], 1, 7 + i)[0] == whole[i] for i in range(0, 3000, 61))


def test_no_rows():
    assert uniforms(0, 3, 0, 2).shape == normals(0, 3, 0, 2).shape == (0, 2)


@pytest.mark.parametrize("seed", WRONG_SEEDS)
def test_wrong_seeds_are_usage_errors(seed):
    for call in (
        lambda: uniforms(seed, 0, 1, 1),
        lambda: permutation(seed, "order", 3),
        lambda: torch_generator(seed, "", 0),
    ):
        with pytest.raises(UsageError, match="seed"):
            call()


@pytest.mark.parametrize(("start", "n", "m"), [(-1, 1, 1), (0, -1, 1), (0, 1, 0)])
def test_wrong_ranges_are_usage_errors(start, n, m):
    with pytest.raises(UsageError, match="rows"):
        uniforms(0, start, n, m)


def test_largest_seed_works():
    assert uniforms(2**64 - 1, 0, 1, 1).shape == (1, 1)


def test_permutations_are_functions_of_seed_and_epoch():
    orders = {(seed, epoch): permutation(seed, "order", 50, epoch) for seed in (0, 1) for epoch in (0, 1, 2)}
    assert all(np.array_equal(np.sort(order), np.arange(50)) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == len(orders)
    assert np.array_equal(permutation(1, "order", 50, 2), orders[1, 2])
    assert permutation(0, "order", 0).shape == (0,)


def test_permutations_are_uniform():
    firsts = [permutation(0, "order", 10, epoch)[0] for epoch in range(2000)]
    assert stats.chisquare(np.bincount(firsts, minlength=10)).pvalue > 0.01


def test_torch_generators_are_functions_of_seed_stream_and_step():
    keys = [(0, "a", 0), (2**32, "a", 0), (0, "b", 0), (0, "a", 1)]  # 2**32: equal low bits
    draws = [torch.rand(4, generator=torch_generator(*key)) for key in keys]
    again = [torch.rand(4, generator=torch_generator(*key)) for key in keys]
    assert all(torch.equal(a, b) for a, b in zip(draws, again, strict=True))
    assert len({tuple(draw.tolist()) for draw in draws}) == len(keys)
