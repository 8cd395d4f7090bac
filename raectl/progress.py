"""What a long run tells while it works. The library is silent; the command line shows it."""

from collections.abc import Mapping
from typing import Any


class Progress:
    """Receives what happens; each method does nothing unless overridden."""

    def note(self, text: str) -> None:
        """A sentence for the user."""

    def update(self, description: str, done: int, total: int) -> None:
        """Progress of a preparation, such as packing images."""

    def step(self, epoch: int, batch: int, batches: int, terms: Mapping[str, float], rate: float, left: float) -> None:
        """Now and then within an epoch: mean terms so far, items per second, seconds left to the end of the run."""

    def epoch(self, record: Mapping[str, Any]) -> None:
        """The end of an epoch: its line of log.jsonl."""
