"""One consistent instant of the second phase, as named arrays: what resuming starts from, bit for bit."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raectl.errors import RaectlError, UsageError
from raectl.model.weights import Arrays
from raectl.storage.arrays import read_arrays, write_arrays
from raectl.storage.strict_json import parse_json
from raectl.training.sharpening.options import MOST_STEPS, Options

_GROUPS = ("last", "average", "kept", "critic", "decoder-adam", "critic-adam", "mixture", "sums")


@dataclass
class Position:
    """Where the second phase is.

    Arguments:
        step: steps done.
        kept: the step of the average that is kept: the last one that passed the guards.
        gamma: factor of the critic's gradient penalty, raised by a guard.
        weight: factor of w, lowered by a guard.
        ended: why the phase ended before its last step, in a sentence; None if it did not.
    """

    step: int = 0
    kept: int = 0
    gamma: float = 1.0
    weight: float = 1.0
    ended: str | None = None

    def is_done(self, options: Options) -> bool:
        """Whether no step is left."""
        return self.ended is not None or self.step >= options.steps

    def check(self) -> None:
        """Raise a `ValueError` unless every field has its type and range."""
        if not all(type(count) is int and 0 <= count <= MOST_STEPS for count in (self.step, self.kept)):
            raise ValueError("a count is out of range")
        if not all(type(factor) is float and 0 < factor < math.inf for factor in (self.gamma, self.weight)):
            raise ValueError("a factor is out of range")
        if self.ended is not None and type(self.ended) is not str:
            raise ValueError("ended is no text")


@dataclass
class SharpeningState:
    """Everything that decides how the second phase goes on.

    Arguments:
        options, position: what it is asked to do, and where it is.
        weights: SHA-256 of the weights that it began with.
        arrays: by group: the decoder as it is, its average, the average that is kept, the critic, the moments of both
            optimizers, the mixture that latents are drawn from, and sums since the last look at held-out images.
    """

    options: Options
    position: Position
    weights: str
    arrays: dict[str, Arrays]

    def write(self, path: Path) -> None:
        """Write it as one file, in one rename."""
        named = {f"{group}.{name}": array for group, arrays in self.arrays.items() for name, array in arrays.items()}
        record = {"options": asdict(self.options), "position": asdict(self.position), "weights": self.weights}
        write_arrays(path, named, {"sharpening": json.dumps(record)})

    @classmethod
    def read(cls, path: Path) -> "SharpeningState":
        """The inverse of `write`.

        Raises:
            RaectlError: the file is missing, damaged, or holds something else.
        """
        arrays, metadata = read_arrays(path)
        try:
            record: dict[str, Any] = parse_json(metadata["sharpening"])
            position = Position(**record["position"])
            position.check()
            if type(record["weights"]) is not str:
                raise TypeError("weights is no digest")
            options = Options(**record["options"])
            if not position.kept <= position.step <= options.steps:
                raise ValueError("a count is out of range")
            return cls(options, position, record["weights"], _grouped(arrays))
        except (KeyError, TypeError, ValueError, UsageError) as error:
            why = getattr(error, "message", error)
            raise RaectlError(f"{path} holds no state of sharpening: {why}", f"{HINT}") from error


HINT = "raectl sharpen CKPT --overwrite begins anew"


def _grouped(arrays: Mapping[str, np.ndarray]) -> dict[str, Arrays]:
    groups: dict[str, Arrays] = {group: {} for group in _GROUPS}
    for full, array in arrays.items():
        group, _, name = full.partition(".")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{full} has values that are not finite")
        groups[group][name] = array
    return groups
