"""What a step of the second phase costs: in plain steps, at 32 and at 64 pixels.

    OMP_NUM_THREADS=2 PYTHONPATH=benchmarks python benchmarks/sharpening/step.py

RAE-L2 of width 16 in float32, batches of 100 grey images of 32 pixels or 50 colour images of 64, random ones. Blocks of
steps of both phases are interleaved, after the warm-up of the critic. Writes results/sharpening-step.md.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from timing import in_process, interleaved, publish, ratio

import raectl
from raectl.checkpoint.sharpened import PLAIN
from raectl.progress import Progress
from raectl.training.run import Run
from raectl.training.sharpening.loop import SharpeningLoop
from raectl.training.sharpening.options import Options

BLOCK, ROUNDS = 10, 15
KINDS = {"32 pixels, grey, batch 100": (32, 1, 100), "64 pixels, colour, batch 50": (64, 3, 50)}


def trained(side: int, channels: int, batch: int) -> tuple[raectl.Checkpoint, raectl.Dataset]:
    """A checkpoint of an epoch, and its data."""
    images = np.random.default_rng(0).integers(0, 256, (20 * batch, side, side, channels), np.uint8)
    config = raectl.Config(
        reg="tikhonov", arch="conv32" if side <= 32 else "conv64", width=16, epochs=1, batch_size=batch,
        device="cpu", precision="fp32", image_size=side,
    )  # fmt: skip
    home = Path(tempfile.mkdtemp())
    np.save(home / "images.npy", images)
    raectl.train(config, home / "images.npy", home / "ckpt")
    checkpoint = raectl.load(home / "ckpt", "cpu", PLAIN)
    return checkpoint, checkpoint.open_data()


def plain(side: int, channels: int, batch: int) -> Callable[[], object]:
    """A block of steps of the first phase."""
    checkpoint, dataset = trained(side, channels, batch)
    run = Run(checkpoint.config, dataset, checkpoint.directory, Progress())
    run.loop.model.train()
    rows = [run.loop.train_rows[start * batch : (start + 1) * batch] for start in range(BLOCK)]
    return lambda: [run.loop.step(part) for part in rows]


def second(side: int, channels: int, batch: int, augments: bool) -> Callable[[], object]:
    """A block of steps of the second phase, of both the critic and the decoder."""
    checkpoint, dataset = trained(side, channels, batch)
    loop = SharpeningLoop(checkpoint, dataset, Options(steps=10_000))
    loop.augments = augments
    loop.begin()
    loop.position.step = loop.warmup
    return lambda: [loop.step() for _ in range(BLOCK)]


def main() -> None:
    """Measure and publish."""
    lines = ["| | second phase / plain step | with augmentation |", "|---|---|---|"]
    for name, kind in KINDS.items():
        columns = {
            "plain": in_process(plain, *kind),
            "second": in_process(second, *kind, False),
            "augmented": in_process(second, *kind, True),
        }
        times = interleaved(columns, ROUNDS)
        lines.append(
            f"| {name} | {ratio(times['second'], times['plain'])} | {ratio(times['augmented'], times['plain'])} |"
        )
        print(lines[-1], flush=True)
    command = "OMP_NUM_THREADS=2 PYTHONPATH=benchmarks python benchmarks/sharpening/step.py"
    publish("sharpening-step", command, "\n".join(lines))


if __name__ == "__main__":
    main()
