"""What the second phase of training stores beside its arrays: what it was asked to do, and where it stands."""

from dataclasses import dataclass

from raectl.storage.records import Count, Positive
from raectl.training.sharpening.options import Options

HINT = "raectl sharpen CKPT --overwrite begins anew"


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

    step: Count = 0
    kept: Count = 0
    gamma: Positive = 1.0
    weight: Positive = 1.0
    ended: str | None = None


@dataclass(frozen=True)
class SharpeningState:
    """The record of sharpening.safetensors.

    Arguments:
        options, position: what it is asked to do, and where it is.
        weights: SHA-256 of the weights that it began with.
    """

    options: Options
    position: Position
    weights: str

    def __post_init__(self) -> None:
        if not self.position.kept <= self.position.step <= self.options.steps:
            raise ValueError("a count of steps is out of range")

    @property
    def is_done(self) -> bool:
        """Whether no step is left."""
        return self.position.ended is not None or self.position.step >= self.options.steps
