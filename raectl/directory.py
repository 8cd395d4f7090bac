"""The checkpoint directory: what lies where, and the order of writes that keeps it whole at any moment.

    config.json            everything needed to rebuild the model, and the SHA-256 of the weights it belongs to
    model.safetensors      the weights for use: best validation loss
    training.safetensors   one consistent instant of the training run, in one file: its rename is the transaction
    log.jsonl              a line per epoch
    metrics.jsonl          a line per measured number, with its protocol
    latents/ densities/ samples/ README.md

`config.json` names the digest of the new weights and of those they replace, and is written before them, so that a
process killed between the two renames leaves a directory in which either file of weights is the right one.
"""

import contextlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import raectl
from raectl import files, registry
from raectl.config import Config
from raectl.data import DataOptions, Dataset
from raectl.errors import RaectlError

SCHEMA = 1
_LOGGED = {"epoch", "train", "validation", "seconds"}  # fields of every line of log.jsonl that are read again
_MEASURED = {"metric", "value", "of"}  # fields of every line of metrics.jsonl
_MAX_VALUES = 512 * 512 * 3  # of one item


@dataclass(frozen=True)
class DataSummary:
    """What a checkpoint remembers of its data: enough to open them again, and to know whether they are the same.

    Arguments:
        source: as it was opened.
        modality: registry name.
        fingerprint: SHA-256 of the items' bytes.
        n: number of items.
        shape: of one item as stored.
        options: how items are brought to that shape.
    """

    source: str
    modality: str
    fingerprint: str
    n: int
    shape: tuple[int, ...]
    options: DataOptions

    @classmethod
    def of(cls, dataset: Dataset) -> "DataSummary":
        """The summary of a data set."""
        shape = tuple(dataset.items.shape[1:])
        return cls(dataset.source, dataset.modality, dataset.fingerprint, len(dataset), shape, dataset.options)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DataSummary":
        """From JSON.

        Raises:
            KeyError, TypeError, ValueError: a field is missing, unknown or of another type.
        """
        if set(values) != set(cls.__dataclass_fields__):
            raise ValueError(f"data must have exactly the fields {', '.join(cls.__dataclass_fields__)}")
        for name, kind in {"source": str, "modality": str, "fingerprint": str, "n": int, "shape": list}.items():
            if type(values[name]) is not kind:
                raise TypeError(f"data.{name} is no {kind.__name__}")
        shape = tuple(values["shape"])
        if (
            not all(type(side) is int and side > 0 for side in shape)
            or not 0 < np.prod(shape, dtype=float) <= _MAX_VALUES
        ):
            raise ValueError(f"data.shape {shape} is out of range")
        registry.check("modality", values["modality"])
        return cls(**{**values, "shape": shape, "options": DataOptions(**values["options"])})


@dataclass(frozen=True)
class Directory:
    """Paths of a checkpoint directory, and its reads and writes."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def training(self) -> Path:
        return self.path / "training.safetensors"

    @property
    def log(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def card(self) -> Path:
        return self.path / "README.md"

    @property
    def latents(self) -> Path:
        return self.path / "latents"

    @property
    def densities(self) -> Path:
        return self.path / "densities"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    def is_recognised(self) -> bool:
        """Whether this is a directory that raectl made: the only kind that it ever removes."""
        if self.is_densities_only() and any(visible(self.densities)):
            return True
        try:
            record = files.read_json(self.config)
        except RaectlError:
            return False
        return isinstance(record, dict) and {"schema", "raectl", "config", "data", "weights"} <= set(record)

    def is_densities_only(self) -> bool:
        """Whether this is a directory made for latents of another encoder: it holds densities and no model."""
        if not self.densities.is_dir() or any(visible(self.path) - {self.densities}):
            return False
        return all((entry / "density.json").is_file() for entry in visible(self.densities))

    def read_config(self) -> tuple[Config, DataSummary, dict[str, Any]]:
        """The configuration, the data's summary, and the whole of config.json.

        Raises:
            RaectlError: this is no checkpoint directory, or config.json is not one that this version wrote.
        """
        files.recover(self.path)
        if not self.path.is_dir():
            raise RaectlError(f"{self.path}: no such directory", "raectl train --data SOURCE --out DIR makes one")
        if not self.config.is_file():
            raise RaectlError(
                f"{self.path} is no checkpoint directory: it has no config.json", "raectl train --out DIR makes one"
            )
        record = files.read_json(self.config)
        schema = record.get("schema") if isinstance(record, dict) else None
        if schema != SCHEMA:
            newer = isinstance(schema, int) and schema > SCHEMA
            hint = "a newer raectl wrote it: update raectl" if newer else "it was not written by raectl"
            raise RaectlError(f"{self.config} has schema version {schema!r}, not {SCHEMA}", hint)
        try:
            if "->" not in (record["config"].get("grammar") or "->"):  # a name or a path is for who types it
                raise ValueError("the grammar is no text of one")
            config = Config.from_dict(record["config"])
            if None in (config.latent_dim, config.arch, config.beta):
                raise ValueError("an option without a value")
            return config, DataSummary.from_dict(record["data"]), record
        except (KeyError, TypeError, ValueError, AttributeError, RaectlError) as error:
            raise RaectlError(f"{self.config} is damaged: {error}", "restore it from a copy") from error

    def write_config(self, config: Config, data: DataSummary, weights: dict[str, Any], threads: int) -> None:
        """Write config.json; `weights` is {"sha256": of the weights, "replaces": of those they replace or None}."""
        import torch

        record = {
            "schema": SCHEMA,
            "raectl": raectl.__version__,
            "config": config.to_dict(),
            "data": asdict(data),
            "weights": weights,
            "environment": {"python": platform.python_version(), "torch": torch.__version__, "threads": threads},
        }
        files.write_json(self.config, record)

    def publish(
        self, config: Config, data: DataSummary, arrays: Mapping[str, np.ndarray], epoch: int, threads: int
    ) -> None:
        """Write config.json and the weights for use, such that the directory is whole in between as well."""
        former = files.file_digest(self.model) if self.model.exists() else None
        with files.atomic_file(self.model) as temporary:
            files.dump_arrays(temporary, arrays, {"epoch": str(epoch)})
            weights = {"sha256": files.file_digest(temporary), "replaces": former}
            self.write_config(config, data, weights, threads)

    def read_weights(self, record: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], int, str]:
        """The weights for use, the epoch they are of, and their SHA-256.

        Raises:
            RaectlError: they are missing, damaged, or not the ones that config.json belongs to.
        """
        digest = files.file_digest(self.model)
        weights = record.get("weights")
        if not isinstance(weights, dict) or digest not in (weights.get("sha256"), weights.get("replaces")):
            raise RaectlError(
                f"{self.model} is not the file that {self.config.name} belongs to: their digests differ",
                "restore both from a copy",
            )
        arrays, metadata = files.read_arrays(self.model)
        return arrays, int(metadata["epoch"]), digest

    def read_log(self) -> list[dict[str, Any]]:
        """The epochs' lines; what a killed process left unfinished, or anything else that is none, is dropped."""
        return [line for line in _json_lines(self.log) if _is_epoch(line)]

    def cut_log(self, epochs: int) -> None:
        """Keep the lines of the first `epochs` epochs: what comes after them will be run again."""
        kept = [line for line in self.read_log() if line["epoch"] <= epochs]
        files.write_text(self.log, "".join(json.dumps(line) + "\n" for line in kept))

    def append_log(self, line: Mapping[str, Any]) -> None:
        """Add one epoch's line."""
        with files.describing_os_errors(self.log), open(self.log, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")

    def append_metrics(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add a line per measured number, with how it was measured, where the directory can be written to."""
        with contextlib.suppress(OSError), open(self.metrics, "a", encoding="utf-8") as file:
            file.write("".join(json.dumps(record, allow_nan=False) + "\n" for record in records))

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, anything else dropped."""
        return [line for line in _json_lines(self.metrics) if isinstance(line, dict) and set(line) >= _MEASURED]


def _json_lines(path: Path) -> Iterator[Any]:
    """What each line of a file holds, if it is JSON; nothing if there is no file."""
    if not path.exists():
        return
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            yield json.loads(text)


def _is_epoch(line: Any) -> bool:
    """Whether a line of log.jsonl is an epoch's: with the fields that are read again, of their types."""
    if not isinstance(line, dict) or not set(line) >= _LOGGED or type(line["epoch"]) is not int:
        return False
    terms = [line["train"], *([] if line["validation"] is None else [line["validation"]])]
    return all(isinstance(t, dict) and isinstance(t.get("loss"), int | float) for t in terms) and isinstance(
        line["seconds"], int | float
    )


def visible(path: Path) -> set[Path]:
    """The entries of a directory, those aside that a file manager or an editor hides there."""
    return {entry for entry in path.iterdir() if not entry.name.startswith(".")}
