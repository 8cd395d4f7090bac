"""The checkpoint directory: what lies where, and the order of writes that keeps it whole at any moment.

    config.json            everything needed to rebuild the model, and the SHA-256 of the weights it belongs to
    model.safetensors      the weights for use: best validation loss, or the last while the reconstruction term changes
    training.safetensors   one consistent instant of the training run, in one file: its rename is the transaction
    items.safetensors      digests of the items trained on
    log.jsonl              a line per epoch, and per look at held-out images of the second phase
    metrics.jsonl          a line per measured number, with its protocol
    decoder-sharp.safetensors   a sharpened decoder, if there is one
    sharpening.safetensors      one consistent instant of the second phase of training, which makes it
    latents/               codes, and what typical items score, cached
    cross-fit/             models that score each part of the training data, see `raectl score`
    densities/ samples/ optimize/ README.md

`config.json` names the digest of the new weights and of those they replace, and is written before them, so that a
process killed between the two renames leaves a directory in which either file of weights is the right one.
"""

import contextlib
import json
import os
import platform
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypedDict, TypeVar

import numpy as np
from msgspec import Meta

from raectl._version import __version__
from raectl.checkpoint.summary import DataSummary
from raectl.config import Config
from raectl.errors import RaectlError, command
from raectl.storage import atomic, lock
from raectl.storage.arrays import Arrays, Layout, content_digest, dump_arrays, file_digest, read_arrays
from raectl.storage.records import RESTORE, Count, convert, read_lines, read_record, to_json

SCHEMA = 5
_EARLIER = {1: "raectl 0.1", **dict.fromkeys((2, 3, 4), "raectl 0.2 under development")}
SHARPENING = "sharpening"  # the second phase's name in log.jsonl
T = TypeVar("T")
_ATTEMPTS = 20  # at reading what a running `train` may be replacing; it does so once an epoch
_OF_DENSITY = ("density.json", "density.safetensors")
_OF_OPTIMIZATION = ("state.safetensors", "trace.jsonl", "best.txt", "plot.png")


class _Terms(TypedDict):
    loss: float


class _EpochLine(TypedDict):
    """The fields of an epoch's line of log.jsonl that are read again."""

    epoch: int
    train: _Terms
    validation: _Terms | None
    seconds: float


class _SharpeningLine(TypedDict):
    """Those of a line of the second phase."""

    phase: typing.Literal["sharpening"]
    step: int


class _MetricLine(TypedDict):
    """The fields of every line of metrics.jsonl."""

    metric: str
    value: float | None
    of: str


@dataclass(frozen=True)
class _Weights:
    sha256: str
    replaces: str | None


@dataclass(frozen=True)
class _Environment:
    python: str
    torch: str
    threads: int


@dataclass(frozen=True)
class _Epoch:
    """The record of model.safetensors."""

    epoch: Count


@dataclass(frozen=True)
class Ancestor:
    """A run whose weights another one began with: where it was, its weights' SHA-256 and epoch, and its data.

    Arguments:
        settled: whether its reconstruction term had come to its last form, and is the other run's.
    """

    checkpoint: str
    weights: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    epoch: Count
    source: str
    n: Count
    fingerprint: str
    settled: bool


@dataclass(frozen=True)
class ConfigRecord:
    """config.json.

    Arguments:
        schema, raectl: versions of the file's form, and of the program that wrote it.
        config: a `Config`.
        data: what the model was trained on.
        weights: SHA-256 of the weights for use, and of those that they replace.
        environment: versions of Python and PyTorch, and the number of threads.
        lineage: the runs that the weights at the start come from, the first one first; none for random ones.
    """

    schema: int
    raectl: str
    config: dict[str, Any]
    data: DataSummary
    weights: _Weights
    environment: _Environment
    lineage: tuple[Ancestor, ...] = ()

    def __post_init__(self) -> None:
        config = self.resolved
        if not config.is_resolved:
            raise ValueError("an option without a value")
        if config.grammar != self.data.options.grammar:
            raise ValueError("the grammar of the configuration is not that of the data")

    @cached_property
    def resolved(self) -> Config:
        """The configuration."""
        return Config.from_dict(self.config)


class _Entry:
    """The path of an entry of a directory, as an attribute of it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, directory: "Directory", kind: type) -> Path:
        return directory.path / self._name


@dataclass(frozen=True)
class Directory:
    """Paths of a checkpoint directory, and its reads and writes."""

    path: Path

    config = _Entry("config.json")
    model = _Entry("model.safetensors")
    training = _Entry("training.safetensors")
    items = _Entry("items.safetensors")
    sharp_decoder = _Entry("decoder-sharp.safetensors")
    sharpening = _Entry("sharpening.safetensors")
    log = _Entry("log.jsonl")
    metrics = _Entry("metrics.jsonl")
    model_card = _Entry("README.md")
    latents = _Entry("latents")
    densities = _Entry("densities")
    samples = _Entry("samples")
    optimize = _Entry("optimize")
    cross_fit = _Entry("cross-fit")

    def is_recognised(self) -> bool:
        """Whether this is a directory that raectl made: the only kind that it ever removes."""
        if self.is_densities_only() and any(visible(self.densities)):
            return True
        try:
            record = read_record(self.config, dict[str, Any])
        except RaectlError:
            return False
        return {"schema", "raectl", "config", "data", "weights"} <= set(record)

    def is_densities_only(self) -> bool:
        """Whether this is a directory made for latents of another encoder: it holds densities and no model."""
        if not self.densities.is_dir() or any(visible(self.path) - {self.densities}):
            return False
        return all((entry / "density.json").is_file() for entry in visible(self.densities))

    def require_own(self) -> None:
        """Raise if an entry is a link out of the directory, through which other files would be read or written, or has
        the wrong type."""
        home = self.path.resolve()
        plain = [
            self.config,
            self.model,
            self.training,
            self.items,
            self.sharp_decoder,
            self.sharpening,
            self.log,
            self.metrics,
            self.model_card,
            self.path / lock.NAME,
        ]
        folders = [self.latents, self.densities, self.samples, self.optimize, self.cross_fit]
        _require_inside(home, plain, folders)
        for folder, names in ((self.densities, _OF_DENSITY), (self.optimize, _OF_OPTIMIZATION), (self.cross_fit, ())):
            if folder.is_dir():
                folders = [entry for entry in visible(folder) if entry.is_symlink() or entry.is_dir()]
                _require_inside(home, [entry / name for entry in folders for name in names], folders)

    def read_consistently(self, read: Callable[[], T]) -> T:
        """What `read` gives; it is called again where a running `train` replaced files while it was reading."""
        for _ in range(_ATTEMPTS):
            before = self._state()
            try:
                result = read()
            except RaectlError:
                if self._state() == before:
                    raise
            else:
                if self._state() == before:
                    return result
        return read()

    def _state(self) -> list[tuple[int, int]]:
        states = []
        for path in (self.config, self.model, self.sharp_decoder):
            with contextlib.suppress(OSError):
                states.append((path.stat().st_ino, path.stat().st_mtime_ns))
        return states

    def read_config(self) -> ConfigRecord:
        """config.json.

        Raises:
            RaectlError: this is no checkpoint directory, or config.json is not one that this version wrote.
        """
        atomic.recover(self.path)
        if not self.path.is_dir():
            raise RaectlError(f"{self.path}: no such directory", "raectl train --data SOURCE --out DIR makes one")
        self.require_own()
        if not self.config.is_file():
            raise RaectlError(
                f"{self.path} is no checkpoint directory: it has no config.json", "raectl train --out DIR makes one"
            )
        values = read_record(self.config, dict[str, Any])
        schema = values.get("schema")
        if schema in (*_EARLIER,):
            who = _EARLIER[schema]
            raise RaectlError(f"{self.path} was written by {who}, which this version does not open: train it again")
        if schema != SCHEMA:
            newer = isinstance(schema, int) and schema > SCHEMA
            hint = "a newer raectl wrote it: update raectl" if newer else "it was not written by raectl"
            raise RaectlError(f"{self.config} has schema version {schema!r}, not {SCHEMA}", hint)
        try:
            return convert(values, ConfigRecord)
        except ValueError as error:
            raise RaectlError(f"{self.config} is damaged: {error}", RESTORE) from error

    def publish(
        self,
        config: Config,
        data: DataSummary,
        arrays: Arrays,
        epoch: int,
        threads: int,
        lineage: tuple[Ancestor, ...] = (),
    ) -> None:
        """Write config.json and the weights for use, such that the directory is whole in between as well."""
        import torch

        former = file_digest(self.model) if self.model.exists() else None
        environment = _Environment(platform.python_version(), str(torch.__version__), threads)
        with atomic.atomic_file(self.model) as temporary:
            dump_arrays(temporary, arrays, _Epoch(epoch))
            weights = _Weights(file_digest(temporary), former)
            record = ConfigRecord(SCHEMA, __version__, config.to_dict(), data, weights, environment, lineage)
            self.write_config(record)

    def write_config(self, record: ConfigRecord) -> None:
        """Write config.json."""
        atomic.write_json(self.config, to_json(record))

    def read_weights(self, record: ConfigRecord, layout: Layout | None = None) -> tuple[Arrays, int, str]:
        """The weights for use, the epoch they are of, and their SHA-256.

        Raises:
            RaectlError: they are missing, damaged, or not the ones that config.json belongs to.
        """
        arrays, weights = read_arrays(self.model, _Epoch, layout)
        digest = file_digest(self.model)
        if digest not in (record.weights.sha256, record.weights.replaces):
            message = f"{self.model} is not the file that {self.config.name} belongs to: their digests differ"
            raise RaectlError(message, "restore both from a copy")
        return arrays, weights.epoch, digest

    def read_log(self) -> list[dict[str, Any]]:
        """The epochs' lines; what a killed process left unfinished, or anything else that is none, is dropped."""
        return list(read_lines(self.log, _EpochLine))

    def read_sharpening_log(self) -> list[dict[str, Any]]:
        """The lines of the second phase of training; anything else is dropped."""
        return list(read_lines(self.log, _SharpeningLine))

    def cut_log(self, epochs: int | None = None, steps: int | None = None) -> None:
        """Keep the lines of the first `epochs` epochs and `steps` steps of the second phase, None for all."""
        first = [line for line in self.read_log() if epochs is None or line["epoch"] <= epochs]
        second = [line for line in self.read_sharpening_log() if steps is None or line["step"] <= steps]
        atomic.write_text(self.log, "".join(json.dumps(line) + "\n" for line in (*first, *second)))

    def append_log(self, line: Mapping[str, Any]) -> None:
        """Add one epoch's line, or one of the second phase."""
        with atomic.describing_os_errors(self.log):
            _append(self.log, [line])

    @contextlib.contextmanager
    def drawing(self) -> Iterator[None]:
        """Make the directory of pictures, for a block that writes there; an error that says so if it vanishes."""
        with atomic.describing_os_errors(self.samples):
            self.samples.mkdir(exist_ok=True)
        with atomic.staying(self.samples):
            yield

    def append_metrics(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add a line per measured number, with how it was measured.

        Raises:
            RaectlError: the disk refused, and the file is as it was.
        """
        with atomic.describing_os_errors(self.metrics):
            _append(self.metrics, records)

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, anything else dropped."""
        return list(read_lines(self.metrics, _MetricLine))


def _append(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Add lines, all or none; one that a kill left unfinished does not swallow the first of them."""
    text = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
    with open(path, "ab+", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(-1, os.SEEK_END)
            text = text if file.read(1) == b"\n" else "\n" + text
        left = memoryview(text.encode())
        try:
            while left:
                left = left[file.write(left) :]
        except OSError:
            file.truncate(end)
            raise


def _require_inside(home: Path, plain: Iterable[Path], folders: Iterable[Path]) -> None:
    for paths, is_right, kind in ((plain, Path.is_file, "file"), (folders, Path.is_dir, "directory")):
        for path in paths:
            if path.is_symlink() and not _leads_into(home, path):
                hint = f"if you trust it, copy it with what it links to: {command('cp', '-rL', home, 'COPY')}"
                raise RaectlError(f"{path} is a link out of the directory", hint)
            if os.path.lexists(path) and not is_right(path):
                raise RaectlError(f"{path} is no {kind}", "restore it from a copy")


def _leads_into(home: Path, link: Path) -> bool:
    try:
        return link.resolve().is_relative_to(home)
    except (OSError, RuntimeError):  # links in a circle
        return False


def encoder_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of what latents come from, among a model's arrays: encoder and code, parameters and buffers."""
    return content_digest({name: a for name, a in arrays.items() if name.startswith(("encoder.", "code."))})


def visible(path: Path) -> set[Path]:
    """The entries of a directory, those aside that a file manager or an editor hides there."""
    return {entry for entry in path.iterdir() if not entry.name.startswith(".")}
