"""How long work shows itself: a bar on a terminal, a line an epoch into a pipe."""

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column

from raectl.cli.output import plain, say
from raectl.progress import Progress


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _terms(terms: Mapping[str, float]) -> str:
    """The loss, and the weighted terms that it is the sum of."""
    loss, *parts = (f"{name} {value:.4g}" for name, value in terms.items())
    return f"{loss} = {' + '.join(parts)}" if parts else loss


class TerminalProgress(Progress):
    """Shows a run on stderr. Use as a context: the bar goes when the block ends, however it ends."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        if sys.stderr.isatty():
            description = TextColumn("{task.description}", markup=False)  # a path may hold [/]
            rest = Column(no_wrap=True, ratio=1)  # what is cut off on a narrow terminal
            columns = (description, BarColumn(24), TextColumn("{task.fields[text]}", markup=False, table_column=rest))
            self._bar = Bar(*columns, console=Console(stderr=True, highlight=False), transient=True, expand=True)

    def __enter__(self) -> "TerminalProgress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            self._bar.stop()

    def _show(self, description: str, done: int, total: int, text: str) -> None:
        if self._bar is None:
            return
        if self._task is None:
            self._task = self._bar.add_task("", text="")
        self._bar.update(self._task, description=plain(description), completed=done, total=total, text=plain(text))

    def note(self, text: str) -> None:
        self._say(text)

    def update(self, description: str, done: int, total: int) -> None:
        self._show(description, done, total, f"{done:,} of {total:,}")

    def step(self, epoch: int, batch: int, batches: int, terms: Mapping[str, float], rate: float, left: float) -> None:
        text = f"{_time(left)} left  {rate:,.0f}/s  {_terms(terms)}"
        self._show(f"epoch {epoch}", batch, batches, text)

    def epoch(self, record: Mapping[str, Any]) -> None:
        validation = record["validation"]
        held_out = f"  validation {validation['loss']:.4g}" if validation else ""
        rate = f"  {record['items_per_second']:,.0f}/s" if record["items_per_second"] else ""
        left = f"  {_time((record['epochs'] - record['epoch']) * record['seconds'])} left"
        best = "  best" if record["best"] else ""
        weights = record.get("weights", {})
        terms = _terms({name: weights.get(name, 1.0) * value for name, value in record["train"].items()})
        self._say(f"epoch {record['epoch']}/{record['epochs']}  {terms}{held_out}{rate}{left}{best}")

    def sharpening(self, record: Mapping[str, Any]) -> None:
        held_out = record["held_out"]
        text = f"sharpening {record['step']:,}/{record['steps']:,}  held-out error {held_out['error']:.4g}"
        text += f" (plain {record['plain']['error']:.4g})"
        for name in ("sharpness", "copied"):
            if name in held_out:
                text += f"  {name} {held_out[name]:.2f}"
        self._say(text)

    def _say(self, text: str) -> None:
        if self._bar:
            self._bar.console.print(plain(text), markup=False, soft_wrap=True)
        else:
            say(text)
