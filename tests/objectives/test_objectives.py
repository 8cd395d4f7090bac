"""Objectives: known scores, directions, and what is not valid."""

import ast
import math
import sys

import networkx
import numpy as np
import pytest
from rdkit import Chem, RDConfig
from rdkit.Chem import Crippen

from raectl import registry
from raectl.errors import RaectlError
from raectl.objectives import penalized_logp
from raectl.objectives.expressions import WORST

# The best three strings that the paper prints for each model. Scores by real division: where the paper's are those of
# whole numbers (.105 and .613), other ones.
PRINTED = {
    "sin(3)+x": 0.430,
    "x+1/exp(1)": 0.389,
    "x+1+2*sin(3+1+2)": 0.391,
    "x/1+sin(x)+sin(x*x)": 0.463,
    "1/2+(x)+sin(x*x)": 0.027,
    "x/2+sin(1)+(x/2)": 0.518,
    "x*1+sin(x)+sin(3+x)": 0.489,
    "x/1+sin(1)+sin(2*2)": 0.451,
    "1/1+(x)+sin(1/2)": 0.978,
}
MOLECULES = [
    "CCO",
    "c1ccccc1",
    "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
    "C1CCCCCCC1",
    "c1ccc2c(c1)ccc1ccccc12",
    "[NH4+]",
    "C1CC1.C",
]
EXAMPLES = {"expressions": ("x+1/exp(1)", "exp(x)"), "penalized-logp": ("c1ccc2c(c1)ccc1ccccc12", "C1CCCCCCC1")}


def make(name):
    return registry.resolve("objective", name)()


@pytest.mark.parametrize("name", registry.names("objective"))
def test_every_objective(name):
    objective = make(name)
    good, bad = EXAMPLES[name]
    scores = objective([good, bad, "", "((", good])
    assert objective.name == name and scores.dtype == np.float64 and objective.draws >= 1
    assert (scores[0] < scores[1]) == objective.lower_is_better and scores[0] == scores[4]
    assert np.isnan(scores[2:4]).all() and np.isfinite(scores[:2]).all()
    assert [objective.is_valid(text) for text in (good, bad, "", "((")] == [True, True, False, False]
    assert objective([]).shape == (0,)


def test_the_paper_s_expressions():
    found = make("expressions")(list(PRINTED))
    assert found == pytest.approx(list(PRINTED.values()), abs=6e-4)


def test_expressions_by_python_s_own_arithmetic():
    """Each text run as a program at each point, by the interpreter."""
    names = {"sin": math.sin, "exp": math.exp}
    for text in (*PRINTED, "(x+2)*x/3+exp(x/3)", "3/(x+2*x)", "x*x*x", "1+2*(3+x)/sin(x)"):
        code = compile(ast.parse(text, mode="eval"), "text", "eval")
        total = 0.0
        for index in range(1000):
            x = -10 + 20 * index / 999
            value = eval(code, {"__builtins__": {}}, {**names, "x": x})
            total += min((value - (1 / 3 + x + math.sin(x * x))) ** 2, 1000)
        assert make("expressions")([text])[0] == pytest.approx(math.log(1 + total / 1000), rel=1e-9), text


def test_an_expression_that_is_no_number_somewhere_has_the_worst_score():
    objective = make("expressions")
    assert objective(["1/(1+2*x-x-x-1)", "exp(exp(exp(x)))"])[0] == objective.worst == WORST == math.log(1001)


def test_penalized_logp_by_rdkit_itself(monkeypatch):
    monkeypatch.syspath_prepend(f"{RDConfig.RDContribDir}/SA_Score")
    import sascorer

    for text, found in zip(MOLECULES, make("penalized-logp")(MOLECULES), strict=True):
        molecule = Chem.MolFromSmiles(text)
        basis = networkx.cycle_basis(networkx.Graph(Chem.GetAdjacencyMatrix(molecule)))
        cycle = max([len(ring) - 6 for ring in basis if len(ring) > 6], default=0)
        logp = (Crippen.MolLogP(molecule) - 2.4571) / 1.4343
        ease = (-sascorer.calculateScore(molecule) + 3.0526) / 0.8335
        assert found == pytest.approx(logp + ease + (-cycle + 0.0486) / 0.2860, abs=2e-3), text
    sys.modules.pop("sascorer")


def test_a_ring_of_eight_costs_two_atoms():
    eight = make("penalized-logp")
    assert eight(["C1CCCCCCC1"])[0] < eight(["C1CCCCC1"])[0] - 2 / 0.2861 + 2
    assert [penalized_logp._excess(Chem.MolFromSmiles(t)) for t in ("CC", "C1CC1", "C1CCCCC1", "C1CCCCCCC1")] == [
        0,
        0,
        0,
        2,
    ]


def test_what_rdkit_refuses_is_not_printed(capfd):
    assert np.isnan(make("penalized-logp")(["C1", "c1cc1", "C(C)(C)(C)(C)C", " "])).all()
    assert capfd.readouterr() == ("", "")


def test_without_rdkit(monkeypatch):
    penalized_logp._accessibility.cache_clear()
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(RaectlError, match="molecules need rdkit") as error:
        make("penalized-logp")
    assert error.value.hint == "pip install 'raectl[molecules]'"
