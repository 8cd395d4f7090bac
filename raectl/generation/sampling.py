"""Write samples of a checkpoint directory to a file, as decoded items or as latents."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from raectl.checkpoint import densities as fitted
from raectl.checkpoint.checkpoint import Checkpoint, load
from raectl.checkpoint.directory import Directory
from raectl.checkpoint.networks import BLOCK
from raectl.errors import RaectlError, UsageError, command
from raectl.progress import Progress
from raectl.storage.atomic import atomic_file

_LATENTS = ".npy"
_PRIOR = "prior"
_INCOMPLETE = "what came to no end; more training makes it rarer"
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
    decoder: str | None = None,
    bands: str | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> tuple[str, str | None]:
    """Draw n samples and write them; sample i is a function of the seed and i alone.

    Arguments:
        path: a checkpoint directory, or a directory of densities only.
        out: file; `.npy` for latents, (n, d) float32, which need no decoder.
        density: name or kind; None for the last one fitted, or the model's prior.
        batch_size: items in memory at a time, if the format of `out` allows; 1 with `draws`.
        draws: number of random decodings of each latent, of which the most frequent valid item is kept; None for the
            likeliest item.
        decoder: `plain` or `sharp`; None for the sharpened one where there is one.
        bands: channels that a picture shows; None for the training's.

    Returns:
        Name of the density, and of the decoder; None for latents.

    Raises:
        RaectlError: there is no such density, it was fitted to other weights, or `out` cannot be written.
        UsageError: `draws` is given, but decoding is deterministic, or `out` is for latents.
    """
    progress, directory = progress or Progress(), Directory(Path(path))
    to_latents = out.suffix.lower() == _LATENTS
    for name, given in (("draws", draws), ("decoder", decoder)):
        if given is not None and to_latents:
            raise UsageError(f"--{name} {given} is for decoded items, and {out} takes latents", f"omit --{name}")
    if directory.is_densities_only():
        if not to_latents:
            raise UsageError(f"{path} holds densities but no decoder, so it samples latents only", "-o new-latents.npy")
        entry = fitted.find(directory, density)
        if entry is None:
            raise RaectlError(
                f"{path} holds no density", command("raectl", "fit-density", path, "--latents", "FILE.npy")
            )
        _tell_choice(directory, density, progress)
        _write_latents(out, fitted.load(directory, entry, None).sample(n, seed).numpy())
        return entry.name, None
    checkpoint = load(path, device, decoder, bands)
    found = fitted.find(directory, density)
    _tell_choice(directory, density, progress)
    name = found.name if found else _PRIOR
    if to_latents:
        _write_latents(out, checkpoint.density(density).sample(n, seed).numpy())
        return name, None
    checkpoint.modality.writer.check_out(out)
    checkpoint.check_draws(draws)
    if draws is None:
        batches = _batches(checkpoint, n, seed, density, max(1, batch_size // BLOCK))
    else:
        batches = _modes(checkpoint, n, seed, density, draws, progress)
    if remark := checkpoint.modality.writer.write(out, batches, n):
        progress.note(f"{remark}: {_INCOMPLETE if draws is None else _INVALID}")
    return name, checkpoint.decoder_name


def _tell_choice(directory: Directory, asked: str | None, progress: Progress) -> None:
    """If there are several densities and none was asked for, note which one is used."""
    *others, last = [entry.name for entry in fitted.list_fitted(directory)] or [_PRIOR]
    if asked is None and others:
        progress.note(f"sampling from {last}, the last one fitted; --density takes another: {', '.join(others)}")


def _batches(checkpoint: Checkpoint, n: int, seed: int, density: str | None, blocks: int) -> Iterator[np.ndarray]:
    samples = checkpoint.sample_blocks(n, seed, density)
    while batch := list(islice(samples, blocks)):
        yield checkpoint.modality.to_items(torch.cat(batch))


def _modes(
    checkpoint: Checkpoint, n: int, seed: int, density: str | None, draws: int, progress: Progress
) -> Iterator[np.ndarray]:
    for done, item in enumerate(checkpoint.modes(n, seed, density, draws), 1):
        yield item
        progress.update("drawing", done, n)


def _write_latents(out: Path, z: np.ndarray) -> None:
    with atomic_file(out) as temporary, open(temporary, "wb") as file:
        np.save(file, z)
