"""What is measured of strings: closed cases, the scores of the paper's own expressions, wrong reconstructions."""

import itertools
import math

import numpy as np
import pytest
import torch
from support.strings import GRAMMAR, derivations

from raectl import registry
from raectl.errors import RaectlError, UsageError
from raectl.extractors.expressions import Expressions
from raectl.extractors.strings import Strings
from raectl.metrics.derivations import exact_match, production_accuracy
from raectl.metrics.reference import LOWER_IS_BETTER, Reference
from raectl.metrics.strings import validity
from raectl.modalities.strings import Strings as Modality
from raectl.objectives.expressions import WORST, evaluate, score


def features(*texts: str) -> torch.Tensor:
    return Strings()(np.array(texts))


def measured(texts, training=None):
    known = (lambda: None) if training is None else (lambda: features(*training))
    found = validity(Reference(features("x", "1"), known), features(*texts))
    return {name: m.value for name, m in found.items()}


# -- sets ----------------------------------------------------------------------------------------------------------


def test_validity_by_hand():
    assert measured(["x", "", "x", "1", "2"]) == {"valid": 0.8, "unique": 0.75}
    assert measured(["x", "", "x", "1", "2"], ["x", "3"]) == {"valid": 0.8, "unique": 0.75, "novel": 2 / 3}
    assert measured(["", ""], ["x"]) == {"valid": 0, "unique": 0, "novel": 0}
    assert measured(["x", "1"], ["x", "1"]) == {"valid": 1, "unique": 1, "novel": 0}
    assert measured(["x"] * 100) == {"valid": 1, "unique": 0.01}


def test_standard_errors_are_those_of_shares():
    m = validity(Reference(features("x", "1")), features(*["x"] * 30, *[""] * 70))["valid"]
    assert m.value == 0.3 and m.se == pytest.approx(math.sqrt(0.3 * 0.7 / 100))


def test_identities_tell_many_strings_apart():
    texts = [f"{a}+{b}" for a in range(300) for b in range(300)]
    assert measured(texts)["unique"] == 1
    assert torch.equal(features(*texts[:5]), features(*texts)[:5])


def test_the_mean_score_counts_what_is_not_valid():
    measure = registry.resolve("set-metric", "score")
    m = measure(Reference(Expressions()(np.array(["x", "1"]))), Expressions()(np.array(["x", "", ""])))["score"]
    assert m.value == pytest.approx((score("x") + 2 * WORST) / 3, rel=1e-6) and m.se > 0


@pytest.mark.parametrize("kind", [Strings, Expressions])
def test_extractors_of_strings(kind, tmp_path):
    extractor = kind()
    rows = extractor(np.array(["x", "", "sin(x)"]))
    assert rows.shape == (3, extractor.dim) and rows.dtype == torch.float32 and rows[:, 0].tolist() == [1, 0, 1]
    assert extractor(np.array([], np.str_)).shape == (0, extractor.dim)
    assert set(extractor.set_metrics) <= set(registry.names("set-metric"))
    with pytest.raises(RaectlError, match="takes strings"):
        extractor(np.zeros((2, 8, 8, 1), np.uint8))
    with pytest.raises(UsageError, match="no weights"):
        kind(tmp_path / "w.pth")


def test_every_number_has_a_direction():
    assert {"valid", "unique", "novel", "score", "exact-match", "production-accuracy"} <= LOWER_IS_BETTER.keys()


# -- the score -----------------------------------------------------------------------------------------------------

# Ghosh et al. 2020, figure of the best expressions, scored with real division.
PRINTED = {"sin(3)+x": 0.430, "x+1/exp(1)": 0.389, "x+1+2*sin(3+1+2)": 0.391, "x/1+sin(x)+sin(x*x)": 0.463,
           "x/2+sin(1)+(x/2)": 0.518, "x*1+sin(x)+sin(3+x)": 0.489, "x/1+sin(1)+sin(2*2)": 0.451}  # fmt: skip


@pytest.mark.parametrize("text", PRINTED)
def test_the_papers_expressions_score_what_it_prints(text):
    assert score(text) == pytest.approx(PRINTED[text], abs=6e-4)


@pytest.mark.parametrize(
    "text", ["1+2*3", "x*(1+2)/3-x", "sin(exp(1)/x)", "1-2-3+4/2/2", "((x))", "2.5*x", "exp(sin(x))"]
)
def test_values_are_those_of_python(text):
    x = np.linspace(0.5, 3, 7)
    known = eval(text, {"sin": np.sin, "exp": np.exp, "x": x})
    np.testing.assert_allclose(evaluate(text, x), np.broadcast_to(known, 7), rtol=1e-12)


@pytest.mark.parametrize(
    "text",
    ["", "x+", "+x", "(x", "x)", "x x", "y", "sin x", "()", "1..2", "(" * 5000, "__import__('os')", "(1/0)*0", "x(1)"],
)
def test_what_is_no_expression_scores_worst(text):
    assert score(text) == WORST == pytest.approx(6.909, abs=1e-3)


def test_errors_are_cut_and_depth_is_no_trouble():
    assert score("exp(exp(x))") < WORST and score("1/0") == pytest.approx(WORST)
    assert score("(" * 5000 + "x" + ")" * 5000) == score("x")


# -- reconstructions -----------------------------------------------------------------------------------------------


def test_more_wrong_rules_are_worse():
    modality = Modality(GRAMMAR.text())
    items = derivations(64)
    x = modality.to_tensor(torch.from_numpy(items))
    rng = np.random.default_rng(0)
    order = rng.random(items.shape)
    noise = torch.from_numpy(rng.integers(0, 12, items.shape))
    values = []
    for share in (0.0, 0.05, 0.2, 0.6):
        wrong = torch.where(torch.from_numpy(order < share), noise, torch.from_numpy(items).long())
        x_hat = modality.to_tensor(wrong)
        assert exact_match(x, x_hat).shape == production_accuracy(x, x_hat).shape == (64,)
        values.append((exact_match(x, x_hat).mean(), production_accuracy(x, x_hat).mean()))
        torch.testing.assert_close(production_accuracy(x[:3], x_hat[:3]), production_accuracy(x, x_hat)[:3])
    assert values[0] == (1, 1)
    for better, worse in itertools.pairwise(values):
        assert better[0] > worse[0] and better[1] > worse[1]


def test_padding_of_both_does_not_count():
    one = torch.eye(4)
    x, x_hat = one[torch.tensor([[0, 1, 3, 3, 3]])], one[torch.tensor([[0, 2, 2, 3, 3]])]
    assert production_accuracy(x, x_hat).item() == pytest.approx(1 / 3) and exact_match(x, x_hat).item() == 0
