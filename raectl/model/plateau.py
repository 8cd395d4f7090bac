"""The learning rate's plateau rule, in numbers that resuming can restore exactly.

It serves the training of the model and of densities that are networks, and so lies above both.
"""

from dataclasses import dataclass


@dataclass
class Schedule:
    """Where a learning rate's schedule is.

    Arguments:
        lr: the learning rate in force.
        reference: the loss that the next ones are compared with, None before the first.
        stale: epochs since the loss last improved enough.
    """

    lr: float = 1e-3
    reference: float | None = None
    stale: int = 0


@dataclass(frozen=True)
class Plateau:
    """Lower the rate after some epochs without enough of a gain in held-out loss (Keras's ReduceLROnPlateau).

    Arguments:
        gain: how much is enough; a share of the reference if `relative`, else in the loss's units.
        patience: how many epochs.
        factor: what the rate is multiplied by.
        least: rate that it does not fall below.
    """

    gain: float
    patience: int
    factor: float = 0.5
    least: float = 0.0
    relative: bool = False

    def update(self, schedule: Schedule, loss: float) -> bool:
        """Take an epoch's loss into account; whether the rate was lowered, or would have been but for `least`."""
        reference = schedule.reference
        if reference is None or loss < reference - self.gain * (abs(reference) if self.relative else 1.0):
            schedule.reference, schedule.stale = loss, 0
            return False
        schedule.stale += 1
        if schedule.stale < self.patience:
            return False
        schedule.lr, schedule.stale = max(schedule.lr * self.factor, min(schedule.lr, self.least)), 0
        return True
