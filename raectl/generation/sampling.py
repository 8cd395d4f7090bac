"""Write samples of a checkpoint directory to a file, as decoded items or as latents."""

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from raectl.checkpoint import densities as fitted
from raectl.checkpoint.checkpoint import Checkpoint, load
from raectl.checkpoint.directory import Directory
from raectl.checkpoint.networks import BLOCK
from raectl.densities import Density
from raectl.densities.by_class.density import ByClass, of_classes
from raectl.errors import RaectlError, UsageError, command
from raectl.generation.drawing import check_draws, modes
from raectl.modalities.base import gather
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
    classes: Sequence[str] = (),
    per_class: bool = False,
    latents: bool = False,
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
        out: file; of latents a `.npy`, (n, d) float32.
        density: name or kind; None for the last one fitted, or the model's prior.
        classes: the classes to draw from, by their shares among themselves; all of a density by class if none are
            named.
        per_class: draw n of each class, in their order; a picture has a row for each.
        latents: write latents, which need no decoder; so does a directory of densities only.
        batch_size: items in memory at a time, if the format of `out` allows; 1 with `draws`.
        draws: number of random decodings of each latent, of which the most frequent valid item is kept; None for the
            likeliest item.
        decoder: `plain` or `sharp`; None for the sharpened one where there is one.
        bands: channels that a picture shows; None for the training's.

    Returns:
        Name of the density, and of the decoder; None for latents.

    Raises:
        RaectlError: there is no such density, it was fitted to other weights, or `out` cannot be written.
        UsageError: `draws` is given, but decoding is deterministic, or `out` is for latents; or there is no such class.
    """
    progress, directory = progress or Progress(), Directory(Path(path))
    latents = latents or directory.is_densities_only()
    for name, given in (("draws", draws), ("decoder", decoder)):
        if given is not None and latents:
            raise UsageError(f"--{name} {given} is for decoded items, and {out} takes latents", f"omit --{name}")
    if latents and out.suffix.lower() != _LATENTS:
        what = "--latents writes" if not directory.is_densities_only() else f"{path} holds no decoder and samples"
        raise UsageError(f"{what} latents only, in a {_LATENTS}, and not {out}", "-o new-latents.npy")
    checkpoint = None if directory.is_densities_only() else load(path, device, decoder, bands)
    found = fitted.find(directory, density, by_class=bool(classes or per_class))
    if density is None:
        _tell_choice(directory, found, progress)
    parts = _parts(_density(directory, checkpoint, found), n, classes, per_class, directory.path)
    name = found.name if found else _PRIOR
    if checkpoint is None or latents:
        _write_latents(out, np.concatenate([part.density.sample(part.n, seed).numpy() for part in parts]))
        return name, None
    writer = checkpoint.modality.writer
    (writer.check_rows if per_class and writer.is_picture(out) else writer.check_out)(out)
    check_draws(checkpoint, draws)
    blocks = [_batches(checkpoint, part, seed, max(1, batch_size // BLOCK), draws, progress) for part in parts]
    if remark := _write(checkpoint, out, parts, blocks, seed, progress):
        progress.note(f"{remark}: {_INCOMPLETE if draws is None else _INVALID}")
    return name, checkpoint.decoder_name


class _Part(NamedTuple):
    """So many samples of a density; of one class, if it has a name."""

    density: Density
    n: int
    name: str | None = None


def _density(directory: Directory, checkpoint: Checkpoint | None, entry: fitted.FittedDensity | None) -> Density:
    if checkpoint is not None:
        return checkpoint.density(entry.name if entry else None)
    if entry is None:
        again = command("raectl", "fit-density", directory.path, "--latents", "FILE.npy")
        raise RaectlError(f"{directory.path} holds no density", again)
    return fitted.load(directory, entry, None)


def _parts(density: Density, n: int, classes: Sequence[str], per_class: bool, path: Path) -> list[_Part]:
    chosen = of_classes(density, classes, path) if classes or per_class else density
    if not per_class:
        return [_Part(chosen, n)]
    assert isinstance(chosen, ByClass)
    return [_Part(chosen.only([name]), n, name) for name in classes or chosen.classes]


def _labels(part: _Part, seed: int) -> list[str]:
    """The class of each sample; none unless the density is by class."""
    if not isinstance(part.density, ByClass):
        return []
    return [part.density.classes[index] for index in part.density.classes_of(part.n, seed).tolist()]


def _write(
    checkpoint: Checkpoint,
    out: Path,
    parts: Sequence[_Part],
    blocks: Sequence[Iterator[np.ndarray]],
    seed: int,
    progress: Progress,
) -> str | None:
    """Write all samples; those of single classes, where the file has rows, in a row each. Returns a remark, or None."""
    writer, names = checkpoint.modality.writer, [part.name for part in parts if part.name is not None]
    if not names or not writer.has_rows(out):
        labels = [label for part in parts for label in _labels(part, seed)]
        return writer.write(out, chain(*blocks), sum(part.n for part in parts), labels=labels)
    if writer.is_picture(out) and not all(map(str.isascii, names)):
        progress.note(f"rows: {', '.join(f'{number} {name}' for number, name in enumerate(names, 1))}")
    return writer.write_rows(out, names, [gather(block, part.n) for part, block in zip(parts, blocks, strict=True)])


def _tell_choice(directory: Directory, found: fitted.FittedDensity | None, progress: Progress) -> None:
    """If there are several densities and none was asked for, note which one is used."""
    names = [entry.name for entry in fitted.list_fitted(directory)]
    if found and len(names) > 1:
        why = "the last one fitted" if found.name == names[-1] else "the last one by class"
        others = ", ".join(name for name in names if name != found.name)
        progress.note(f"sampling from {found.name}, {why}; --density takes another: {others}")


def _batches(
    checkpoint: Checkpoint, part: _Part, seed: int, blocks: int, draws: int | None, progress: Progress
) -> Iterator[np.ndarray]:
    if draws is not None:
        for done, item in enumerate(modes(checkpoint, part.n, seed, part.density, draws), 1):
            yield item
            progress.update("drawing", done, part.n)
        return
    samples = checkpoint.sample_blocks(part.n, seed, part.density)
    while batch := list(islice(samples, blocks)):
        yield checkpoint.modality.to_items(torch.cat(batch))


def _write_latents(out: Path, z: np.ndarray) -> None:
    with atomic_file(out) as temporary, open(temporary, "wb") as file:
        np.save(file, z)
