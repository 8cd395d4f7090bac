"""`copied`: a naive oracle, copies and fresh draws, ties, and what the standard error covers."""

import numpy as np
import pytest
import torch

from raectl.errors import RaectlError
from raectl.metrics.copying import copied
from raectl.metrics.reference import TARGETS, Reference, badness


def draw(n, d=6, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def measured(held_out, training, samples):
    return copied(Reference(held_out, training_sample=lambda: training), samples)["copied"]


def naive(held_out, training, samples):
    """Sample by sample in float64: the share, and the standard error over all divisions, from the shares of items."""
    held_out, training, samples = (x.double().numpy() for x in (held_out, training, samples))
    w = np.zeros(len(held_out) + len(training))
    for y in samples:
        near = [((x - y) ** 2).sum(axis=1) for x in (held_out, training)]
        ends = [near[0].min() <= near[1].min(), near[1].min() <= near[0].min()]
        for offset, distances, wins in zip((0, len(held_out)), near, ends, strict=True):
            w[offset + distances.argmin()] += wins / sum(ends) / len(samples)
    return w[len(held_out) :].sum(), w


def test_it_equals_a_naive_loop():
    held_out, training, samples = draw(40), draw(40, seed=1), draw(90, seed=2)
    training[7] = held_out[3]  # a tie
    samples[5] = held_out[3]
    value, _ = naive(held_out, training, samples)
    assert measured(held_out, training, samples).value == pytest.approx(value, abs=1e-12)


def test_the_standard_error_is_that_of_random_divisions():
    """Of the pooled items into two halves: the exact mean is 1/2, the spread is that of 4,000 of them."""
    held_out, training, samples = draw(15, 2), draw(15, 2, 1), draw(200, 2, 2)
    _, w = naive(held_out, training, samples)
    rng = np.random.default_rng(0)
    values = [w[rng.permutation(30)[:15]].sum() for _ in range(4000)]
    assert np.mean(values) == pytest.approx(0.5, abs=0.01)
    assert measured(held_out, training, samples).se == pytest.approx(np.std(values), rel=0.04)


# -- directions ----------------------------------------------------------------------------------------------------


def test_fresh_draws_are_as_near_to_one_as_to_the_other():
    m = measured(draw(500), draw(500, seed=1), draw(700, seed=2))
    assert abs(m.value - 0.5) < 3 * m.se < 0.15


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_copies_of_training_items_and_of_held_out_ones(noise):
    held_out, training = draw(300), draw(300, seed=1)
    for source, expected in ((training, 1), (held_out, 0)):
        assert measured(held_out, training, source + noise * draw(300, seed=2)).value == expected


def test_more_copies_are_worse():
    held_out, training, fresh = draw(300), draw(300, seed=1), draw(300, seed=2)
    values = [measured(held_out, training, torch.cat([training[:k], fresh[k:]])).value for k in (0, 100, 200, 300)]
    assert values == sorted(values) and values[-1] == 1
    assert TARGETS["copied"] == 0.5 and badness("copied", 0.5) == 0 < badness("copied", 0.6) == badness("copied", 0.4)


def test_copies_of_a_larger_training_set_are_seen_as_far_as_they_are_in_the_sample():
    everything = draw(1200, 20, 1)
    m = measured(draw(300, 20), everything[:300], everything)
    assert m.value == pytest.approx(0.5 + 300 / 2400, abs=3 * m.se)


# -- ties and sizes ------------------------------------------------------------------------------------------------


def test_items_that_are_in_both_sets_count_half():
    both, samples = draw(50), draw(80, seed=1)
    assert measured(both, both.flip(0), samples).value == 0.5
    assert measured(both, both, both).value == 0.5
    half = torch.cat([both[:25], draw(25, seed=3)])
    assert measured(both, half, both[:25]).value == 0.5
    assert measured(both, both.repeat(2, 1)[:50], both[:1].repeat(9, 1)).value == 0.5


def test_copies_within_a_set_change_nothing():
    held_out, training, samples = draw(50), draw(50, seed=1), draw(80, seed=2)
    assert (
        measured(held_out[:25].repeat(2, 1), training[:25].repeat(2, 1), samples).value
        == measured(held_out[:25], training[:25], samples).value
    )


def test_items_that_are_all_the_same():
    same = torch.ones(5, 3)
    assert measured(same, same, same).value == 0.5


@pytest.mark.parametrize(("n", "t"), [(200, 600), (600, 200)])
def test_the_larger_set_is_cut(n, t):
    values = [measured(draw(n, seed=s), draw(t, seed=s + 50), draw(100, seed=s + 100)).value for s in range(20)]
    assert np.mean(values) == pytest.approx(0.5, abs=0.03)
    held_out, training = draw(n), draw(t, seed=1)
    assert measured(held_out, training, draw(100, seed=2)) == measured(held_out, training, draw(100, seed=2))


def test_order_and_permuted_features_do_not_matter():
    held_out, training, samples = draw(200), draw(200, seed=1), draw(300, seed=2)
    first = measured(held_out, training, samples)
    assert measured(held_out.flip(0), training.flip(0), samples.flip(0)) == pytest.approx(first, rel=1e-12)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    assert measured(held_out[:, order], training[:, order], samples[:, order]) == pytest.approx(first, rel=1e-12)
    assert measured(training, held_out, samples).value == pytest.approx(1 - first.value)


def test_sets_that_need_several_blocks(monkeypatch):
    held_out, training, samples = draw(200), draw(200, seed=1), draw(300, seed=2)
    whole = measured(held_out, training, samples)
    monkeypatch.setattr("raectl.metrics.reference.NUMBERS", 2000)
    assert measured(held_out, training, samples) == whole


# -- the standard error --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m", "spread"), [(30, 30, 1.0), (50, 800, 1.0), (300, 60, 1.0), (60, 600, 0.3)], ids=str)
def test_two_standard_errors_hold_one_half(n, m, spread):
    """Also where the samples are many and lie near few items, of which the binomial error knows nothing."""
    inside, values, errors = [], [], []
    for seed in range(200):
        value, se = measured(draw(n, 5, 3 * seed), draw(n, 5, 3 * seed + 1), spread * draw(m, 5, 3 * seed + 2))
        inside.append(abs(value - 0.5) <= 2 * se)
        values.append(value)
        errors.append(se)
    assert np.mean(inside) >= 0.9
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(values), rel=0.2)


def test_a_sampler_that_repeats_one_item_is_not_certain_of_anything():
    assert measured(draw(50), draw(50, seed=1), draw(1, seed=2).repeat(500, 1)).se == pytest.approx(0.5)


# -- where it cannot be measured -----------------------------------------------------------------------------------


def test_without_a_training_sample_there_is_none():
    x = draw(20)
    reference = Reference(x, training_sample=lambda: x)
    assert copied(reference, x) != {}
    for other in (Reference(x), Reference(x, training=lambda: x), reference.alone(), reference.of_originals()):
        assert copied(other, x) == {}
    assert Reference(x, lambda: x, lambda: x).of_originals().training() is x


def test_other_widths_and_single_items_are_refused():
    reference = Reference(draw(20), training_sample=lambda: draw(20, 5))
    with pytest.raises(RaectlError, match="5 features an item, the real ones 6"):
        copied(reference, draw(20))
    with pytest.raises(RaectlError, match="at least 2 measured items, not 1"):
        copied(reference, draw(1))
