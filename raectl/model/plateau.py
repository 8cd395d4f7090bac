"""Reduction of the learning rate on a plateau, for the model and for densities that are networks."""

from dataclasses import dataclass


@dataclass
class Schedule:
    """The state of the learning rate's schedule, which checkpoints store.

    Arguments:
        lr: the current learning rate.
        reference: the loss at the last improvement, None at the start.
        stale: epochs since then.
    """

    lr: float = 1e-3
    reference: float | None = None
    stale: int = 0


@dataclass(frozen=True)
class Plateau:
    """Lower the rate after some epochs without an improvement of the held-out loss (Keras's ReduceLROnPlateau).

    Arguments:
        gain: least improvement; relative to the reference if `relative`, else in the loss's units.
        patience: number of epochs.
        factor: what the rate is multiplied by.
        least: smallest rate.
        relative: see `gain`.
    """

    gain: float
    patience: int
    factor: float = 0.5
    least: float = 0.0
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
