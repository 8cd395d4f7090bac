"""Precision, recall, density and coverage: the `prdc` package as oracle, invariances, copies, blocks."""

import contextlib
import io

import numpy as np
import pytest
import torch
from prdc import compute_prdc
from scipy.stats import ortho_group
from sklearn.datasets import load_digits

from raectl.metrics import reference
from raectl.metrics.manifold import prdc
from raectl.metrics.reference import Reference


def values(real, fake):
    return {name: measured.value for name, measured in prdc(Reference(real), fake).items()}


def oracle(real, fake):
    with contextlib.redirect_stdout(io.StringIO()):  # it prints the counts
        return {name: float(v) for name, v in compute_prdc(real.numpy(), fake.numpy(), nearest_k=5).items()}


def sets(n, m, d, shift, scale):
    generator = torch.Generator().manual_seed(n + m + d)
    return torch.randn(n, d, generator=generator), scale * torch.randn(m, d, generator=generator) + shift


@pytest.mark.parametrize("offset", [0.0, 300.0])
@pytest.mark.parametrize(
    ("n", "m", "d", "shift", "scale"),
    [(400, 300, 8, 0.0, 1.0), (300, 400, 8, 0.8, 0.9), (200, 200, 40, 0.1, 1.2), (50, 60, 2, 0.5, 2.0)],
)
def test_they_equal_prdc(n, m, d, shift, scale, offset):
    real, fake = (features + offset for features in sets(n, m, d, shift, scale))
    found, expected = values(real, fake), oracle(real, fake)
    assert min(expected.values()) > 0 and expected["precision"] < 1
    assert found == pytest.approx(expected, rel=1e-12) and [*found] == [*expected]


def test_equal_distances_of_whole_numbers_count_as_in_prdc():
    x = torch.from_numpy(load_digits().data).float()
    grid = torch.from_numpy(np.random.default_rng(0).integers(0, 6, (400, 3))).float()
    for real, fake in ((x[:700], x[700:1400]), (grid[:200], grid[200:])):
        assert values(real, fake) == pytest.approx(oracle(real, fake), rel=1e-12)


def test_identical_sets():
    x = sets(200, 1, 6, 0, 1)[0]
    found = values(x, x)
    assert (found["precision"], found["recall"], found["coverage"]) == (1, 1, 1)
    assert found["density"] == pytest.approx(1, abs=0.3)


def test_sets_far_apart():
    x = sets(200, 1, 6, 0, 1)[0]
    assert set(values(x, x + 100).values()) == {0}


def test_halves_of_one_distribution_have_the_expected_density_and_coverage():
    found = [values(*sets(500, 500, d, 0, 1)) for d in (2, 3, 4, 5)]
    assert np.mean([v["density"] for v in found]) == pytest.approx(1, abs=0.03)
    assert np.mean([v["coverage"] for v in found]) == pytest.approx(1 - 2**-5, abs=0.015)


def test_invariance_to_rotation_shift_scale_and_order():
    real, fake = (features.double() for features in sets(300, 250, 8, 0.3, 0.7))
    expected = values(real, fake)
    q = torch.from_numpy(ortho_group.rvs(8, random_state=1))
    order = torch.randperm(250, generator=torch.Generator().manual_seed(0))
    assert values(real @ q + 7, fake @ q + 7) == expected
    assert values(3 * real, 3 * fake) == expected
    assert values(real.flip(0), fake[order]) == expected


def test_precision_and_recall_change_places_with_the_sets():
    real, fake = sets(300, 250, 8, 0.3, 0.7)
    there, back = values(real, fake), values(fake, real)
    assert (there["precision"], there["recall"]) == (back["recall"], back["precision"])


def test_copies_lie_at_no_distance():
    """A radius of 0 holds the copies and nothing else, whatever rounding makes of the distances between them."""
    real = sets(100, 1, 40, 0, 1)[0] + 50
    fake = real[:3].repeat_interleave(10, dim=0)
    found = values(real, fake)
    assert (found["precision"], found["recall"]) == (1, 0.03)
    assert values(fake, real)["coverage"] == 1
    assert values(fake, real + 1)["coverage"] == 0


def test_copies_of_a_set_whose_items_occur_many_times_cover_it():
    real = sets(30, 1, 8, 0, 1)[0].repeat_interleave(6, dim=0)
    found = values(real, real.clone())
    assert (found["precision"], found["recall"], found["coverage"]) == (1, 1, 1) and found["density"] == 6 / 5


@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
def test_they_do_not_depend_on_the_block(monkeypatch, rows):
    real, fake = sets(130, 90, 8, 0.3, 0.7)
    whole = values(real, fake)
    monkeypatch.setattr(reference, "NUMBERS", rows * len(fake))
    assert values(real, fake) == whole


def test_six_items_are_enough():
    real, fake = sets(6, 6, 2, 0, 1)
    assert values(real, fake).keys() == {"precision", "recall", "density", "coverage"}
