"""The learning rate's plateau schedule, in numbers that resuming can restore exactly."""

from raectl.state import Position

_FACTOR, _PATIENCE, _SMALLEST = 0.5, 5, 1e-8


def plateau(position: Position, loss: float, mode: str, gain: float) -> None:
    """Halve the rate after 5 epochs without enough of a gain in validation loss (Keras's ReduceLROnPlateau).

    Arguments:
        position: its reference, stale count and rate are updated.
        loss: the epoch's.
        mode: `relative`: the gain is a share of the reference; `absolute`: in the loss's units.
        gain: how much is enough.
    """
    if position.reference is None:
        gained = True
    else:
        needed = gain * abs(position.reference) if mode == "relative" else gain
        gained = loss < position.reference - needed
    if gained:
        position.reference, position.stale = loss, 0
        return
    position.stale += 1
    if position.stale >= _PATIENCE:
        position.lr, position.stale = max(position.lr * _FACTOR, _SMALLEST), 0
