"""The options of opening a source."""

from dataclasses import dataclass

# Filled in for the kind of data that has them.
RESOLVED = ("image_size", "background", "range", "grammar", "max_productions")


@dataclass(frozen=True)
class DataOptions:
    """How a source's items are brought to one shape. `None` leaves the choice to the source.

    Arguments:
        image_size: side of the square images, in pixels.
        fit: how an image of another size or shape is made square: `pad`, `crop` or `stretch`.
        background: colour (a name or `#rrggbb`) behind transparent pixels and around padded images.
        channels: 1 (grey) or 3 (colour); given when the data must suit an existing checkpoint.
        range: `LO:HI`, the values that become 0 and 255; see `raectl.data.values`. Resolved: the range of each kind
            of values that the source has, None if they are bytes as they are.
        alpha: whether the fourth channel of an array is alpha; files say it themselves.
        grammar: of strings: a name, a file or a text, as `raectl.grammars.read` accepts; its text once resolved.
        max_productions: T, the padded length of a derivation in productions; a longer derivation is a bad item.
        max_bad: share of bad items above which opening fails; up to 5 are skipped whatever their share.
        strict: fail at the first bad item.
    """

    image_size: int | None = None
    fit: str = "crop"
    background: str | None = None
    channels: int | None = None
    range: str | None = None
    alpha: bool = False
    grammar: str | None = None
    max_productions: int | None = None
    max_bad: float = 0.01
    strict: bool = False

    @property
    def form(self) -> dict[str, int | str | None]:
        """The options that determine the items' bytes: all but the tolerance of bad items."""
        return {name: value for name, value in vars(self).items() if name not in ("max_bad", "strict")}
