"""Features of molecules: chemical validity, identity, and penalized logP."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raectl.errors import RaectlError
from raectl.extractors.strings import Strings
from raectl.objectives.penalized_logp import PenalizedLogP


class Molecules(Strings):
    """Features of SMILES: whether it is valid, and a hash of its canonical SMILES in two numbers; see `Strings`.

    A SMILES is valid if RDKit can parse it: closed rings, possible valences, aromatic atoms with a Kekulé structure.
    All SMILES of a molecule have the same identity.
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
        """Includes RDKit's version, on which canonical SMILES may depend."""
        return f"{self.name}-v1-rdkit-{self._base.rdkitVersion}"

    def __call__(self, items: np.ndarray) -> Tensor:
        with self._base.BlockLogs():  # it logs each invalid string to stderr
            return super().__call__(items)

    def _row(self, text: str) -> list[float]:
        molecule = self._chem.MolFromSmiles(text)
        return super()._row("" if molecule is None else self._chem.MolToSmiles(molecule))


class ScoredMolecules(Molecules):
    """Features (valid, identity, identity, penalized logP), the score of an invalid string being 0."""

    name = "penalized-logp"
    dim = 4
    set_metrics = ("validity", "score-of-valid")

    def __init__(self, weights: Path | None = None, device: torch.device | str = "cpu") -> None:
        super().__init__(weights, device)
        self._score = PenalizedLogP()

    def _row(self, text: str) -> list[float]:
        row = super()._row(text)[:3]
        return [*row, float(self._score([text])[0]) if row[0] else 0.0]
