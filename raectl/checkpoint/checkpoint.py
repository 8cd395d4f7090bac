"""A trained autoencoder, opened from its directory: encode, decode, fit a density to its latents, sample."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raectl._version import __version__
from raectl.checkpoint.contents import Contents
from raectl.checkpoint.densities import find, list_fitted, save
from raectl.checkpoint.densities import load as load_density
from raectl.checkpoint.directory import Directory
from raectl.checkpoint.items import Seen, read_known, recognise, split_as
from raectl.checkpoint.latents import cached_arrays, cached_latents
from raectl.checkpoint.networks import BLOCK, Networks
from raectl.checkpoint.sharpened import SHARP, check_decoder
from raectl.data import Dataset, open_dataset, split
from raectl.data.dataset import fingerprint
from raectl.densities import Density
from raectl.densities.by_class.density import of_classes
from raectl.densities.by_class.fitting import fit_by_class
from raectl.densities.fitting import Fit, fit
from raectl.densities.latents.checks import as_latents
from raectl.densities.standard_normal import StandardNormal
from raectl.errors import RaectlError, UsageError, command
from raectl.metrics.anomaly import Calibration, Measures, Scores
from raectl.model.table import Model
from raectl.progress import Progress
from raectl.registry import resolve
from raectl.storage.arrays import Arrays, content_digest
from raectl.storage.lock import Lock

_DRAWN = 16 * BLOCK  # latents drawn at a time


class Checkpoint(Networks):
    """A trained autoencoder, with its data and the densities of its latents.

    Arguments:
        contents: of its directory.
        device: where the networks run; `auto` takes the best at hand.

    Example:
        >>> checkpoint = raectl.load("ckpt")                             # doctest: +SKIP
        >>> fit = checkpoint.fit_density("gmm", components=10)           # doctest: +SKIP
        >>> x = checkpoint.sample(64, seed=0)                            # doctest: +SKIP
        >>> checkpoint.write(x, "samples.png")                           # doctest: +SKIP
    """

    def __init__(self, contents: Contents, device: str = "auto") -> None:
        super().__init__(contents, device)
        self.training_data: Dataset | None = None  # if it is at hand, as after training in this process

    def __repr__(self) -> str:
        return f"Checkpoint({str(self.directory.path)!r}, model={self.config.model!r}, epoch={self.epoch})"

    def open_data(
        self,
        source: str | Path | np.ndarray | None = None,
        progress: Progress | None = None,
        max_bad: float | None = None,
        strict: bool = False,
    ) -> Dataset:
        """A data set as this model takes it; by default the one it was trained on, if that has not changed.

        Arguments:
            source: the data; None for the training data.
            progress: receives progress and notes.
            max_bad: share of the source's items that may be bad and are skipped; None for training's value.
            strict: refuse a source with a bad item; for other data than the training's.

        Raises:
            RaectlError: the training data have changed, or the data do not suit the model.
        """
        progress = progress or Progress()
        for name, given in (("max-bad", max_bad is not None), ("strict", strict)):
            if source is None and given:
                raise UsageError(f"--{name} is for other data than the training's", "name them: --data SOURCE")
        if source is not None:
            share = self.data.options.max_bad if max_bad is None else max_bad
            options = replace(self.data.options, max_bad=share, strict=strict)
            dataset = open_dataset(source, options, progress)
            for note in dataset.notes:
                progress.note(note)
            if dataset.modality != self.data.modality:
                message = f"{dataset.source}: these are {dataset.modality}, the model is for {self.data.modality}"
                raise RaectlError(message)
            if tuple(dataset.items.shape[1:]) != self.data.shape:
                found = tuple(dataset.items.shape[1:])
                raise RaectlError(f"{source}: items of shape {found} do not suit a model for {self.data.shape}")
            return dataset
        if self.training_data is not None and fingerprint(self.training_data.items) == self.data.fingerprint:
            return self.training_data  # unless its array was written to meanwhile
        hint = "name the data: --data SOURCE, or source=... in Python"
        try:
            dataset = open_dataset(self.data.recorded(), self.data.options, progress)
        except RaectlError as error:
            raise RaectlError(f"the training data cannot be opened: {error.message}", hint) from error
        if dataset.fingerprint != self.data.fingerprint:
            raise RaectlError(f"{self.data.source} no longer holds the data this model was trained on", hint)
        return dataset

    def fit_density(
        self,
        kind: str = "gmm",
        source: str | Path | np.ndarray | None = None,
        *,
        name: str | None = None,
        seed: int = 0,
        per_class: bool = False,
        max_bad: float | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> Fit:
        """Fit a density to the training latents and keep it in the directory.

        Arguments:
            kind: a registered density.
            source: data to encode; None for the training data.
            per_class: fit one to each class of the data, see `fit_by_class`.
            name: what to keep it under; None for the kind and its number of components.
            seed: of the fit.
            max_bad: as `open_data` takes it.
            progress: receives progress.
            options: the density's own, such as `components=10` or `components="auto"`.

        Returns:
            The density, its log-likelihoods, and the numbers of components that were tried.

        Raises:
            UsageError: the density has no such option, or the data have no classes.
            RaectlError: the data have changed, the latents cannot be used, or another process writes here.
        """
        progress = progress or Progress()
        if not self.epoch and not self.lineage:
            progress.note(f"{self.directory.path} has no whole epoch yet: these are the latents of initial weights")
        with Lock(self.directory.path, progress.note) as lock:
            lock.acquire()
            dataset = self.open_data(source, progress, max_bad)
            train, held_out = self.split_latents(dataset)
            if per_class:
                labels = dataset.known_labels("--per-class")
                of_train, of_held_out = (labels[rows] for rows in self.split(dataset.items))
                result = fit_by_class(
                    kind, (train, of_train), (held_out, of_held_out), dataset.classes,
                    seed=seed, progress=progress, **options,
                )  # fmt: skip
            else:
                result = fit(kind, train, held_out, seed=seed, progress=progress, **options)
            save(self.directory, result, name, self.encoder)
        return result

    def latents(self, dataset: Dataset) -> np.ndarray:
        """The latents of a data set's items, in their order: (N, d) float32; cached in the directory."""
        shape = (len(dataset), self.latent_dim)
        return cached_latents(
            self.directory, self.encoder, dataset.fingerprint, shape, lambda: self.encode_blocks(dataset.items)
        )

    def split_latents(self, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
        """Latents of the training and of the held-out items; for the model's own data the split of its training."""
        z = self.latents(dataset)
        as_latents(z)  # before the split, so that rows are those of the data
        train, held_out = self.split(dataset.items)
        return z[train], z[held_out]

    def split(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the items that are for training, and of those held out, as in the training of this model."""
        if self.lineage:
            return split_as(self.directory.items, items, self.config)
        return split(len(items), self.config.val_fraction, self.config.seed, self.config.fold)

    def densities(self) -> tuple[str, ...]:
        """Names of the fitted densities, in the order in which they were fitted."""
        return tuple(entry.name for entry in list_fitted(self.directory))

    def density(self, name: str | None = None, classes: Sequence[str] = ()) -> Density:
        """A fitted density by its name or kind; by default the last one fitted, or else the model's prior.

        Arguments:
            classes: those of a density by class that are wanted; all if none are named.

        Raises:
            UsageError: it is not by class, or has no such class.
            RaectlError: there is none, or it was fitted to another encoder's latents.
        """
        found = self._density(name, by_class=bool(classes))
        return of_classes(found, classes, self.directory.path) if classes else found

    def _density(self, name: str | None, *, by_class: bool) -> Density:
        entry = find(self.directory, name, by_class=by_class)
        if entry is not None:
            fitted = load_density(self.directory, entry, self.encoder)
            if fitted.dim != self.latent_dim:
                where = self.directory.densities / entry.name
                raise RaectlError(f"{where} is damaged: it has {fitted.dim} dimensions, the model {self.latent_dim}")
            return fitted
        model: Model = resolve("model", self.config.model)
        if not model.prior:
            raise RaectlError(
                f"{self.directory.path} has no fitted density, and the model {self.config.model} has no prior",
                command("raectl", "fit-density", self.directory.path),
            )
        return StandardNormal().fit(torch.zeros(1, self.latent_dim))

    def sample(
        self, n: int, seed: int = 0, density: str | Density | None = None, classes: Sequence[str] = ()
    ) -> np.ndarray:
        """n new items as stored, (n, *stored shape) uint8 or uint16; item i depends on the seed and i alone.

        `modality.to_source` gives images the type and the units of the training data. For the decoder's own values,
        `decode(density().sample(n, seed))`; `density` and `classes` as of `density`.
        """
        chosen = density if isinstance(density, Density) else self.density(density, classes)
        return np.concatenate([self.modality.to_items(block) for block in self.sample_blocks(n, seed, chosen)])

    def sample_blocks(self, n: int, seed: int = 0, density: str | Density | None = None) -> Iterator[Tensor]:
        """The decoder's values for samples, (B, *item_shape) a block, also from a density that is not kept."""
        fitted = density if isinstance(density, Density) else self.density(density)
        for start in range(0, n, _DRAWN):
            yield from self.decode_blocks(fitted.sample(min(_DRAWN, n - start), seed, start))

    def log_prob(self, items: np.ndarray | Tensor, density: str | None = None) -> Tensor:
        """Log-density of each item's code under a fitted density: (N,), in nats. Low is odd."""
        return self.density(density).log_prob(self.encode(items))

    def score(
        self, items: np.ndarray, density: str | None = None, reference: str | Path | np.ndarray | None = None
    ) -> Scores:
        """Anomaly scores of items, (N, *stored shape); the higher the odder. See `Calibration`.

        Arguments:
            density: a fitted density's name or kind; None for the last one fitted, or the model's prior.
            reference: as `calibration` takes it.

        Raises:
            RaectlError: there is no density, or nothing to calibrate by.

        Example:
            >>> scores = checkpoint.score(checkpoint.open_data("new-imgs").items)    # doctest: +SKIP
            >>> scores.score.argsort()[::-1][:10], scores.odd(0.01)                  # doctest: +SKIP
        """
        calibration, chosen = self.calibration(density, reference), self.density(density)
        return calibration.scores(Measures.joined([*self.measure_blocks(items, chosen)]))

    def calibration(
        self,
        density: str | None = None,
        reference: str | Path | np.ndarray | None = None,
        progress: Progress | None = None,
    ) -> Calibration:
        """What typical items score; kept in the directory, so that it is there when the training data are gone.

        Arguments:
            density: a fitted density's name or kind; None for the last one fitted, or the model's prior.
            reference: typical items that the model has not seen; None for those held out of its training.
            progress: receives progress and notes.

        Raises:
            RaectlError: there are none.
        """
        progress, entry = progress or Progress(), find(self.directory, density)
        dataset = None if reference is None else self.open_data(reference, progress)
        key = {
            "weights": self.weights,
            "density": entry.arrays if entry else "prior",
            "reference": dataset.fingerprint if dataset else self.data.fingerprint,
            "split": "reference" if dataset else "held out",
        }
        name = f"{self.encoder[:16]}-{content_digest({}, key)[:16]}"
        specs = dict.fromkeys(field.name for field in fields(Measures))

        def compute() -> Arrays:
            items, rows = self._typical(dataset, progress)
            measured, done = [], 0
            for part in self.measure_blocks(items, self.density(density), rows):
                measured.append(part)
                done += len(part.deviation)
                progress.update("measuring typical items", done, len(rows))
            return vars(Measures.joined(measured))

        arrays = cached_arrays(self.directory, name, key, specs, compute, Measures.are_valid)
        return Calibration(Measures(**arrays))

    def _typical(self, reference: Dataset | None, progress: Progress) -> tuple[np.ndarray, np.ndarray]:
        """Items, and the indices of those among them that the model was not trained on, nor on copies of them."""
        remedy = "name typical items that it has not seen: --reference SOURCE"
        if reference is None and not self.config.val_fraction:
            message = f"{self.directory.path} held out no items of its training to calibrate scores by"
            raise RaectlError(message, f"{remedy}; or train with --val-fraction 0.1")
        try:
            dataset = reference or self.open_data(progress=progress)
        except RaectlError as error:
            raise RaectlError(f"the held-out items are needed once: {error.message}", remedy) from error
        rows = np.arange(len(dataset)) if reference else self.split(dataset.items)[1]
        known = read_known(self.directory.items, self.config)
        trained_on = known.among(dataset.items, rows)[0] if known else np.zeros(len(rows), bool)
        which = f"items of {dataset.source}" if reference else "held-out items"
        if trained_on.all():
            raise RaectlError(f"all {which} were trained on" if len(rows) else f"there are no {which}", remedy)
        if trained_on.any():
            progress.note(f"{trained_on.sum():,} of {len(rows):,} {which} were trained on, and are left out")
        return dataset.items, rows[~trained_on]

    def seen(self, items: np.ndarray) -> Seen | None:
        """How many of items (N, *stored) were trained on, one by one; None if the digests of those are gone."""
        return recognise(self.directory.items, items, self.config)

    def protocol(self, dataset: Dataset, decoder: str | None = None, seen: Seen | None = None) -> dict[str, Any]:
        """The fields of a line of metrics.jsonl that say which data, which weights and which decoder a number is of."""
        is_own = dataset.fingerprint == self.data.fingerprint or (seen and seen.trained_on and seen.total == seen.n)
        return {
            "split": "training" if is_own else "mixed" if seen and seen.total else "test",
            "trained_on": seen and seen.trained_on,
            "held_out": seen and seen.held_out,
            "source": dataset.source,
            "data": dataset.fingerprint,
            "weights": self.weights,
            "decoder": decoder or self.decoder_name,
            "sharpened": self.sharp_weights if (decoder or self.decoder_name) == SHARP else None,
            "version": __version__,
        }

    def record(self, records: Sequence[Mapping[str, Any]], progress: Progress) -> bool:
        """Append lines to metrics.jsonl; where the directory cannot be written to, note that and return False."""
        try:
            self.directory.append_metrics(records)
        except RaectlError as error:
            progress.note(f"{error.message}: the numbers are shown, but not recorded")
            return False
        return True

    def write(self, x: np.ndarray | Tensor | Iterable[np.ndarray | Tensor], out: str | Path) -> None:
        """Write items as a picture, an archive or a directory of files, by the suffix of `out`.

        Arguments:
            x: items, (N, *stored shape) uint8 or uint16, or a decoder's output, (N, *item_shape); or blocks of either.

        Raises:
            RaectlError: there are none, or they cannot be written to `out`.
        """
        blocks = [x] if isinstance(x, (np.ndarray, Tensor)) else list(x)
        items = [self._to_items(block) for block in blocks]
        if not sum(map(len, items)):
            raise RaectlError(f"there are no items to write to {out}")
        self.modality.writer.write(Path(out), items, sum(map(len, items)))

    def _to_items(self, x: np.ndarray | Tensor) -> np.ndarray:
        if torch.is_tensor(x) and not x.is_floating_point():
            x = x.cpu().numpy()
        if isinstance(x, np.ndarray) and x.dtype.kind != "f":
            return self.modality.from_source(x)
        return self.modality.to_items(torch.as_tensor(x).float())


def load(path: str | Path, device: str = "auto", decoder: str | None = None, bands: str | None = None) -> Checkpoint:
    """Open a checkpoint directory.

    Arguments:
        path: the directory.
        device: where the networks run; `auto` takes the best at hand.
        decoder: `plain`, or `sharp` for the sharpened one, which makes the items where there is one and None is given.
        bands: channels that pictures show, as `3,2,1`; None for the training's.

    Raises:
        UsageError: the decoder is unknown, or there is no sharpened one; or the images have no such channels.
        RaectlError: the directory is none, damaged, or was written by a newer version.
    """
    check_decoder(decoder)
    contents = Contents.read(Directory(Path(path)), decoder)
    if decoder == SHARP and contents.sharp is None:
        message = f"{path} has no sharpened decoder of these weights"
        raise UsageError(message, command("raectl", "sharpen", path))
    return Checkpoint(contents.showing(bands), device)
