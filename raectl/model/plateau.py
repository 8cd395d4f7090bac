"""Reduction of the learning rate on a plateau, for the model and for densities that are networks."""

from dataclasses import dataclass


@dataclass
class Schedule:
    """The state of the learning rate's schedule, which checkpoints store."""

    lr: float = 1e-3
    reference: float | None = None  # the loss at the last improvement, None at the start
    stale: int = 0  # epochs since then


@dataclass(frozen=True)
class Plateau:
    """Lower the rate after some epochs without an improvement of the held-out loss (Keras's ReduceLROnPlateau)."""

    gain: float  # least improvement; relative to the reference if `relative`, else in the loss's units
    patience: int  # number of epochs
    factor: float = 0.5  # what the rate is multiplied by
    least: float = 0.0  # smallest rate
    relative: bool = False

    def update(self, schedule: Schedule, loss: float) -> bool:
        """Update the schedule with an epoch's loss; True if the rate was lowered, or is at `least` already."""
        reference = schedule.reference
        if reference is None or loss < reference - self.gain * (abs(reference) if self.relative else 1.0):
            schedule.reference, schedule.stale = loss, 0
            return False
        schedule.stale += 1
        if schedule.stale < self.patience:
            return False
        schedule.lr, schedule.stale = max(schedule.lr * self.factor, min(schedule.lr, self.least)), 0
        return True
