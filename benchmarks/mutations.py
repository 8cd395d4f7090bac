"""Small changes to the source: one of cosmic-ray's replacements at one place."""

import ast
import contextlib
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PATHS = ("raectl/checkpoint/directory.py", "raectl/checkpoint/densities.py")  # modules in which `/` joins paths
Row = dict[str, Any]  # of the log: a mutant's, or a file of tests'


@cache
def operators() -> dict[str, Any]:
    """cosmic-ray's operators that need no arguments, by name, those aside that are left out."""
    from cosmic_ray import plugins

    bits = ("RShift", "LShift", "BitOr", "BitAnd", "BitXor")
    kept = {}
    for name in map(str, plugins.operator_names()):
        kind, *change = name.partition("/")[2].split("_")
        of_bits = kind == "ReplaceBinaryOperator" and (change[1] in bits or change[0] == "BitOr")
        of_numbers = kind == "ReplaceUnaryOperator" and change == ["USub", "Invert"]
        identity = kind == "ReplaceComparisonOperator" and sum(side in ("Is", "IsNot") for side in change) == 1
        operator = plugins.get_operator(name)
        if not (of_bits or of_numbers or identity or operator.arguments()):
            kept[name] = operator()
    return kept


def places(path: str) -> dict[tuple[int, int], list[tuple[str, int]]]:
    """{position: the operators that change something there, each with the number of the change}."""
    from cosmic_ray.ast import ast_nodes, get_ast

    nodes = list(ast_nodes(get_ast((ROOT / path).read_text())))
    found = defaultdict(list)
    for name, operator in operators().items():
        if "BinaryOperator_Div" in name and path in PATHS:
            continue
        starts = [position[0] for node in nodes for position in operator.mutation_positions(node)]
        for number, start in enumerate(starts):
            found[start].append((name, number))
    return found


def changed(path: str, operator: str, number: int) -> tuple[str, Row] | None:
    """A mutant's source, and its row of the log; None if it is left out."""
    from cosmic_ray.mutating import mutate_code

    before = (ROOT / path).read_text()
    after = mutate_code(before, operators()[operator], number)
    with contextlib.suppress(SyntaxError, TypeError):  # TypeError: there is no such change
        if ast.dump(ast.parse(after)) != ast.dump(ast.parse(before)):
            old, new = before.splitlines(), after.splitlines()
            line = next(i for i, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1])
            gone = len(new) < len(old)  # a decorator, with the empty line above it
            line += next(i for i, text in enumerate(old[line:]) if text.strip()) if gone else 0
            now = "" if gone else new[line].strip()
            if old[line].strip() != "@abstractmethod":
                row = {"path": path, "operator": operator, "number": number, "line": line + 1}
                return after, {**row, "before": old[line].strip(), "after": now}
    return None


def sample(sources: Sequence[str], size: int, seed: int) -> Iterator[tuple[str, Row]]:
    """Mutants of that many places in the sources, in the order in which they were drawn."""
    rng = random.Random(seed)
    drawn = [(path, *rng.choice(kinds)) for path in sources for _, kinds in sorted(places(path).items())]
    rng.shuffle(drawn)
    for mutant in drawn:
        if size and (made := changed(*mutant)):
            size -= 1
            yield made


def found_again(row: Row) -> tuple[str, Row] | None:
    """A logged mutant in the source of today; None if its line is there no more."""
    same = ("path", "operator", "before", "after")
    numbers = [n for kinds in places(row["path"]).values() for name, n in kinds if name == row["operator"]]
    for number in sorted(numbers, key=lambda number: abs(number - row["number"])):
        made = changed(row["path"], row["operator"], number)
        if made and all(made[1][key] == row[key] for key in same):
            return made
    return None
