"""The options of opening a source; the standard library only, for helper processes that start quickly."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataOptions:
    """How a source's items are brought to one shape. `None` leaves the choice to the source.

    Arguments:
        image_size: side of the square images, in pixels.
        fit: how an image that is not square, or of another size, is brought to it: `pad`, `crop` or `stretch`.
        background: colour (a name or `#rrggbb`) behind transparent pixels and around padded images.
        channels: 1 (grey) or 3 (colour); given when the data must suit an existing checkpoint.
        max_bad: share of bad images above which opening fails; up to 5 are skipped whatever their share.
        strict: fail at the first bad image.
    """

    image_size: int | None = None
    fit: str = "crop"
    background: str | None = None
    channels: int | None = None
    max_bad: float = 0.01
    strict: bool = False

    @property
    def form(self) -> tuple[int | None, str, str | None, int | None]:
        """What the items depend on: the tolerance of bad ones says only whether there will be any."""
        return self.image_size, self.fit, self.background, self.channels
