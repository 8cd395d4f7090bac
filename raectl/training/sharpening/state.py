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
from raectl.rng import check_seed
from raectl.storage.arrays import read_arrays, write_arrays
from raectl.storage.strict_json import parse_json

LEAST_STEPS, MOST_STEPS = 300, 10_000_000
_LARGEST_WEIGHT = 100.0
FILTERS, MOST_FILTERS = {"cpu": 16}, 32  # of the critic, by device; elsewhere the most
_GROUPS = ("last", "average", "kept", "critic", "decoder-adam", "critic-adam", "mixture", "sums")


@dataclass(frozen=True)
class Options:
    """What the second phase is asked to do.

    Arguments:
        steps: number of steps.
        weight: w, of the critic's gradient against the squared error's.
        seed: of everything random.
        filters: m, of the critic's first layer.

    Raises:
        UsageError: an option is out of range.
    """

    steps: int
    weight: float = 0.5
    seed: int = 0
    filters: int = 16

    def __post_init__(self) -> None:
        if type(self.steps) is not int or not 1 <= self.steps <= MOST_STEPS:
            raise UsageError(f"--steps {self.steps} is out of range: 1 to {MOST_STEPS:,}", "--steps 300")
        if type(self.weight) not in (int, float) or not 0 < self.weight <= _LARGEST_WEIGHT:
            raise UsageError(
                f"--weight {self.weight} is out of range: above 0, up to {_LARGEST_WEIGHT:g}", "--weight 0.5"
            )
        check_seed(self.seed)
        if type(self.filters) is not int or not 1 <= self.filters <= MOST_FILTERS:
            raise UsageError(f"{self.filters} filters of a critic are out of range")


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
