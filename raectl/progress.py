"""Callbacks for the progress of long operations, which the command line displays."""

from collections.abc import Mapping
from typing import Any


class Progress:
    """Receives progress; a method that is not overridden does nothing."""

    def note(self, text: str) -> None:
        """A message for the user."""

    def update(self, description: str, done: int, total: int) -> None:
        """Progress of an operation, such as "packing images": `done` of `total` units are complete."""

    def step(self, epoch: int, batch: int, batches: int, terms: Mapping[str, float], rate: float, left: float) -> None:
        """Within an epoch: mean terms of the loss so far, items per second, and seconds left to the end of the run."""

    def epoch(self, record: Mapping[str, Any]) -> None:
        """End of an epoch, with its record in log.jsonl."""

    def sharpening(self, record: Mapping[str, Any]) -> None:
        """A look at held-out images in the second phase of training, with its record in log.jsonl."""
