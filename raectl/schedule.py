"""The learning rate's plateau schedule, in numbers that resuming can restore exactly."""

from raectl.state import Position

_FACTOR, _PATIENCE, _GAIN, _SMALLEST = 0.5, 5, 1e-4, 1e-8


def plateau(position: Position, loss: float, mode: str) -> None:
    """Halve the rate after 5 epochs without a gain of 1e-4 in validation loss (Keras's ReduceLROnPlateau).

    Arguments:
        position: its reference, stale count and rate are updated.
        loss: the epoch's.
        mode: `relative`: the gain is a share of the reference; `absolute`: as in the paper's code.
    """
    if position.reference is None:
        gained = True
    else:
        needed = _GAIN * abs(position.reference) if mode == "relative" else _GAIN
        gained = loss < position.reference - needed
    if gained:
        position.reference, position.stale = loss, 0
        return
    position.stale += 1
    if position.stale >= _PATIENCE:
        position.lr, position.stale = max(position.lr * _FACTOR, _SMALLEST), 0
