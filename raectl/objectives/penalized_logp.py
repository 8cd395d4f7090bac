"""The penalized logP of a molecule, computed with RDKit."""

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from raectl.errors import RaectlError
from raectl.objectives.base import Objective

# Means and standard deviations over the 250,000 molecules of ZINC on which the Grammar VAE was trained.
_LOGP = 2.4570953396190123, 1.434324401111988
_EASE = -3.0525811293166134, 0.8335207024513095
_CYCLE = -0.0485696876403053, 0.2860212110245455
_LARGEST = 6  # atoms of the largest ring without a penalty


class PenalizedLogP(Objective):
    """z(logP) - z(SA) - z(cycle); higher is better.

        logP   octanol-water partition coefficient, by atoms (Crippen)
        SA     synthetic accessibility score, 1 is easy (Ertl and Schuffenhauer)
        cycle  number of atoms by which the largest ring of a cycle basis exceeds 6
        z      standardized by the published means and deviations over 250,000 molecules of ZINC, whatever the data are

    A string that RDKit cannot parse is invalid, and stands for the worst score of the data.

    Reference: Kusner, Paige, Hernández-Lobato, "Grammar Variational Autoencoder", ICML 2017, section 4.2, and its code.
    """

    name = "penalized-logp"
    lower_is_better = False
    draws = 500

    def __init__(self) -> None:
        self._accessibility = _accessibility()

    def is_valid(self, text: str) -> bool:
        return _parse(text) is not None

    def __call__(self, strings: Sequence[str]) -> np.ndarray:
        return np.array([self._score(text) for text in strings], np.float64)

    def _score(self, text: str) -> float:
        from rdkit.Chem import Crippen

        molecule = _parse(text)
        if molecule is None:
            return float("nan")
        terms = (
            (Crippen.MolLogP(molecule), _LOGP),  # type: ignore[attr-defined]
            (-self._accessibility.calculateScore(molecule), _EASE),
            (-_excess(molecule), _CYCLE),
        )
        return float(sum((value - mean) / deviation for value, (mean, deviation) in terms))


def _excess(molecule: Any) -> int:
    """Number of atoms by which the largest ring exceeds 6."""
    import networkx
    from rdkit import Chem

    rings = networkx.cycle_basis(networkx.Graph(Chem.GetAdjacencyMatrix(molecule)))
    return max(0, max(map(len, rings), default=0) - _LARGEST)


def _parse(text: str) -> Any:
    """RDKit's molecule; None for an invalid string and for one without atoms, such as the empty string."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():  # which go to stderr
        molecule = Chem.MolFromSmiles(text)
    return molecule if molecule is not None and molecule.GetNumAtoms() else None


@cache
def _accessibility() -> ModuleType:
    """RDKit's module `sascorer`, which lies outside its package."""
    try:
        import networkx  # noqa: F401
        from rdkit import RDConfig
    except ImportError as error:
        raise RaectlError(f"molecules need {error.name}", "pip install 'raectl[molecules]'") from error
    path = Path(RDConfig.RDContribDir, "SA_Score", "sascorer.py")
    spec = importlib.util.spec_from_file_location("sascorer", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise RaectlError(f"this RDKit has no {path}", "pip install --upgrade rdkit")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
