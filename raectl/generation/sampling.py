"""Samples from a directory to a file: items through the decoder, or bare latents."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from raectl.checkpoint import densities as fitted
from raectl.checkpoint.checkpoint import BLOCK, Checkpoint
from raectl.checkpoint.directory import Directory
from raectl.errors import RaectlError, UsageError, command
from raectl.progress import Progress
from raectl.storage.atomic import atomic_file

_LATENTS = ".npy"
_PRIOR = "prior"
_ENDLESS = "what came to no end; more training makes it rarer"
_INVALID = "no draw was valid; more draws, or more training, make them rarer"


def write_samples(
    path: str | Path,
    out: Path,
    n: int,
    *,
    density: str | None = None,
    seed: int = 0,
    batch_size: int = 1024,
    draws: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> str:
    """Draw n samples and write them; sample i depends on the seed and i alone.

    Arguments:
        path: a checkpoint directory, or one that holds only densities.
        out: where to; `.npy` takes the latents, (n, d) float32, and needs no decoder.
        density: name or kind; None for the last one fitted, or the model's prior.
        batch_size: items held at a time, where the form of `out` allows; one of many draws.
        draws: decode each latent so many times, at random, and keep the most frequent valid item; None to decode it
            once, to the likeliest.
        progress: receives progress, and what there is to remark on the samples.

    Returns:
        Name of the density that was drawn from.

    Raises:
        RaectlError: there is no such density, it was fitted to other weights, or `out` cannot be written.
        UsageError: there are draws, and each latent is one item, or `out` takes latents.
    """
    progress, directory = progress or Progress(), Directory(Path(path))
    if draws is not None and out.suffix.lower() == _LATENTS:
        raise UsageError(f"--draws {draws} is for decoded items, and {out} takes latents", "omit --draws")
    if directory.is_densities_only():
        if out.suffix.lower() != _LATENTS:
            raise UsageError(f"{path} holds densities but no decoder, so it samples latents only", "-o new-latents.npy")
        entry = fitted.find(directory, density)
        if entry is None:
            raise RaectlError(
                f"{path} holds no density", command("raectl", "fit-density", path, "--latents", "FILE.npy")
            )
        _tell_choice(directory, density, progress)
        _write_latents(out, fitted.load(directory, entry, None).sample(n, seed).numpy())
        return entry.name
    checkpoint = Checkpoint(path, device)
    found = fitted.find(directory, density)
    _tell_choice(directory, density, progress)
    if out.suffix.lower() == _LATENTS:
        _write_latents(out, checkpoint.density(density).sample(n, seed).numpy())
    else:
        checkpoint.modality.check_out(out)
        checkpoint.check_draws(draws)
        if draws is None:
            batches = _batches(checkpoint, n, seed, density, max(1, batch_size // BLOCK))
        else:
            batches = _modes(checkpoint, n, seed, density, draws, progress)
        if remark := checkpoint.modality.write(out, batches, n):
            progress.note(f"{remark}: {_ENDLESS if draws is None else _INVALID}")
    return found.name if found else _PRIOR


def _tell_choice(directory: Directory, asked: str | None, progress: Progress) -> None:
    """Say which of several densities is taken where none was asked for."""
    *others, last = [entry.name for entry in fitted.list_fitted(directory)] or [_PRIOR]
    if asked is None and others:
        progress.note(f"sampling from {last}, the last one fitted; --density takes another: {', '.join(others)}")


def _batches(checkpoint: Checkpoint, n: int, seed: int, density: str | None, blocks: int) -> Iterator[np.ndarray]:
    waiting: list[torch.Tensor] = []
    for block in checkpoint.sample_blocks(n, seed, density):
        waiting.append(block)
        if len(waiting) == blocks:
            yield checkpoint.modality.to_items(torch.cat(waiting))
            waiting = []
    if waiting:
        yield checkpoint.modality.to_items(torch.cat(waiting))


def _modes(
    checkpoint: Checkpoint, n: int, seed: int, density: str | None, draws: int, progress: Progress
) -> Iterator[np.ndarray]:
    for done, item in enumerate(checkpoint.modes(n, seed, density, draws), 1):
        yield item
        progress.update("drawing", done, n)


def _write_latents(out: Path, z: np.ndarray) -> None:
    with atomic_file(out) as temporary, open(temporary, "wb") as file:
        np.save(file, z)
