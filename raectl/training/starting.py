"""Begin a run with the weights of another one, on other or more data: `train --from CKPT`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from raectl.checkpoint.contents import Contents, outline
from raectl.checkpoint.directory import Ancestor, Directory
from raectl.checkpoint.items import read_items, trained_on
from raectl.checkpoint.sharpened import PLAIN
from raectl.config import Config, as_typed
from raectl.data import Dataset
from raectl.data.options import RESOLVED
from raectl.errors import RaectlError, UsageError
from raectl.model.build import build
from raectl.model.resolve import resolve
from raectl.model.weights import module_layout
from raectl.storage.arrays import Arrays

# What follows from the data, the machine or the run, and is not taken from the other one.
_OWN = (
    *("epochs", "patience", "plateau_patience", "batch_size", "augment", "val_fraction", "seed"),
    *("device", "precision", "sharpen", "max_bad", "strict"),
)
_OF_WEIGHTS = ("model", "arch", "width", "latent_dim", "reg")


@dataclass(frozen=True)
class Origin:
    """Where the weights at the start of a run come from.

    Arguments:
        lineage: the runs, the first one first; none if the weights were random.
        trained_on: sorted digests of the items that these were trained on.
    """

    lineage: tuple[Ancestor, ...] = ()
    trained_on: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))

    @classmethod
    def recorded(cls, directory: Directory) -> "Origin":
        """That of a run that is resumed."""
        lineage = directory.read_config().lineage
        return cls(lineage, read_items(directory.items).before) if lineage else cls()


@dataclass(frozen=True)
class Start:
    """What a run begins with.

    Arguments:
        config: its options: those given, and for others the other run's.
        given: names of the former.
        shape: of an item as stored.
        arrays: the weights.
    """

    config: Config
    given: frozenset[str]
    shape: tuple[int, ...]
    arrays: Arrays
    origin: Origin

    @classmethod
    def read(cls, path: Path, given: dict[str, Any]) -> "Start":
        """Read the other run's directory.

        Arguments:
            given: the options that were given.

        Raises:
            UsageError: one asks for another net than that of the weights.
            RaectlError: this is no checkpoint directory, or a damaged one.
        """
        contents = Contents.read(Directory(path), PLAIN)
        record, old = contents.record, contents.record.resolved
        given = {name: value for name, value in given.items() if value is not None}
        kept = {name: value for name, value in old.to_dict().items() if name not in _OWN}
        config = Config.from_dict({**kept, **given})
        _, (model, _) = outline(contents.directory, record, lambda _, shape: build(config, shape))
        layout = module_layout(model)
        if layout.keys() != contents.arrays.keys() or any(
            contents.arrays[name].shape != shape for name, (shape, _) in layout.items()
        ):
            names = [as_typed(name) for name in _OF_WEIGHTS if getattr(config, name) != getattr(old, name)]
            raise UsageError(f"the weights of {path} do not fit another {' and '.join(names)}", f"omit {names[0]}")
        data = record.data
        ancestor = Ancestor(str(path), contents.weights, contents.epoch, data.source, data.n, data.fingerprint)
        seen = trained_on(contents.directory.items, old)
        origin = Origin((*record.lineage, ancestor), seen)
        return cls(config, frozenset(given), data.shape, contents.arrays, origin)

    def resolved(self, dataset: Dataset) -> Config:
        """The resolved options for some data, without what only sources like the other run's take.

        Raises:
            RaectlError: their items have another shape.
        """
        found = tuple(dataset.items.shape[1:])
        if found != self.shape:
            weights = f"the weights of {self.origin.lineage[-1].checkpoint}, which are for {self.shape}"
            raise RaectlError(f"{dataset.source}: items of shape {found} do not suit {weights}")
        idle = [name for name in RESOLVED if name not in self.given and getattr(dataset.options, name) is None]
        return resolve(self.config.replace(**dict.fromkeys(idle)), dataset, is_continued=True)
