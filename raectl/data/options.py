"""The options of opening a source."""

from dataclasses import dataclass

from raectl.config import SourceOptions, declared

# Filled in for the kind of data that has them.
RESOLVED = ("image_size", "background", "range", "grammar", "max_productions")


@dataclass(frozen=True)
class DataOptions(SourceOptions):
    """How a source's items are brought to one shape. `None` leaves the choice to the source.

    Resolved, `range` has that of each kind of values that the source has, None if they are bytes as they are, and
    `grammar` is a text.
    """

    channels: int | None = declared(None, "1 (grey) or 3 (colour), where the data must suit a model.", choices=(1, 3))

    @property
    def form(self) -> dict[str, int | str | None]:
        """The options that determine the items' bytes: all but the tolerance of bad items."""
        return {name: value for name, value in vars(self).items() if name not in ("max_bad", "strict")}
