"""Begin a run with the weights of another one, on other or more data: `train --from CKPT`."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raectl.checkpoint.contents import Contents
from raectl.checkpoint.directory import Ancestor, Directory
from raectl.checkpoint.items import read_items, seen_by
from raectl.checkpoint.sharpened import PLAIN
from raectl.config import Config, as_typed
from raectl.data import Dataset
from raectl.data.options import RESOLVED
from raectl.errors import RaectlError, UsageError
from raectl.modalities.base import modality_of
from raectl.model.build import build
from raectl.model.reconstructions import for_modality
from raectl.model.resolve import resolve
from raectl.model.weights import module_layout
from raectl.progress import Progress
from raectl.registry import resolve as resolve_name
from raectl.storage.arrays import Arrays

# What follows from the data, the machine or the run, and is not taken from the other one.
_OWN = (
    *("epochs", "patience", "plateau_patience", "batch_size", "augment", "val_fraction", "fold", "seed"),
    *("device", "precision", "sharpen", "max_bad", "strict", "frames"),
)
_OF_PIXELS = ("fit", "background", "range", "alpha")
_OF_WEIGHTS = ("model", "arch", "width", "latent_dim", "reg")


@dataclass(frozen=True)
class Origin:
    """Where the weights at the start of a run come from.

    Arguments:
        lineage: the runs, the first one first; none if the weights were random.
        trained_on, held_out: sorted digests of the items that they were trained on, and that they held out.
    """

    lineage: tuple[Ancestor, ...] = ()
    trained_on: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    held_out: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))

    @property
    def is_settled(self) -> bool:
        """Whether the reconstruction term is to begin in its last form."""
        return bool(self.lineage) and self.lineage[-1].settled

    @classmethod
    def recorded(cls, directory: Directory) -> "Origin":
        """That of a run that is resumed."""
        lineage = directory.read_config().lineage
        if not lineage:
            return cls()
        digests = read_items(directory.items)
        return cls(lineage, digests.trained_on, digests.held_out)


@dataclass(frozen=True)
class Start:
    """What a run begins with.

    Arguments:
        config: its options: those given, and for others the other run's.
        given: names of the former.
        changed: names of those that make other pixels of the same images than the other run's.
        shape, bits: of an item as stored.
        arrays: the weights.
    """

    config: Config
    given: frozenset[str]
    changed: tuple[str, ...]
    shape: tuple[int, ...]
    bits: int | None
    arrays: Arrays
    origin: Origin

    @classmethod
    def read(cls, path: Path, options: Mapping[str, Any], given: Collection[str]) -> "Start":
        """Read the other run's directory.

        Arguments:
            options: by name.
            given: names of those that are not to be the other run's.

        Raises:
            UsageError: one asks for another net than that of the weights.
            RaectlError: this is no checkpoint directory, a damaged one, or one without a whole epoch.
        """
        contents = Contents.read(Directory(path), PLAIN)
        record, old = contents.record, contents.record.resolved
        if not contents.epoch and not record.lineage:
            raise RaectlError(f"{path} has no whole epoch yet: there is nothing to begin with", "train it first")
        kept = {name: value for name, value in old.to_dict().items() if name not in _OWN}
        config = Config.from_dict({**kept, **{name: options[name] for name in given}})
        with torch.device("meta"):
            model, _ = build(config, contents.item_shape)
        layout = module_layout(model)
        if layout.keys() != contents.arrays.keys() or any(
            contents.arrays[name].shape != shape for name, (shape, _) in layout.items()
        ):
            names = [as_typed(name) for name in _OF_WEIGHTS if getattr(config, name) != getattr(old, name)]
            raise UsageError(
                f"the weights of {path} do not fit another {' and '.join(names)}", f"omit {' and '.join(names)}"
            )
        data = record.data
        ancestor = Ancestor(
            *(str(path.resolve()), contents.weights, contents.epoch, data.source, data.n, data.fingerprint),
            _is_settled(contents, config),
        )
        origin = Origin((*record.lineage, ancestor), *seen_by(contents.directory.items, old, data.n))
        changed = tuple(name for name in _OF_PIXELS if getattr(config, name) != getattr(old, name))
        return cls(config, frozenset(given), changed, data.shape, data.options.bits, contents.arrays, origin)

    def config_for(self, out: Directory) -> Config:
        """The options, or a `UsageError` if one has no effect, or the run is to be made where the other one is."""
        if out.path.resolve() == Path(self.origin.lineage[-1].checkpoint):
            raise UsageError(f"--from and --out are both {out.path}", "choose another --out")
        if self.config.fold:
            raise UsageError("fold has no effect with --from, which holds out what was held out", "omit fold")
        return self.config

    def resolved(self, dataset: Dataset, progress: Progress | None = None) -> Config:
        """The resolved options for some data, without what only sources like the other run's take.

        Raises:
            RaectlError: their items have another shape.
        """
        found = tuple(dataset.items.shape[1:])
        if found != self.shape:
            weights = f"the weights of {self.origin.lineage[-1].checkpoint}, which are for {self.shape}"
            raise RaectlError(f"{dataset.source}: items of shape {found} do not suit {weights}")
        if self.changed and progress is not None:
            weights, typed = self.origin.lineage[-1].checkpoint, " and ".join(map(as_typed, self.changed))
            progress.note(
                f"with another {typed} than {weights}'s, images are not recognised as the ones that it "
                "was trained on: held-out ones may be among them, and their loss is then too low"
            )
        idle = [name for name in RESOLVED if name not in self.given and getattr(dataset.options, name) is None]
        return resolve(self.config.replace(**dict.fromkeys(idle)), dataset, is_continued=True)


def _is_settled(contents: Contents, config: Config) -> bool:
    """Whether the weights' reconstruction term had come to its last form, and is the configuration's."""
    record = contents.record
    modality = modality_of(record.data.modality, record.data.options)
    asked, old = (for_modality(c.reconstruction, modality) for c in (config, record.resolved))
    steps = [line["step"] for line in contents.directory.read_log() if isinstance(line.get("step"), int)]
    term = resolve_name("reconstruction", asked["name"])(modality, **{k: v for k, v in asked.items() if k != "name"})
    was_settled = bool(record.lineage) and record.lineage[-1].settled
    return asked == old and (was_settled or max(steps, default=0) >= term.constant_from)
