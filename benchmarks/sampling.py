"""What do 10,000 samples cost beside the decoder's own forward passes? And their files?

    OMP_NUM_THREADS=2 python benchmarks/sampling.py

An untrained model of width 32 on 32 x 32 grey images, and a mixture of 10 over 16 latent dimensions. `decoder` passes
latents that are ready through the network, in the blocks that sampling has. Writes results/sampling.md.
"""

import os
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from timing import interleaved, publish, ratio

import raectl
from raectl.checkpoint.networks import BLOCK
from raectl.generation.sampling import write_samples

N, ROUNDS = 10_000, 6


def checkpoint(folder: Path) -> raectl.Checkpoint:
    """A model after one step, with a mixture."""
    images = np.random.default_rng(0).integers(0, 256, (200, 32, 32, 1), dtype=np.uint8)
    path = folder / "images.npy"
    np.save(path, images)
    made = raectl.train(raectl.Config(epochs=1, batch_size=100, device="cpu", latent_dim=16), path, folder / "ckpt")
    made.fit_density("gmm", components=10)
    return made


def main() -> None:
    """Time the ways, publish."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["RAECTL_CACHE"] = str(folder / "cache")
        model = checkpoint(folder)
        z = model.density().sample(N)

        def decoder() -> None:
            with torch.inference_mode():
                for block in z.split(BLOCK):
                    model.decoder(block)

        def samples() -> None:
            for _ in model.sample_blocks(N):
                pass

        def written(out: str) -> None:
            with tempfile.TemporaryDirectory() as target:
                write_samples(model.directory.path, Path(target) / out, N, device="cpu")

        columns = {
            "decoder": decoder,
            "samples": samples,
            "`raectl sample`, one `.npz`": lambda: written("samples.npz"),
            "`raectl sample`, a PNG each": lambda: written("samples"),
        }
        times = interleaved(columns, ROUNDS)
    lines = ["| | items/s, median | decoder's time over this one's (95 %) |", "|---|---|---|"]
    for row, seconds in times.items():
        lines.append(f"| {row} | {N / statistics.median(seconds):.0f} | {ratio(times['decoder'], seconds)} |")
    lines.append(f"\nWidth 32, {N:,} items, {ROUNDS} interleaved rounds, blocks of {BLOCK}.")
    publish("sampling", "OMP_NUM_THREADS=2 python benchmarks/sampling.py", "\n".join(lines))


if __name__ == "__main__":
    main()
