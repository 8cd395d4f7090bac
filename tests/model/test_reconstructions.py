"""Reconstruction terms against plain formulas, and the options that decide on them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.strings import GRAMMAR, derivations, lines
from torch import Tensor

from raectl import grammars, registry
from raectl.errors import UsageError
from raectl.grammars.parser import parser_of
from raectl.modalities.images import Images
from raectl.modalities.strings import Strings
from raectl.model.reconstructions import fill_in, for_modality
from raectl.model.reconstructions.absolute import Absolute
from raectl.model.reconstructions.cross_entropy import CrossEntropy
from raectl.model.reconstructions.squared import Squared

IMAGES = Images()
SMILES = grammars.read("smiles")
MOST = 10**9


def batch(seed: int = 0, shape: tuple[int, ...] = (5, 3, 8, 8)) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def l1(start: int = 0, length: int = 0) -> Absolute:
    return Absolute(IMAGES, start=start, length=length)


# -- the formulas -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    ("term", "step", "a"),
    [
        (Squared(IMAGES), 0, 0.0),
        (Squared(IMAGES), 10**6, 0.0),
        (l1(250, 500), 0, 0.0),
        (l1(250, 500), 250, 0.0),
        (l1(250, 500), 375, 0.25),
        (l1(250, 500), 749, 499 / 500),
        (l1(250, 500), 750, 1.0),
        (l1(250, 500), 10**6, 1.0),
        (l1(0, 0), 0, 1.0),
        (l1(7, 0), 6, 0.0),
        (l1(7, 0), 7, 1.0),
        (l1(0, 4), 1, 0.25),
        (l1(MOST, MOST), 3 * MOST // 2, 0.5),
    ],
)
def test_errors_are_summed_over_the_values_of_an_item(term, step, a, channels_last):
    x, x_hat = batch(0), batch(1)
    if channels_last:
        x, x_hat = (v.to(memory_format=torch.channels_last) for v in (x, x_hat))
    e = x.double().numpy() - x_hat.double().numpy()
    expected = ((1 - a) * e**2 + a * np.abs(e)).sum(axis=(1, 2, 3))
    found = term(x, x_hat, step)
    assert found.shape == (5,) and found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(start=st.integers(0, 50), length=st.integers(0, 50), step=st.integers(0, 120))
def test_the_weight_of_the_absolute_error_is_a_clipped_ramp(start, length, step):
    term = l1(start, length)
    expected = min(1.0, max(0.0, (step - start) / length)) if length else float(step >= start)
    assert term.share(step) == pytest.approx(expected, abs=1e-12)
    assert (term.share(step) == 1) == (step >= term.constant_from), "which is where it no longer changes"


def test_before_its_start_it_is_the_squared_error_bit_for_bit():
    x, x_hat = batch(0), batch(1).requires_grad_()
    ours, theirs = l1(250, 500)(x, x_hat, 250), Squared(IMAGES)(x, x_hat, 250)
    assert torch.equal(ours, theirs)
    assert torch.equal(*(torch.autograd.grad(value.sum(), x_hat)[0] for value in (ours, theirs)))
    after = l1(250, 500)(x, x_hat, 750)
    assert torch.equal(after, (x - x_hat).abs().sum(dim=(1, 2, 3)))


@pytest.mark.parametrize("a", [0.0, 0.3, 1.0])
def test_the_gradient_is_that_of_the_formula(a):
    x, x_hat = batch(0), batch(1)
    x_hat[0, 0, 0] = x[0, 0, 0]  # where |e| has none, it is 0
    x_hat.requires_grad_()
    (gradient,) = torch.autograd.grad(l1(0, 10)(x, x_hat, round(10 * a)).sum(), x_hat)
    e = (x_hat - x).detach()
    torch.testing.assert_close(gradient, (1 - a) * 2 * e + a * e.sign())
    assert torch.isfinite(gradient).all() and (gradient[0, 0, 0] == 0).all()


def test_the_minimizer_of_l1_is_the_median_and_that_of_l2_is_the_mean():
    values = torch.tensor([0.0, 0.0, 0.0, 0.9, 1.0]).view(5, 1, 1, 1)

    def slope(term, c: float) -> float:
        constant = torch.full((5, 1, 1, 1), c, requires_grad=True)
        return float(torch.autograd.grad(term(values, constant, 0).sum(), constant)[0].sum())

    assert all(slope(l1(), c) > 0 for c in (0.01, 0.38, 0.5, 0.95)) and slope(l1(), -0.01) < 0
    mean = values.mean().item()
    assert slope(Squared(IMAGES), mean - 0.01) < 0 < slope(Squared(IMAGES), mean + 0.01)


@pytest.mark.parametrize("step", [0, 5, 10])
def test_a_decoder_in_half_precision_is_compared_in_float32(step):
    x, x_hat = batch(0), batch(1).bfloat16()
    for term in (Squared(IMAGES), l1(0, 10)):
        with torch.autocast("cpu", torch.bfloat16):
            found = term(x, x_hat, step)
        assert found.dtype == torch.float32
        assert torch.equal(found, term(x, x_hat.float(), step))


def test_a_dead_decoder_does_not_stay_black_in_the_first_steps():
    """Most pixels are 0, so the median is: the absolute error pulls a constant to black, the squared one does not."""
    x = (batch(0, (100, 1, 8, 8)) < 0.2).float()
    constant = torch.full((1, 8, 8), 0.05, requires_grad=True)

    def gradient(step: int) -> Tensor:
        loss = l1(250, 500)(x, constant.expand(100, 1, 8, 8), step).mean()
        return torch.autograd.grad(loss, constant)[0]

    assert (gradient(0) < 0).all() and (gradient(750) > 0).all()


# -- strings ----------------------------------------------------------------------------------------------------------


def loss_by_loop(x: np.ndarray, logits: np.ndarray, grammar) -> float:
    """The Grammar VAE's code: exp(logits) masked by the true rule's left side, renormalised; T times the mean."""
    total = 0.0
    for rule, row in zip(x, logits, strict=True):
        masked = np.exp(row) * np.array(grammar.mask[grammar.left[rule]])
        p = masked / masked.sum()
        for other, value in enumerate(p):
            total -= math.log(max(1e-7, value if other == rule else 1 - value))
    return len(x) * total / logits.size


@pytest.mark.parametrize("grammar", [GRAMMAR, SMILES], ids=["expressions", "smiles"])
def test_the_cross_entropy_is_that_of_a_loop(grammar):
    texts = lines(5) if grammar is GRAMMAR else ["CCO", "c1ccccc1", "C[C@H](N)C=O", "C#N", "Cl"]
    rules = [[*parser_of(grammar).derivation(text)] for text in texts]
    items = np.array([row + [grammar.padding] * (50 - len(row)) for row in rules], np.uint8)
    logits = 2 * torch.randn(5, 50, grammar.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    strings = Strings(grammar.text())
    loss = CrossEntropy(strings)(strings.to_tensor(torch.from_numpy(items)), logits.softmax(dim=2).float(), 0)
    expected = [loss_by_loop(x, row.numpy(), grammar) for x, row in zip(items, logits, strict=True)]
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-5)


def test_the_cross_entropy_is_finite_where_everything_is_wrong():
    strings = Strings(GRAMMAR.text())
    x = strings.to_tensor(torch.from_numpy(derivations(4)))
    x_hat = x.roll(1, dims=2).requires_grad_()
    loss = CrossEntropy(strings)(x, x_hat, 0)
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(x_hat.grad).all() and (loss > 1).all()
    broken = torch.full_like(x, torch.nan)
    assert CrossEntropy(strings)(x, broken, 0).isnan().all()  # which the trainer reports


# -- options ----------------------------------------------------------------------------------------------------------


def test_options_that_are_missing_are_filled_in():
    assert fill_in({"name": "l2"}) == {"name": "l2"}
    assert fill_in({"name": "l1"}) == {"name": "l1", "start": 250, "length": 500}
    assert fill_in({"length": 7, "name": "l1"}) == {"name": "l1", "start": 250, "length": 7}
    for value in (0, MOST):
        assert fill_in({"name": "l1", "start": value, "length": value}) == {
            "name": "l1",
            "start": value,
            "length": value,
        }


@pytest.mark.parametrize(
    ("given", "said", "hint"),
    [
        ({"name": "l1", "slope": 3}, "l1 has no option 'slope'", "known: start, length"),
        ({"name": "l2", "start": 0}, "l2 has no option 'start'", "it has none"),
        ({"name": "l1", "start": -1}, "l1,start=-1 is out of range: 0 to 1,000,000,000", "l1,start=250"),
        ({"name": "l1", "length": MOST + 1}, "l1,length=1000000001 is out of range", "l1,length=500"),
        ({"name": "l1", "start": 0.5}, "l1,start=0.5 is no whole number", "l1,start=250"),
        ({"name": "l1", "start": math.nan}, "l1,start=nan is no whole number", "l1,start=250"),
        ({"name": "l1", "start": True}, "l1,start=true is no whole number", "l1,start=250"),
    ],
    ids=str,
)
def test_options_that_are_wrong_are_refused(given, said, hint):
    with pytest.raises(UsageError) as error:
        fill_in(given)
    assert said in error.value.message and hint in error.value.hint and "\n" not in error.value.message


def test_a_term_is_for_some_modalities():
    assert for_modality(None, IMAGES) == {"name": "l2"}
    assert for_modality({"name": "l1"}, IMAGES)["length"] == 500
    strings = Strings(GRAMMAR.text())
    assert for_modality(None, strings) == {"name": "cross-entropy"}
    with pytest.raises(UsageError, match="--reconstruction l1 is not for strings") as error:
        for_modality({"name": "l1"}, strings)
    assert error.value.hint == "known for strings: cross-entropy"
    with pytest.raises(UsageError, match="--reconstruction cross-entropy is not for images"):
        for_modality({"name": "cross-entropy"}, IMAGES)


def test_a_near_name_is_proposed():
    for near, name in (("mse", "l2"), ("mae", "l1"), ("cross_entropy", "cross-entropy")):
        with pytest.raises(UsageError) as error:
            registry.check("reconstruction", near)
        assert f"did you mean {name}?" in error.value.hint
