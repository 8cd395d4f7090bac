"""The sharpened decoder of a directory: `decoder-sharp.safetensors`, and how it was made."""

from dataclasses import dataclass

from raectl.checkpoint.directory import Directory
from raectl.errors import RaectlError, UsageError, command
from raectl.model.levels import are_valid
from raectl.storage.arrays import Arrays, Layout, file_digest, read_arrays, read_header, write_arrays

PLAIN, SHARP = "plain", "sharp"
DECODERS = (PLAIN, SHARP)


@dataclass(frozen=True)
class Sharpened:
    """How a decoder was sharpened.

    Arguments:
        weights: SHA-256 of the weights whose decoder it was: those of any others are left alone.
        steps: of the second phase, as asked for.
        step: the step whose average it is; fewer than `steps` if the phase ended early.
        weight, seed: as asked for.
        ended: why the phase ended early, in a sentence; None if it did not.
        held_out: numbers of held-out images, by name: mean squared errors of both decoders, sharpness, copied.
    """

    weights: str
    steps: int
    step: int
    weight: float
    seed: int
    ended: str | None
    held_out: dict[str, float]

    def __post_init__(self) -> None:
        if not {"error", "plain_error"} <= set(self.held_out) or not 0 < self.step <= self.steps:
            raise ValueError("a number is missing or out of range")

    def is_of(self, steps: int, step: int, weight: float, seed: int) -> bool:
        """Whether it was made with these options, up to this step."""
        return (self.steps, self.step, self.weight, self.seed) == (steps, step, float(weight), seed)


def check_decoder(name: str | None) -> None:
    """Raise a `UsageError` unless this is the name of a decoder, or None."""
    if name not in (None, *DECODERS):
        raise UsageError(f"--decoder {name!r} is none of {', '.join(DECODERS)}")


def write(directory: Directory, arrays: Arrays, record: Sharpened) -> None:
    """Write a decoder's parameters and buffers, and how it was made, in one rename."""
    write_arrays(directory.sharp_decoder, arrays, record)


def read(directory: Directory, weights: str, layout: Layout | None = None) -> tuple[Arrays, Sharpened, str] | None:
    """The sharpened decoder of these weights, how it was made, and the file's SHA-256; None if there is none.

    Arguments:
        weights: SHA-256 of the weights for use. A decoder that was sharpened from others is none of theirs.
        layout: of the decoder.

    Raises:
        RaectlError: the file is damaged.
    """
    path = directory.sharp_decoder
    if not path.exists():
        return None
    hint = command("raectl", "sharpen", directory.path, "--overwrite") + "   (or: --decoder plain)"
    if read_header(path, Sharpened, hint=hint).weights != weights:
        return None
    arrays, record = read_arrays(path, Sharpened, layout, hint)
    if layout and not are_valid(arrays["levels.points"]):
        raise RaectlError(f"{path} is damaged: its levels are out of range", hint)
    return arrays, record, file_digest(path)
