"""Grammars as data, and the parser against all strings that a grammar derives, and against none that it does not."""

import itertools
import tracemalloc
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raectl import grammars
from raectl.errors import RaectlError, UsageError
from raectl.grammars.grammar import Grammar
from raectl.grammars.parser import LONGEST, ParseError, Parser, parser_of

EXPRESSIONS, SMILES = grammars.read("expressions"), grammars.read("smiles")


def derive(grammar: Grammar, choose, most: int) -> bytes | None:
    """A derivation by somebody's choices among the rules that apply, or None if it has not ended after `most` rules."""
    waiting, rules = [0], []
    while waiting and len(rules) < most:
        options = [rule for rule, allowed in enumerate(grammar.mask[waiting.pop()]) if allowed]
        rules.append(choose(options))
        waiting += reversed(grammar.pushed[rules[-1]])
    return None if waiting else bytes(rules)


# -- the two that come with the package ----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "rules", "lefts"), [("expressions", 12, 3), ("smiles", 76, 23)])
def test_sizes(name, rules, lefts):
    grammar = grammars.read(name)
    assert (grammar.size, len(grammar.lefts), grammar.padding) == (rules, lefts, rules - 1)
    assert len(grammar.left) == len(grammar.pushed) == len(grammar.mask[0]) == rules and len(grammar.mask) == lefts
    assert grammar.lefts[-1] == "Nothing" and grammar.mask[-1] == (False,) * (rules - 1) + (True,)
    assert name in grammars.names()


def test_each_rule_has_one_left_side_and_those_of_a_class_are_never_applied():
    times = [sum(column) for column in zip(*SMILES.mask, strict=True)]
    assert [rule for rule, count in enumerate(times) if count != 1] == [29, 31] and times[29] == times[31] == 0
    assert all("class" in [symbol.text for symbol in SMILES.productions[rule].right] for rule in (29, 31))
    assert [sum(column) for column in zip(*EXPRESSIONS.mask, strict=True)] == [1] * 12


def test_a_derivation_by_hand():
    rules = parser_of(EXPRESSIONS).derivation("1+sin(x)")
    #               S -> S + T, S -> T, T -> 1, T -> sin(S), S -> T, T -> x
    assert list(rules) == [0, 3, 8, 5, 3, 7]
    assert EXPRESSIONS.string(rules) == EXPRESSIONS.string(rules + bytes([11, 11])) == "1+sin(x)"


def test_a_molecule_by_hand():
    #  smiles, chain bond branched_atom, branched_atom, atom, aliphatic, C, =, atom, aliphatic, O
    assert list(parser_of(SMILES).derivation("C=O")) == [0, 74, 72, 62, 2, 5, 56, 62, 2, 7]
    assert list(parser_of(SMILES).derivation("C=1")) == [0, 72, 63, 2, 5, 67, 61, 56, 37]


MOLECULES = ["CC(=O)Oc1ccccc1C(=O)O", "C[C@@H](N)C(=O)[O-]", "Clc1ccc(Br)cc1", "[13CH4]", "C/C=C\\C#N", "C=1CCCCC=1",
             "c1ccc2c(c1)[nH]cc2CC[N+](C)(C)C", "C12(C(C1)C2)S", "F[C@H2+2]I"]  # fmt: skip


@pytest.mark.parametrize("text", MOLECULES)
def test_molecules_need_one_stack(text):
    parser = parser_of(SMILES)
    rules = parser.derivation(text)
    assert SMILES.string(rules) == text
    assert parser._by_one_stack(text) == rules == parser._by_a_graph(text)


def test_what_is_forgotten_is_found_again(monkeypatch):
    monkeypatch.setattr("raectl.grammars.parser._KEPT", 5)
    forgetful = Parser(SMILES)
    for text in MOLECULES * 2:
        bottom = forgetful._bottom
        assert forgetful.derivation(text) == parser_of(SMILES).derivation(text)
        assert forgetful._bottom is not bottom and forgetful._kept <= 5


def test_what_was_met_before_is_not_parsed_again(monkeypatch):
    parser = Parser(SMILES)
    known = {text: parser.derivation(text) for text in MOLECULES}
    monkeypatch.delattr(Parser, "_step")
    assert {text: parser.derivation(text) for text in MOLECULES} == known


NONE = {
    "": "its end",
    "C(": "fails at character 2, '('",
    "C1=": "fails at",
    "C%": "no '%', character 2",
    "[Si]": "no 'i', character 3",
    "CCl O": "no ' ', character 4",
    "C\0": "no '\\x00', character 2",
    "C9": "no '9'",
    "(" * 4000: "fails at character 1",
    "C(" * 2000: "fails at character 4000, '('",
    "C" * (LONGEST + 1): "longer than 4,096 characters",
    "C" * LONGEST: "more than 4,096 productions",
}


@pytest.mark.parametrize("text", NONE, ids=lambda text: f"{text[:6]!r}-{len(text)}")
def test_what_is_no_molecule_is_told_where(text):
    with pytest.raises(ParseError) as error:
        parser_of(SMILES).derivation(text)
    assert NONE[text] in str(error.value) and len(str(error.value)) < 100


def test_deep_strings_do_not_recurse():
    text = "(" * 1300 + "x" + ")" * 1300
    for find in (parser_of(EXPRESSIONS).derivation, parser_of(EXPRESSIONS)._by_a_graph):
        assert EXPRESSIONS.string(find(text)) == text


# -- all strings ---------------------------------------------------------------------------------------------------


def expressions_of(rules: int, left: str = "S") -> int:
    """How many derivations have so many rules, by recurrence."""
    if rules < 1:
        return 0
    if left == "T":
        return 3 * expressions_of(rules - 1) + 4 * (rules == 1)
    both = sum(expressions_of(n) * expressions_of(rules - 1 - n, "T") for n in range(rules))
    return 3 * both + expressions_of(rules - 1, "T")


def test_every_short_expression_comes_back():
    found = {b""}
    derivations = set()
    while found:  # all leftmost derivations of at most 8 rules
        longer = set()
        for rules in found:
            waiting = [0]
            for rule in rules:
                waiting.pop()
                waiting += reversed(EXPRESSIONS.pushed[rule])
            if not waiting:
                derivations.add(rules)
            elif len(rules) + len(waiting) <= 8:
                longer |= {rules + bytes([r]) for r, allowed in enumerate(EXPRESSIONS.mask[waiting[-1]]) if allowed}
        found = longer
    assert len(derivations) == sum(expressions_of(n) for n in range(9))
    for rules in derivations:
        assert parser_of(EXPRESSIONS).derivation(EXPRESSIONS.string(rules)) == rules


@pytest.mark.parametrize("grammar", [EXPRESSIONS, SMILES], ids=["expressions", "smiles"])
@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_what_is_derived_is_parsed_to_the_same_derivation(grammar, data):
    rules = derive(grammar, lambda options: data.draw(st.sampled_from(options)), 60)
    if rules is not None:
        assert parser_of(grammar).derivation(grammar.string(rules)) == rules


def derives(grammar: Grammar, text: str) -> bool:
    """Whether a grammar derives a string, by growing the set of (left side, from, to) until it stays."""
    known: set[tuple[str, int, int]] = set()
    while True:
        before = len(known)
        for (left, right), start in itertools.product(grammar.productions, range(len(text) + 1)):
            ends = {start}
            for symbol in right:
                if symbol.is_text:
                    ends = {end + len(symbol.text) for end in ends if text.startswith(symbol.text, end)}
                else:
                    ends = {j for name, i, j in known if name == symbol.text and i in ends}
            known |= {(left, start, end) for end in ends}
        if len(known) == before:
            return (grammar.productions[0].left, 0, len(text)) in known


RIGHT = st.lists(st.sampled_from(["'a'", "'b'", "'ab'", "S", "A", "B"]), max_size=3).map(" ".join)
GRAMMARS = st.tuples(*[st.lists(RIGHT, min_size=1, max_size=3).map(" | ".join) for _ in range(3)]).map(
    lambda rights: "\n".join(f"{left} -> {right}" for left, right in zip("SAB", rights, strict=True))
)


def assert_only_what_is_derived_is_found(text: str, longest: int) -> None:
    """Of all strings of a and b up to a length; a file of a grammar that derives none is refused."""
    try:
        grammar = grammars.read(text)
    except RaectlError as error:
        assert "no string can be derived" in error.message or "no productions" in error.message  # noqa: PT017
        return
    parser = Parser(grammar)
    for string in ("".join(c) for n in range(longest + 1) for c in itertools.product("ab", repeat=n)):
        if derives(grammar, string):
            assert grammar.string(parser.derivation(string)) == string
        else:
            with pytest.raises(ParseError, match=r"does not derive it|has no"):
                parser.derivation(string)


AWKWARD = {
    "nothing before itself": "S -> A S | 'b' A\nA -> | 'a'",
    "nothing after itself": "S -> S A | A 'b'\nA -> | 'a'",
    "nothing on both sides": "S -> A S A | 'b'\nA -> | 'a'",
    "nothing around a letter": "S -> A 'b' A | A S A\nA -> | A A",
    "left recursion behind nothing": "S -> A B\nA -> | 'a' A\nB -> A S 'b' | 'b'",
    "the other's left recursion": "S -> A 'a' | 'b'\nA -> B S | S 'b'\nB -> | B",
    "itself": "S -> S | 'a' S | ",
    "a cycle of three": "S -> A | 'a'\nA -> B | 'b' S\nB -> S | A A",
    "a cycle that grows": "S -> S S | A\nA -> S | 'a' | ",
    "only nothing": "S -> S S | A\nA ->",
    "nothing at all": "S -> A S\nA -> | 'a'",
    "nothing of a part": "S -> 'a' | A 'b'\nA -> A 'a' | B A\nB -> ",
}


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_grammars_derive_what_their_parsers_find(name):
    assert_only_what_is_derived_is_found(AWKWARD[name], 5)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(text=GRAMMARS)
def test_any_grammar_derives_what_its_parser_finds(text):
    assert_only_what_is_derived_is_found(text, 4)


def test_grammars_with_much_of_nothing_derive_what_their_parsers_find():
    random = Random(0)
    symbols = ["", "", "'a'", "'b'", "S", "A", "B", "C"]
    for _ in range(80):
        rights = [[" ".join(random.choices(symbols, k=random.randint(0, 3))) for _ in range(3)] for _ in "SABC"]
        text = "\n".join(f"{left} -> {' | '.join(right)}" for left, right in zip("SABC", rights, strict=True))
        assert_only_what_is_derived_is_found(text, 3)


def doubled(times: int, last: str) -> str:
    """A grammar that needs two rules of each left side for one of that before."""
    return "\n".join([f"A{n} -> A{n + 1} A{n + 1}" for n in range(times)] + [f"A{times} -> {last}"])


ENDLESS = {
    "nothing, long": (doubled(12, ""), "", "more than 4,096 productions"),
    "nothing, longer than memory": (doubled(60, ""), "", "more than 4,096 productions|too ambiguous"),
    "nothing between letters": ("S -> 'a' A0 S | 'a'\n" + doubled(10, ""), "aaaaaa", "more than 4,096 productions"),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_would_be_too_long_is_given_up_in_little_memory(name, monkeypatch):
    monkeypatch.setattr("raectl.grammars.parser._STEPS", 100_000)
    text, string, message = ENDLESS[name]
    parser = Parser(grammars.read(text))
    tracemalloc.start()
    try:
        with pytest.raises(ParseError, match=message):
            parser.derivation(string)
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


def test_the_longest_derivation_that_is_allowed_is_found():
    grammar = grammars.read("S -> 'a' S | 'a'")
    assert len(Parser(grammar).derivation("a" * LONGEST)) == LONGEST


def test_of_an_ambiguous_string_one_derivation_is_found():
    grammar = grammars.read("S -> S '+' S | S '*' S | 'x'")
    text = "x" + "+x*x" * 20
    rules = Parser(grammar).derivation(text)
    assert grammar.string(rules) == text and Parser(grammar).derivation(text) == rules


def test_too_ambiguous_a_string_is_given_up():
    with pytest.raises(ParseError, match="too ambiguous"):
        Parser(grammars.read("S -> S S S | S S | 'a'")).derivation("a" * 400)


def test_states_do_not_add_up_over_strings(monkeypatch):
    # Whether the tenth letter from the end is an a: a state has to know of each of the last ten.
    grammar = grammars.read("S -> 'a' S | 'b' S | 'a' A9\n" + "".join(f"A{n} -> 'a' A{n - 1} | 'b' A{n - 1}\n"
                            for n in range(9, 0, -1)) + "A0 -> ")  # fmt: skip
    monkeypatch.setattr("raectl.grammars.parser._STATES", 50)
    parser, random, seen = Parser(grammar), Random(0), 0
    for _ in range(40):
        text = "".join(random.choices("ab", k=30)) + "a" + "".join(random.choices("ab", k=9))
        assert grammar.string(parser.derivation(text)) == text
        with pytest.raises(ParseError, match="does not derive it"):
            parser.derivation(text[:-10] + "b" + text[-9:])
        seen = max(seen, len(parser._states))
    assert seen < 200  # of more than 700


def test_long_right_sides_of_nothing_are_looked_ahead_of_in_bounded_work():
    nothing = "A -> \n" + "\n".join(f"A -> '{letter}'" for letter in "abcdefghijklmnopqrstuvwxyz")
    wide = grammars.read(f"S -> {'A ' * 200}\n{nothing}")
    assert wide.string(Parser(wide).derivation("ab")) == "ab"
    chain = "".join(f"B{n} -> B{n + 1} {'A ' * 200}\n" for n in range(150))
    with pytest.raises(RaectlError, match="the grammar is too ambiguous"):
        Parser(grammars.read(f"{chain}B150 -> 'a'\n{nothing}"))


@pytest.mark.parametrize("rules", [[0, 3, 8], [3, 3], [3, 7, 7], [3, 7, 11, 3], [11], [12], []])
def test_no_derivation_has_no_string(rules):
    assert EXPRESSIONS.string(rules) is None


# -- files of grammars ---------------------------------------------------------------------------------------------


def test_forms_of_a_file(tmp_path):
    path = tmp_path / "my.grammar"
    path.write_text("# mine\n\n  unused\nS -> S \"'\" T|T \nT -> 'a b' unused | '\\' | \nNothing -> None\n")
    grammar = grammars.read(str(path))
    assert grammar.text() == "unused\nS -> S \"'\" T\nS -> T\nT -> 'a b' unused\nT -> '\\'\nT ->\n"
    assert grammars.canonical(str(path)) == grammar.text() == grammars.canonical(grammar.text())
    assert parser_of(grammar).derivation("\\''\\") == bytes([0, 0, 1, 3, 4, 3])


@pytest.mark.parametrize("name", ["expressions", "smiles"])
def test_the_text_of_a_grammar_is_that_grammar(name):
    assert grammars.read(grammars.canonical(name)) == grammars.read(name)


WRONG = {
    "S -> 'x": 'line 1: "\'x" cannot be read',
    "-> 'x'": "no left side",
    "S T -> 'x'": "no left side",
    "S -> 'x'\n'y' -> 'x'": "line 2",
    "S -> T": "no productions for 'T'",
    "S -> S": "no string can be derived from 'S'",
    "S -> 'x'\nS ::= 'y'": "has no ->",
    "T\nS -> T": "no string can be derived from 'S'",
    "T\nS -> 'x'\nT -> 'y'": "declares 'T'",
    "S -> 'x'\nNothing -> 'y'": "uses Nothing",
    "S -> Nothing": "uses Nothing",
    "# ->": "has no productions",
    "S -> 'x\0'": "no left side",
    "S -> " + " | ".join(f"'{n}'" for n in range(256)): "256 productions, more than 255",
}


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_what_is_no_grammar_is_told_where(text, tmp_path):
    path = tmp_path / "my.grammar"
    path.write_text(text)
    with pytest.raises(RaectlError) as error:
        grammars.read(str(path))
    assert WRONG[text] in error.value.message and str(path) in error.value.message


def test_what_is_no_file_of_a_grammar(tmp_path):
    with pytest.raises(UsageError) as error:
        grammars.read("nonesuch")
    assert "--grammar 'nonesuch'" in error.value.message and "expressions, smiles" in error.value.hint
    with pytest.raises(UsageError, match="directory"):
        grammars.read(str(tmp_path))
    with pytest.raises(UsageError, match="null"):
        grammars.read("a\0b")
    for content, message in ((b"S -> '\xff'", "not UTF-8 text"), (b"S -> 'x'\n" * 20_000, "too large")):
        (tmp_path / "bad.grammar").write_bytes(content)
        with pytest.raises(RaectlError, match=message):
            grammars.read(str(tmp_path / "bad.grammar"))


def test_a_file_that_has_changed_is_read_again(tmp_path):
    path = tmp_path / "own.grammar"
    path.write_text("S -> 'a'")
    assert grammars.read(str(path)).string([0]) == "a"
    path.write_text("S -> 'b'")
    assert grammars.read(str(path)).string([0]) == "b"
