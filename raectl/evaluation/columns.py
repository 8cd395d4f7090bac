"""The columns of the paper's Table 1: sets of items to compare with real ones.

    reconstruction     D(E(x)) of the real items themselves; with a sharpened decoder also by the plain one
    N                  samples of the prior, or of one Gaussian where the model has none or the paper fits one
    gmm-10, ...        samples of each fitted density; `gmm-10, 20 draws` if each was decoded 20 times
    interpolation      D of the middle between the codes of two real items, on a line or a great circle (`kind`)

A density that has a code of its own, such as a second-stage VAE, also gives reconstructions and interpolations through
that code, which is what the paper reports for its 2sVAE.

Reference: Ghosh, Sajjadi, Vergari, Black, Schölkopf, "From Variational to Deterministic Autoencoders", ICLR 2020,
Table 1 and section 5.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from raectl import rng
from raectl.checkpoint import densities as fitted
from raectl.checkpoint.checkpoint import Checkpoint
from raectl.checkpoint.sharpened import PLAIN
from raectl.data import Dataset
from raectl.densities import Density
from raectl.densities.by_class.density import ByClass
from raectl.densities.standard_normal import StandardNormal
from raectl.errors import RaectlError
from raectl.generation.drawing import modes
from raectl.generation.interpolation import Path, path_of
from raectl.model.table import Model
from raectl.progress import Progress
from raectl.registry import resolve

N, RECONSTRUCTION, INTERPOLATION = "N", "reconstruction", "interpolation"


@runtime_checkable
class Recoding(Protocol):
    """A density with codes of its own: z (N, d) => u (N, d), and back."""

    def encode(self, z: Tensor) -> Tensor: ...
    def decode(self, u: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Column:
    """One set of items to be measured."""

    name: str  # as in tables and records
    n: int
    density: str | None = None  # name of the fitted density they come from or through, or None
    # Makes the items, (B, *stored), a batch at a time; none if they are not made here.
    batches: Callable[[], Iterator[np.ndarray]] = lambda: iter(())
    draws: int | None = None  # how often each was decoded, see `Checkpoint.modes`; None for once
    # The modality's metrics of each reconstruction, (N,), known once all batches are made; None for others.
    errors: Callable[[], dict[str, np.ndarray]] | None = None
    is_generated: bool = False  # whether the items are samples of a density, and not made from the real ones
    decoder: str | None = None  # which one made the items, if not the one that makes the others
    kind: str | None = None  # of interpolation, None for others
    classes: np.ndarray | None = None  # the class of each item, (N,) texts; None if they have none


def columns(
    checkpoint: Checkpoint,
    real: np.ndarray,
    training: Dataset | None,
    classes: np.ndarray | None = None,
    densities: Sequence[str] = (),
    kind: str = "spherical",
    seed: int = 0,
    draws: int | None = None,
    progress: Progress | None = None,
) -> list[Column]:
    """Everything that can be measured of a checkpoint, as many items of each as there are real ones.

    Arguments:
        real: (N, *stored), to be reconstructed and interpolated.
        training: the data it was trained on, to whose latents a Gaussian is fitted for `N`; None if they are gone.
        classes: that of each real item, (N,) texts; None if they have none.
        densities, kind, seed, draws: as for `Evaluation`.
        progress: is told what is left out, and why.

    Raises:
        UsageError: the kind of interpolation is unknown.
        RaectlError: a density that was asked for is not there, or was fitted to other weights.
    """
    path, progress = path_of(kind), progress or Progress()
    fitted = _fitted(checkpoint, densities, progress)
    codes = _Codes(checkpoint, real, path, seed)
    found = [Column(RECONSTRUCTION, len(real), None, codes.reconstructions, errors=codes.errors, classes=classes)]
    if checkpoint.decoder_name != PLAIN:
        plain = _Codes(checkpoint, real, path, seed, decoder=PLAIN)
        found.append(Column(RECONSTRUCTION, len(real), None, plain.reconstructions, errors=plain.errors, decoder=PLAIN))

    def samples(name: str, density: Density, stored: str | None) -> Column:
        def blocks() -> Iterator[np.ndarray]:
            if draws is not None:
                return modes(checkpoint, len(real), seed, density, draws)
            return map(checkpoint.modality.to_items, checkpoint.sample_blocks(len(real), seed, density))

        name = name if draws is None else f"{name}, {draws} draws"
        own = np.array(density.classes)[density.classes_of(len(real), seed)] if isinstance(density, ByClass) else None
        return Column(name, len(real), stored, blocks, draws, is_generated=True, classes=own)

    if first := _n(checkpoint, training, progress):
        found.append(samples(N, first, None))
    for name, density in fitted.items():
        found.append(samples(name, density, name))
    found.append(Column(INTERPOLATION, len(real), None, codes.interpolations, kind=kind))
    for name, density in fitted.items():
        if isinstance(density, Recoding):
            through = _Codes(checkpoint, real, path, seed, density)
            found.append(
                Column(f"{RECONSTRUCTION} by {name}", len(real), name, through.reconstructions, errors=through.errors)
            )
            found.append(Column(f"{INTERPOLATION} by {name}", len(real), name, through.interpolations, kind=kind))
    return found


def _fitted(checkpoint: Checkpoint, wanted: Sequence[str], progress: Progress) -> dict[str, Density]:
    if wanted:
        entries = [fitted.find(checkpoint.directory, name) for name in dict.fromkeys(wanted)]
        return {entry.name: checkpoint.density(entry.name) for entry in entries if entry}
    found = {}
    for entry in fitted.list_fitted(checkpoint.directory):
        try:
            found[entry.name] = checkpoint.density(entry.name)
        except RaectlError as error:
            progress.note(f"left out: {error.message}")
    return found


def _n(checkpoint: Checkpoint, training: Dataset | None, progress: Progress) -> Density | None:
    """The density of column N, fitted here where it needs fitting: what costs a moment is not kept."""
    model: Model = resolve("model", checkpoint.config.model)
    kind: type[Density] = resolve("density", model.n)
    if kind is StandardNormal:
        return StandardNormal().fit(torch.zeros(1, checkpoint.latent_dim))
    if training is None:
        progress.note(f"left out: {N}, a {model.n} density of the training latents, as the training data are gone")
        return None
    return kind().fit(checkpoint.split_latents(training)[0])


@dataclass
class _Codes:
    """Reconstructions and interpolations of real items.

    For a density with a latent space of its own, such as a second-stage VAE, they are made in that space.
    """

    checkpoint: Checkpoint
    real: np.ndarray
    path: Path
    seed: int
    density: Recoding | None = None
    decoder: str | None = None
    found: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def _encode(self) -> Tensor:
        z = self.checkpoint.encode(self.real).cpu()
        return self.density.encode(z) if self.density else z

    def _decode(self, z: Tensor) -> Iterator[Tensor]:
        return self.checkpoint.decode_blocks(self.density.decode(z) if self.density else z, self.decoder)

    def reconstructions(self) -> Iterator[np.ndarray]:
        """Of every real item; on the way, how far they are."""
        modality = self.checkpoint.modality
        measures = {name: resolve("metric", name) for name in modality.metrics}
        self.found = {name: [] for name in measures}
        start = 0
        for x_hat in self._decode(self._encode()):
            x = modality.to_tensor(torch.from_numpy(np.array(self.real[start : start + len(x_hat)])).to(x_hat.device))
            for name, measure in measures.items():
                self.found[name].append(measure(x, modality.measured(x_hat)).double().cpu().numpy())
            start += len(x_hat)
            yield modality.to_items(x_hat)

    def errors(self) -> dict[str, np.ndarray]:
        """Of each reconstruction, (N,)."""
        return {name: np.concatenate(parts) for name, parts in self.found.items()}

    def interpolations(self) -> Iterator[np.ndarray]:
        """The middles of N random pairs, in which every item occurs twice and never with itself."""
        z, order = self._encode(), rng.permutation(self.seed, "evaluation pairs", len(self.real))
        middles = self.path(z[order], z[np.roll(order, 1)], torch.tensor([0.5]))[:, 0]
        return map(self.checkpoint.modality.to_items, self._decode(middles))
