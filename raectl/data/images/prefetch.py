"""Pictures decoded before it is known what they are to become, in case the guess is right.

What a folder's images become (size, channels) is settled by the headers of all of them, and the first few mostly tell.
Who reads a small file for its header has most of the work of decoding it behind them.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from raectl.data.options import DataOptions

_MOST = 2**26  # bytes kept


class Ahead:
    """Rows by name, made with the guessed options; few enough for the memory.

    Arguments:
        guess: what the images will probably become, or None to decode none ahead.
    """

    def __init__(self, guess: DataOptions | None) -> None:
        self.guess = guess
        self._made_with = guess
        self._rows: dict[str, np.ndarray] = {}
        self._room = _MOST

    def keep(self, rows: Mapping[str, np.ndarray]) -> None:
        """Keep rows as long as there is room; `guess` is None from then on."""
        self._rows.update(rows)
        self._room -= sum(row.nbytes for row in rows.values())
        if self._room <= 0:
            self.guess = None

    def settle(self, options: DataOptions) -> None:
        """Drop everything if the guess was wrong."""
        if options != self._made_with:
            self._rows.clear()

    def take(self, names: Sequence[str]) -> np.ndarray | None:
        """The rows of so many pictures, which are dropped, or None if one is missing."""
        rows = [self._rows.pop(name, None) for name in names]
        known = [row for row in rows if row is not None]
        return np.stack(known) if len(known) == len(names) else None
