"""The learning rate's plateau schedule, in numbers that resuming can restore exactly."""

from raectl.training.state import Position


def plateau(
    position: Position,
    loss: float,
    mode: str,
    gain: float,
    *,
    factor: float = 0.5,
    patience: int = 5,
    least: float = 1e-8,
) -> None:
    """Lower the rate after some epochs without enough of a gain in validation loss (Keras's ReduceLROnPlateau).

    Arguments:
        position: its reference, stale count and rate are updated.
        loss: the epoch's.
        mode: `relative`: the gain is a share of the reference; `absolute`: in the loss's units.
        gain: how much is enough.
        factor: what the rate is multiplied by.
        patience: how many epochs.
        least: rate that it does not fall below.
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
    if position.stale >= patience:
        position.lr, position.stale = max(position.lr * factor, min(position.lr, least)), 0
