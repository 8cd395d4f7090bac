"""Strings: what the decoder's probabilities become, the loss against a plain loop, and the files."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.strings import GRAMMAR, derivations, lines

from raectl import grammars
from raectl.errors import RaectlError
from raectl.grammars.parser import ParseError, parser_of
from raectl.modalities.strings import Strings

SMILES = grammars.read("smiles")
OTHER = grammars.read("S -> 'a' S S S 'b'\nS -> 'a' U\nS -> 'c'\nU")
ALL = {"expressions": GRAMMAR, "smiles": SMILES, "another": OTHER}


@pytest.fixture(scope="module")
def strings():
    return Strings(GRAMMAR.text())


def probabilities(n: int, length: int, size: int, seed: int = 0, sharpness: float = 3.0) -> torch.Tensor:
    logits = torch.randn(n, length, size, generator=torch.Generator().manual_seed(seed))
    return torch.softmax(sharpness * logits, dim=2)


def by_loop(grammar, scores: np.ndarray) -> list[int]:
    """One item's derivation, rule by rule."""
    waiting, rules = [0], []
    for row in scores:
        left = waiting.pop() if waiting else len(grammar.lefts) - 1
        rules.append(max((rule for rule, applies in enumerate(grammar.mask[left]) if applies), key=lambda r: row[r]))
        waiting += reversed(grammar.pushed[rules[-1]])
    return rules


# -- decoding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 15, 60])
@pytest.mark.parametrize("name", ALL)
def test_decoding_is_that_of_a_loop(name, length):
    grammar = ALL[name]
    x_hat = probabilities(40, length, grammar.size)
    items = Strings(grammar.text()).to_items(x_hat)
    assert items.dtype == np.uint8 and items.shape == (40, length)
    assert items.tolist() == [by_loop(grammar, rows) for rows in x_hat.numpy()]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(name=st.sampled_from(sorted(ALL)), seed=st.integers(0, 2**32), sampled=st.booleans(), length=st.integers(1, 80))
def test_what_is_finished_is_of_the_grammar(name, seed, sampled, length):
    grammar = ALL[name]
    generator = torch.Generator().manual_seed(seed) if sampled else None
    derived = Strings(grammar.text()).derive(probabilities(8, length, grammar.size, seed), generator)
    for rules in derived.tolist():
        text = grammar.string(rules)
        if text is not None:
            parsed = parser_of(grammar).derivation(text)
            assert list(parsed) == [rule for rule in rules if rule != grammar.padding]
        else:  # no rule is out of place; only the end is missing
            waiting = [0]
            for rule in rules:
                assert grammar.left[rule] == waiting.pop()
                waiting += reversed(grammar.pushed[rule])
            assert waiting


def test_probabilities_of_rules_that_do_not_apply_do_not_matter(strings):
    x_hat = torch.zeros(1, 3, 12)
    x_hat[0, :, 11] = 1.0  # only ever the padding
    x_hat[0, 0, 3] = x_hat[0, 1, 7] = 1e-30
    assert strings.shown(strings.to_items(x_hat)).tolist() == ["x"]


def test_draws_follow_the_probabilities(strings):
    x_hat = torch.zeros(20_000, 2, 12)
    x_hat[:, 0, 3] = 1.0  # S -> T
    x_hat[:, 1, 7:11] = torch.tensor([0.1, 0.2, 0.3, 0.0])  # x, 1, 2, 3
    x_hat[:, 1, 0] = 0.4  # does not apply
    rules = strings.derive(x_hat, torch.Generator().manual_seed(0))
    shares = torch.bincount(rules[:, 1], minlength=12) / len(rules)
    torch.testing.assert_close(shares[7:11], torch.tensor([1.0, 2.0, 3.0, 0.0]) / 6, atol=0.015, rtol=0)
    assert shares[7:11].sum() == 1
    assert torch.equal(rules, strings.derive(x_hat, torch.Generator().manual_seed(0)))


def test_an_item_depends_on_its_own_probabilities_alone(strings):
    x_hat = probabilities(9, 15, 12)
    np.testing.assert_array_equal(strings.to_items(x_hat)[3:5], strings.to_items(x_hat[3:5]))


@pytest.fixture
def forked():
    """A grammar of a, b and c; the likeliest rules derive a, and c is the likeliest string."""
    strings = Strings("S -> A | 'c'\nA -> 'a' | 'b'\n")
    x_hat = torch.zeros(2, strings.grammar.size)
    x_hat[0, :2] = torch.tensor([0.6, 0.4])
    x_hat[1, 2:4] = torch.tensor([0.5, 0.5])
    x_hat[1, 4] = 1.0  # the padding, after c
    assert strings.shown(strings.to_items(x_hat[None])).tolist() == ["a"]
    return strings, x_hat


def mode(strings, x_hat, draws, is_valid=bool, seed=0):
    rules = strings.mode(x_hat, draws, torch.Generator().manual_seed(seed), is_valid)
    assert rules.dtype == np.uint8 and rules.shape == x_hat.shape[:1]
    return strings.shown(rules[None])[0]


@pytest.mark.parametrize("at_once", [2**24, 100])
def test_the_mode_is_the_likeliest_string(forked, monkeypatch, at_once):
    monkeypatch.setattr("raectl.modalities.strings._AT_ONCE", at_once)  # 10 draws at a time
    assert [mode(*forked, 1005, seed=seed) for seed in range(4)] == ["c"] * 4


def test_the_mode_is_taken_among_what_is_valid(forked):
    strings, x_hat = forked
    x_hat[1, 2:4] = torch.tensor([0.4, 0.6])
    assert mode(strings, x_hat, 1000, lambda text: text != "c") == "b"
    assert mode(strings, x_hat, 1000, lambda text: False) == ""
    unfinished = x_hat[:1] * torch.tensor([1.0, 0, 0, 0, 0])  # A never becomes anything
    assert mode(strings, unfinished, 10) == ""


def test_rules_of_no_use_are_never_taken():
    x_hat = torch.zeros(1, 40, 76)
    x_hat[..., [29, 31]] = 1.0
    x_hat[..., 26] = 0.5  # BAH -> hcount BACH
    assert not {29, 31} & set(Strings(SMILES.text()).to_items(x_hat).flatten().tolist())


# -- what it looks like --------------------------------------------------------------------------------------------


def test_reconstructions_are_measured_as_they_are_written(strings):
    items = derivations(6)
    x = strings.to_tensor(torch.from_numpy(items))
    blurred = 0.4 * x + 0.6 * probabilities(6, 15, 12, sharpness=0.1)
    measured = strings.measured(blurred)
    assert torch.equal(measured, strings.to_tensor(torch.from_numpy(strings.to_items(blurred))))


def test_files(strings, tmp_path):
    items = derivations(4)
    unfinished = np.full((1, 15), 0, np.uint8)
    texts = lines(4)
    strings.writer.write(tmp_path / "s.txt", [items[:3], unfinished, items[3:]], 5)
    assert (tmp_path / "s.txt").read_text() == "".join(f"{t}\n" for t in [*texts[:3], "", texts[3]])
    strings.writer.write_pairs(tmp_path / "p.txt", items[:2], items[2:])
    assert (tmp_path / "p.txt").read_text() == f"{texts[0]}\t{texts[2]}\n{texts[1]}\t{texts[3]}\n"
    strings.writer.write_walks(tmp_path / "w.txt", items.reshape(2, 2, 15))
    assert (tmp_path / "w.txt").read_text() == f"{texts[0]}\t{texts[1]}\n{texts[2]}\t{texts[3]}\n"
    strings.writer.write_rows(tmp_path / "r.txt", ["real", "gmm"], [items[:2], items[2:]])
    assert (tmp_path / "r.txt").read_text().splitlines()[1] == f"gmm\t{texts[2]}\t{texts[3]}"
    for total in (1, 3):
        with pytest.raises(ValueError, match="items"):
            strings.writer.write(tmp_path / "x.txt", [items[:2]], total)
        assert not (tmp_path / "x.txt").exists()


def test_defaults_follow_the_length(strings):
    assert strings.default_architecture((15, 12)) == "conv-gru" and strings.default_latent_dim((15, 12)) == 25
    assert strings.default_architecture((277, 76)) == "conv-gru-large" and strings.default_latent_dim((277, 76)) == 56
    assert strings.extractors[0] == "expressions" and Strings(SMILES.text()).extractors[0] == "molecules"


def test_strings_need_a_grammar():
    with pytest.raises(RaectlError, match="need a grammar"):
        Strings()
    with pytest.raises(ParseError):
        parser_of(GRAMMAR).derivation("")
