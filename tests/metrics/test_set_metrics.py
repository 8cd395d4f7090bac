"""What holds for every registered measure of samples: directions on digits, errors, one reference for many sets."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits

from raectl.errors import RaectlError
from raectl.extractors.images import ImageExtractor
from raectl.metrics.reference import LOWER_IS_BETTER, Measured, Reference
from raectl.registry import resolve

MEASURES = ImageExtractor.set_metrics
N = 600


def digits():
    """(real, held-out) digits, (N, 64) values in [0, 1]: the pixels are the features."""
    x = load_digits().data / 16
    x = x[np.random.default_rng(0).permutation(len(x))]
    return torch.from_numpy(x[:N]).float(), torch.from_numpy(x[N : 2 * N]).float()


REAL, HELD_OUT = digits()


def noisy(amount):
    noise = torch.randn(HELD_OUT.shape, generator=torch.Generator().manual_seed(1))
    return HELD_OUT + amount * noise


def blurred(sigma):
    images = HELD_OUT.numpy().reshape(-1, 8, 8)
    return torch.from_numpy(gaussian_filter(images, (0, sigma, sigma))).reshape(len(images), -1)


def collapsed(modes):
    """A few items over and over, told apart by little: each good, all together poor."""
    return HELD_OUT[:modes].repeat(N // modes, 1) + 0.02 * (noisy(1) - HELD_OUT)


SETS = {
    "held-out": HELD_OUT,
    "little noise": noisy(0.1),
    "noise": noisy(0.4),
    "little blur": blurred(0.5),
    "blur": blurred(1.5),
    "collapsed": collapsed(3),
}


@pytest.fixture(scope="module")
def measured():
    reference = Reference(REAL)
    found = {
        name: {number: m for measure in MEASURES for number, m in resolve("set-metric", measure)(reference, x).items()}
        for name, x in SETS.items()
    }
    return {number: {name: row[number] for name, row in found.items()} for number in found["held-out"]}


def test_every_number_has_a_direction(measured):
    assert measured.keys() <= LOWER_IS_BETTER.keys()
    for row in measured.values():
        for m in row.values():
            assert isinstance(m, Measured) and type(m.value) is float and np.isfinite(m.value)
            assert m.se is None or (type(m.se) is float and m.se > 0)


# What each number must see. Noise widens the measured items' own radii, so recall does not see it, and a little of it,
# even in all directions, leaves the kernel's moments; a little blur moves items to the middle, into the radii of many.
WORSE = [
    *[(number, "little noise") for number in ("frechet", "precision", "density", "coverage")],
    *[(number, "noise") for number in ("frechet", "kernel", "precision", "density", "coverage")],
    *[(number, "little blur") for number in ("frechet", "kernel", "recall")],
    *[(number, "blur") for number in ("frechet", "kernel", "precision", "recall", "density", "coverage")],
]


@pytest.mark.parametrize(("number", "corruption"), WORSE)
def test_a_corruption_is_worse_and_more_of_it_worse_still(measured, number, corruption):
    sign = 1 if LOWER_IS_BETTER[number] else -1
    value = {name: sign * m.value for name, m in measured[number].items()}
    assert value["held-out"] < value[corruption]
    little = f"little {corruption}"
    if (number, little) in WORSE:
        assert value[little] < value[corruption]


def test_noise_leaves_the_manifold(measured):
    precision = measured["precision"]
    assert precision["noise"].value < 0.1 and precision["held-out"].value > 0.5


def test_a_collapsed_sampler_is_precise_and_covers_nothing(measured):
    value = {number: row["collapsed"].value for number, row in measured.items()}
    assert value["precision"] > 0.8 and value["recall"] < 0.1 and value["coverage"] < 0.1
    assert value["frechet"] > 5 * measured["frechet"]["held-out"].value
    kernel = measured["kernel"]
    assert kernel["collapsed"].value - 4 * kernel["collapsed"].se > kernel["held-out"].value


def test_held_out_digits_have_no_kernel_distance(measured):
    value, se = measured["kernel"]["held-out"]
    assert abs(value) < 3 * se


@pytest.mark.parametrize("name", MEASURES)
class TestEveryMeasure:
    def test_order_and_mode_of_reference_do_not_matter(self, name):
        measure = resolve("set-metric", name)
        reference = Reference(REAL)
        first = measure(reference, HELD_OUT)
        measure(reference, SETS["noise"])
        assert measure(reference, HELD_OUT) == first
        again = measure(Reference(REAL.flip(0).clone().requires_grad_()), HELD_OUT.flip(0))
        for number, m in first.items():
            assert again[number].value == pytest.approx(m.value, rel=1e-5, abs=1e-6)

    def test_other_widths_are_refused(self, name):
        with pytest.raises(RaectlError, match="63 features an item, the real ones 64"):
            resolve("set-metric", name)(Reference(REAL), HELD_OUT[:, 1:])

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_values_that_are_not_finite_are_refused(self, name, bad):
        x = HELD_OUT.clone()
        x[[4, 9], 3] = bad
        with pytest.raises(RaectlError, match="not finite, of 2 of 600 measured items, of item 4 first"):
            resolve("set-metric", name)(Reference(REAL), x)

    @pytest.mark.parametrize("n", [0, 1])
    def test_one_item_is_no_set(self, name, n):
        with pytest.raises(RaectlError, match=f"at least 2 measured items, not {n}"):
            resolve("set-metric", name)(Reference(REAL), HELD_OUT[:n])


@pytest.mark.parametrize(("name", "least"), [("kernel", 3), ("prdc", 6)])
def test_measures_that_need_more_items_say_so(name, least):
    measure = resolve("set-metric", name)
    measure(Reference(REAL[:least]), HELD_OUT[:least])
    with pytest.raises(RaectlError, match=f"at least {least} real items, not {least - 1}"):
        measure(Reference(REAL[: least - 1]), HELD_OUT)
    with pytest.raises(RaectlError, match=f"at least {least} measured items, not {least - 1}"):
        measure(Reference(REAL), HELD_OUT[: least - 1])


def test_a_reference_looks_at_its_features():
    with pytest.raises(RaectlError, match=r"shape \(N, D\), not \(4,\)"):
        Reference(torch.zeros(4))
    with pytest.raises(RaectlError, match="at least 2 real items, not 1"):
        Reference(torch.zeros(1, 4))
    with pytest.raises(RaectlError, match="of 1 of 3 real items, of item 2 first"):
        Reference(torch.tensor([[0.0], [1.0], [float("nan")]]))
    assert Reference(torch.zeros(3, 2, dtype=torch.bfloat16)).features.dtype == torch.float32
