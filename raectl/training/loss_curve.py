"""The loss of each epoch as a picture, on a logarithmic scale where it is positive."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from raectl.storage.atomic import atomic_file

_SIZE = (640, 400)
_LEFT, _TOP, _RIGHT, _BOTTOM = 70, 40, 620, 350  # of the axes, in pixels
_COLOURS = {"training": "#1f77b4", "held out": "#d62728"}
_TICKS = 4


def write_loss_curve(path: Path, log: Sequence[Mapping[str, Any]]) -> None:
    """Draw the loss of the training and of the held-out items, from the lines of log.jsonl, as one PNG."""
    curves = {
        "training": [(line["epoch"], line["train"]["loss"]) for line in log],
        "held out": [(line["epoch"], line["validation"]["loss"]) for line in log if line["validation"]],
    }
    values = [loss for points in curves.values() for _, loss in points]
    scale = math.log10 if min(values) > 0 else float
    low, high = scale(min(values)), scale(max(values))
    low, high = (low, high) if high > low else (low - max(0.5, abs(low) / 1e3), high + max(0.5, abs(high) / 1e3))
    first, last = log[0]["epoch"], max(log[-1]["epoch"], log[0]["epoch"] + 1)

    def place(epoch: float, loss: float) -> tuple[float, float]:
        x = _LEFT + (epoch - first) / (last - first) * (_RIGHT - _LEFT)
        return x, _BOTTOM - (scale(loss) - low) / (high - low) * (_BOTTOM - _TOP)

    image = Image.new("RGB", _SIZE, "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    for tick in range(_TICKS + 1):
        height = low + (high - low) * tick / _TICKS
        y = _BOTTOM - (_BOTTOM - _TOP) * tick / _TICKS
        draw.line([(_LEFT, y), (_RIGHT, y)], fill="#dddddd")
        loss = 10**height if scale is math.log10 else height
        draw.text((_LEFT - 8, y), f"{loss:.4g}", fill="black", font=font, anchor="rm")
        epoch = round(first + (last - first) * tick / _TICKS)
        draw.text((place(epoch, min(values))[0], _BOTTOM + 8), str(epoch), fill="black", font=font, anchor="mt")
    draw.text(((_LEFT + _RIGHT) / 2, _BOTTOM + 28), "epoch", fill="black", font=font, anchor="mt")
    for number, (name, points) in enumerate(curves.items()):
        if points:
            places = [place(*point) for point in points]
            draw.line(places, fill=_COLOURS[name], width=2)
            draw.circle(max(places, key=lambda at: at[1]), 4, fill=_COLOURS[name])
            draw.text((_LEFT + 180 * number, 14), f"loss, {name} (dot: lowest)", fill=_COLOURS[name], font=font)
    with atomic_file(path) as temporary:
        image.save(temporary)
