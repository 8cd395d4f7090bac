"""Features of molecules: those of strings, where valid means that chemistry allows it, and which one that it is."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raectl.errors import RaectlError
from raectl.extractors.strings import Strings
from raectl.objectives.penalized_logp import PenalizedLogP


class Molecules(Strings):
    """Features (valid, identity, identity): those of `strings`, of the canonical SMILES that RDKit writes.

    What RDKit does not read as a molecule is not valid: a ring that is not closed, a valence that no atom has, aromatic
    atoms without a Kekule structure. Two SMILES of one molecule are the same.

    Raises:
        RaectlError: RDKit is not installed.
    """

    name = "molecules"

    def __init__(self, weights: Path | None = None, device: torch.device | str = "cpu") -> None:
        super().__init__(weights, device)
        try:
            from rdkit import Chem, rdBase
        except ImportError as error:
            needed = f"the features {self.name} need RDKit, which is not installed"
            raise RaectlError(needed, "pip install 'raectl[molecules]'") from error
        self._chem, self._base = Chem, rdBase

    @property
    def key(self) -> str:
        """Another version of RDKit may write other SMILES."""
        return f"{self.name}-v1-rdkit-{self._base.rdkitVersion}"

    def __call__(self, items: np.ndarray) -> Tensor:
        """(B,) text => (B, D) float32."""
        with self._base.BlockLogs():  # it writes lines to stderr about each string that is no molecule
            return super().__call__(items)

    def _row(self, text: str) -> list[float]:
        molecule = self._chem.MolFromSmiles(text)
        return super()._row("" if molecule is None else self._chem.MolToSmiles(molecule))


class ScoredMolecules(Molecules):
    """Features (valid, identity, identity, penalized logP): those of `molecules`, and a score, 0 of what is not valid.

    A millisecond each: the data of a training run are scored too.

    Raises:
        RaectlError: RDKit or networkx is not installed.
    """

    name = "penalized-logp"
    set_metrics = ("validity", "score-of-valid")

    def __init__(self, weights: Path | None = None, device: torch.device | str = "cpu") -> None:
        super().__init__(weights, device)
        self._score = PenalizedLogP()

    @property
    def dim(self) -> int:
        return 4

    def _row(self, text: str) -> list[float]:
        row = super()._row(text)[:3]
        return [*row, float(self._score([text])[0]) if row[0] else 0.0]
