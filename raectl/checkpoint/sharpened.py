"""The sharpened decoder of a directory: `decoder-sharp.safetensors`, and how it was made."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from raectl.checkpoint.directory import Directory
from raectl.errors import RaectlError, UsageError, command
from raectl.model.weights import Arrays
from raectl.storage.arrays import file_digest, read_arrays, write_arrays
from raectl.storage.strict_json import parse_json

PLAIN, SHARP = "plain", "sharp"
DECODERS = (PLAIN, SHARP)
_KEY = "sharpened"


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

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Sharpened":
        """From JSON.

        Raises:
            TypeError, ValueError: a field is missing, unknown or of another type.
        """
        record = cls(**values)
        kinds = {"weights": str, "steps": int, "step": int, "weight": float, "seed": int, "held_out": dict}
        wrong = [name for name, kind in kinds.items() if type(getattr(record, name)) is not kind]
        if wrong or type(record.ended) not in (str, type(None)):
            raise TypeError(f"{', '.join(wrong) or 'ended'} has another type")
        numbers = record.held_out.values()
        if not {"error", "plain_error"} <= set(record.held_out) or not 0 < record.step <= record.steps:
            raise ValueError("a number is missing or out of range")
        if not all(type(number) is float and math.isfinite(number) for number in numbers):
            raise ValueError("held_out is not of numbers")
        return record

    def is_of(self, steps: int, step: int, weight: float, seed: int) -> bool:
        """Whether it was made with these options, up to this step."""
        return (self.steps, self.step, self.weight, self.seed) == (steps, step, float(weight), seed)


def check_decoder(name: str | None) -> None:
    """Raise a `UsageError` unless this is the name of a decoder, or None."""
    if name not in (None, *DECODERS):
        raise UsageError(f"--decoder {name!r} is none of {', '.join(DECODERS)}")


def write(directory: Directory, arrays: Arrays, record: Sharpened) -> None:
    """Write a decoder's parameters and buffers, and how it was made, in one rename."""
    write_arrays(directory.sharp_decoder, arrays, {_KEY: json.dumps(asdict(record))})


def read(directory: Directory, weights: str) -> tuple[Arrays, Sharpened, str] | None:
    """The sharpened decoder of these weights, how it was made, and the file's SHA-256; None if there is none.

    Arguments:
        weights: SHA-256 of the weights for use. A decoder that was sharpened from others is none of theirs.

    Raises:
        RaectlError: the file is damaged.
    """
    path = directory.sharp_decoder
    if not path.exists():
        return None
    hint = command("raectl", "sharpen", directory.path, "--overwrite") + "   (or: --decoder plain)"
    try:
        arrays, metadata = read_arrays(path)
        record = Sharpened.from_dict(parse_json(metadata[_KEY]))
        return (arrays, record, file_digest(path)) if record.weights == weights else None
    except RaectlError as error:
        raise RaectlError(error.message, hint) from error
    except (KeyError, TypeError, ValueError) as error:
        raise RaectlError(f"{path} holds no sharpened decoder: {error}", hint) from error
