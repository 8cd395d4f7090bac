"""Checkpoint directories that mean no good: a builder a kind, which changes a copy of a whole one.

Whoever makes one knows raectl: where a digest would give the change away, it is put right.
"""

import contextlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save

from raectl.checkpoint.directory import encoder_digest
from raectl.errors import RaectlError
from raectl.storage.arrays import file_digest, read_arrays, write_arrays
from support.checkpoints import edit, flip_value

INFO, SAMPLE, RESUME, FIT = "info", "sample", "resume", "fit"
ALL = {INFO, SAMPLE, RESUME, FIT}
WEIGHTS, STATE, DENSITY = "model.safetensors", "training.safetensors", "densities/gmm-2/density.safetensors"
CANARY = "canary"  # the file that code in a checkpoint would make, in the working directory


class Kind(NamedTuple):
    """What is done to the directory, and which commands then refuse it; the others work as ever."""

    build: Callable[[Path], Any]
    refused: set[str]


KINDS: dict[str, Kind] = {}


def kind(name: str, refused: set[str], build: Callable[[Path], Any]) -> None:
    assert name not in KINDS
    KINDS[name] = Kind(build, refused)


# -- means -----------------------------------------------------------------------------------------------------------


def config(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    return lambda path: edit(path / "config.json", change)


def density(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    return lambda path: edit(path / "densities" / "gmm-2" / "density.json", change)


def content(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: (path / name).write_bytes(change((path / name).read_bytes())) and None


def put_digests_right(path: Path) -> None:
    digest = file_digest(path / WEIGHTS)
    edit(path / "config.json", lambda r: r["weights"].update(sha256=digest))
    for entry in (path / "densities").iterdir():
        digest = file_digest(entry / "density.safetensors")
        edit(entry / "density.json", lambda r, digest=digest: r.update(arrays=digest))
        with contextlib.suppress(RaectlError):  # weights that cannot be read have no encoder
            encoder = encoder_digest(read_arrays(path / WEIGHTS, Any)[0])
            edit(entry / "density.json", lambda r, encoder=encoder: r.update(encoder=encoder))


def arrays(name: str, change: Callable[[dict[str, np.ndarray]], Any]) -> Callable[[Path], None]:
    """A file of arrays with others in it, and digests that are right."""

    def build(path: Path) -> None:
        held, metadata = read_arrays(path / name, Any)
        held = {key: array.copy() for key, array in held.items()}
        change(held)
        write_arrays(path / name, held, metadata)
        put_digests_right(path)

    return build


def metadata(name: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def build(path: Path) -> None:
        held, said = read_arrays(path / name, Any)
        change(said)
        write_arrays(path / name, held, said)
        put_digests_right(path)

    return build


def position(**changes: Any) -> Callable[[Path], None]:
    def change(said: dict[str, str]) -> None:
        said.update(changes)

    return metadata(STATE, change)


def replaced(name: str, make: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Something else under one of the directory's names."""

    def build(path: Path) -> None:
        if (path / name).is_dir():
            shutil.rmtree(path / name)
        else:
            (path / name).unlink(missing_ok=True)
        make(path / name)

    return build


def linked(name: str) -> Callable[[Path], None]:
    """A link to the same content outside of the directory."""

    def build(path: Path) -> None:
        outside = path.parent / "outside"
        (path / name).rename(outside)
        (path / name).symlink_to(outside)

    return build


def written(name: str, text: str | bytes) -> Callable[[Path], None]:
    return lambda path: (path / name).write_bytes(text if isinstance(text, bytes) else text.encode()) and None


def sparse(name: str, size: int) -> Callable[[Path], None]:
    """A file whose header is true, of a size that nobody's memory has: one array of zeros, which take no disk."""

    def build(path: Path) -> None:
        header = json.dumps({"x": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
        with open(path / name, "wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            file.truncate(8 + len(header) + size)

    return build


class Bomb:
    """A pickle of it makes the canary when it is loaded."""

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (CANARY, "w")


def first(held: dict[str, np.ndarray]) -> str:
    return next(name for name in held if held[name].ndim > 1)


def set_value(value: float) -> Callable[[dict[str, np.ndarray]], None]:
    def change(held: dict[str, np.ndarray]) -> None:
        held[first(held)].flat[0] = value

    return change


def reshape(held: dict[str, np.ndarray]) -> None:
    held[first(held)] = held[first(held)][..., :-1]


def retype(held: dict[str, np.ndarray]) -> None:
    held[first(held)] = held[first(held)].astype(np.float16)


# -- bytes -----------------------------------------------------------------------------------------------------------

for _name, _refused in ((WEIGHTS, ALL), (STATE, {RESUME}), (DENSITY, {SAMPLE})):
    kind(f"{_name}: cut short", _refused, content(_name, lambda c: c[: len(c) // 2]))
    kind(f"{_name}: a bit flipped", _refused, content(_name, flip_value))
    kind(f"{_name}: empty", _refused, written(_name, b""))
    kind(f"{_name}: a pickle", _refused, written(_name, pickle.dumps(Bomb())))
    kind(f"{_name}: a huge header", _refused, content(_name, lambda c: (2**62).to_bytes(8, "little") + c[8:]))
    kind(f"{_name}: terabytes of zeros", _refused, sparse(_name, 2**42))
    kind(f"{_name}: a pipe", ALL, replaced(_name, os.mkfifo))
    kind(f"{_name}: a device", ALL, replaced(_name, lambda p: p.symlink_to("/dev/zero")))
    kind(f"{_name}: a directory", ALL, replaced(_name, Path.mkdir))
    kind(f"{_name}: a link out", ALL, linked(_name))

kind("config.json: a pipe", ALL, replaced("config.json", os.mkfifo))
kind("config.json: a link to a device", ALL, replaced("config.json", lambda p: p.symlink_to("/dev/zero")))
kind("config.json: a link in a circle", ALL, replaced("config.json", lambda p: p.symlink_to("config.json")))
kind("log.jsonl: a link to one's start-up file", ALL, linked("log.jsonl"))
kind("README.md: a directory", ALL, replaced("README.md", Path.mkdir))
kind("latents: a link to other models", ALL, linked("latents"))
kind("densities: a link out", ALL, linked("densities"))
kind("densities/gmm-2: a link out", ALL, linked("densities/gmm-2"))
kind("samples: a file", ALL, replaced("samples", Path.touch))
kind("the lock: a pipe", ALL, replaced(".raectl.lock", os.mkfifo))
kind("the lock: a link", ALL, replaced(".raectl.lock", lambda p: p.symlink_to(p.parent.parent / "outside")))
kind("the lock: gibberish", set(), written(".raectl.lock", b"\xff" * 10_000))

# -- JSON ------------------------------------------------------------------------------------------------------------

_CONFIG = {
    "deep": "[" * 200_000,
    "huge": '{"schema": 3, "x": [' + "[]," * 6_000_000 + "[]]}",
    "of another kind": "[1, 2]",
    "no text": b"\xff\xfe\x00\x00",
    "NaN": '{"schema": NaN}',
    "an infinity": '{"schema": 2e999}',
    "a long number": '{"schema": ' + "9" * 4000 + "}",
}
for _name, _text in _CONFIG.items():
    kind(f"config.json: {_name}", ALL, written("config.json", _text))
kind("config.json: a field twice", ALL, content("config.json", lambda c: c.replace(b"{", b'{"schema": 3, ', 1)))

_EDITS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a newer version": lambda r: r.update(schema=99),
    "no configuration": lambda r: r.pop("config"),
    "an unknown option": lambda r: r["config"].update(colour=3),
    "an option's name of a megabyte": lambda r: r["config"].update({"x" * 2**20: 3}),
    "text for a number": lambda r: r["config"].update(latent_dim="4"),
    "a negative size": lambda r: r["config"].update(latent_dim=-4),
    "a negative side": lambda r: r["data"].update(shape=[-16, -16, 3]),
    "no items": lambda r: r["data"].update(n=0),
    "a billion latent dimensions": lambda r: r["config"].update(latent_dim=10**9),
    "a million filters": lambda r: r["config"].update(width=10**6),
    "an import path for a model": lambda r: r["config"].update(model="os:system"),
    "an import path for a regularizer": lambda r: r["config"].update(reg={"antigravity:fly": {}}),
    "an import path for a reconstruction term": lambda r: r["config"].update(reconstruction={"name": "os:system"}),
    "a reconstruction term without a name": lambda r: r["config"].update(reconstruction={"start": 0}),
    "a reconstruction term as a list": lambda r: r["config"].update(reconstruction=["l2"]),
    "an import path for an architecture": lambda r: r["config"].update(arch="raectl.cli.main:main"),
    "an import path for a modality": lambda r: r["data"].update(modality="../images"),
    "a list for a model": lambda r: r["config"].update(model=["rae"]),
    "data as a list": lambda r: r.update(data=[]),
    "a source with a zero byte": lambda r: r["data"].update(source="a\0b"),
    "a source that is no text": lambda r: r["data"].update(source="\ud800"),
    "data options of other types": lambda r: r["data"]["options"].update(image_size="large"),
    "a grammar that names a file": lambda r: r["data"]["options"].update(grammar="/etc/passwd"),
    "a number of rules of another type": lambda r: r["data"]["options"].update(max_productions="a"),
    "a negative number of rules": lambda r: r["data"]["options"].update(max_productions=-1),
    "weights as a list": lambda r: r.update(weights=[]),
    "other weights": lambda r: r["weights"].update(sha256="0" * 64, replaces=None),
    "escapes in a model's name": lambda r: r["config"].update(model="\x1b[2J\x1b]0;owned\x07 [bold red]rae[/] [/x]"),
}
for _name, _change in _EDITS.items():
    kind(f"config.json: {_name}", ALL, config(_change))

# info needs no torch and builds no model, so it does not compare options with weights
_NETWORKS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "all that is allowed": lambda r: r["config"].update(width=1024, latent_dim=4096),
    "another width": lambda r: r["config"].update(width=3),
    "another net": lambda r: r["config"].update(arch="mlp"),
    "another model": lambda r: r["config"].update(model="vae"),
    "another shape": lambda r: r["data"].update(shape=[8, 8, 3]),
    "a shape of two axes": lambda r: r["data"].update(shape=[16, 16]),
    "a reconstruction term for other items": lambda r: r["config"].update(reconstruction={"name": "cross-entropy"}),
    "text for a reconstruction term's option": lambda r: r["config"]["reconstruction"].update(start="\x1b[2J"),
    "a reconstruction term's unknown option": lambda r: r["config"]["reconstruction"].update(depth=3),
    "a reconstruction term's option out of range": lambda r: r["config"].update(reconstruction="l1,start=-1"),
    "a regularizer's unknown option": lambda r: r["config"]["reg"]["tikhonov"].update(depth=3),
    "a regularizer's option out of range": lambda r: r["config"].update(reg={"gradient-penalty": {"part": 2}}),
    "a list for a regularizer's option": lambda r: r["config"].update(reg={"gradient-penalty": {"form": []}}),
}
for _name, _change in _NETWORKS.items():
    kind(f"config.json: {_name}", ALL - {INFO}, config(_change))

for _name, _source in {
    "a device": "/dev/zero",
    "others' data": "{outside}",
    "nothing": "/no/such/folder",
    "an address": "https://example.org/images.zip",
    "escapes": "\x1b[31m[bold]imgs[/bold]\x1b]8;;https://example.org\x1b\\",
}.items():

    def _aim(path: Path, source: str = _source) -> None:
        outside = Path(shutil.copytree(json.loads((path / "config.json").read_text())["data"]["source"],
                                       path.parent / "outside"))  # fmt: skip
        next(outside.iterdir()).unlink()
        edit(path / "config.json", lambda r: r["data"].update(source=source.format(outside=outside)))

    kind(f"recorded data: {_name}", {RESUME, FIT}, _aim)

# -- weights and training states that contradict the rest -------------------------------------------------------------

# a run goes on from its training state alone, and writes the weights anew
kind("weights of another shape", {SAMPLE, FIT}, arrays(WEIGHTS, reshape))
kind("weights of another type", {SAMPLE, FIT}, arrays(WEIGHTS, retype))
kind("weights that are NaN", {SAMPLE, FIT}, arrays(WEIGHTS, set_value(np.nan)))
kind("weights that are infinite", {SAMPLE, FIT}, arrays(WEIGHTS, set_value(np.inf)))
kind("weights too many", {SAMPLE, FIT}, arrays(WEIGHTS, lambda held: held.update(more=np.zeros(3, np.float32))))
kind("weights too few", {SAMPLE, FIT}, arrays(WEIGHTS, lambda held: held.pop(first(held))))
kind("weights of no epoch", ALL, metadata(WEIGHTS, lambda said: said.update(epoch="-1")))
kind("a state of another shape", {RESUME}, arrays(STATE, reshape))
kind("a state of another type", {RESUME}, arrays(STATE, retype))
kind("a state that is NaN", {RESUME}, arrays(STATE, set_value(np.nan)))
kind("a state without moments of a weight", {RESUME}, arrays(STATE, lambda held: held.pop("optimizer.0/exp_avg")))
kind("a state with other sums", {RESUME}, arrays(STATE, lambda h: h.update({"epoch.sums": np.zeros(9)})))
kind("a state of groups unknown", {RESUME}, arrays(STATE, lambda held: held.update({"x.y": np.zeros(9)})))
kind("a state at a negative epoch", {RESUME}, position(epoch=-1))
kind("a state at an epoch that is text", {RESUME}, position(epoch="1"))
kind("a state with an unknown field", {RESUME}, position(colour=3))
kind("a state with no rate", {RESUME}, position(lr=0.0))
kind("a state of fewer steps than its epochs have", {RESUME}, position(step=1))
kind("a state whose best epoch is to come", {RESUME}, position(best_epoch=77))
kind("a state without an epoch", {RESUME}, metadata(STATE, lambda said: said.pop("epoch")))

# -- densities ---------------------------------------------------------------------------------------------------------

_DENSITIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "an import path for a kind": lambda r: r.update(kind="os:system"),
    "an unknown field": lambda r: r.update(colour=3),
    "order as text": lambda r: r.update(order="2"),
    "options as a list": lambda r: r.update(options=[]),
    "text for a likelihood": lambda r: r["nats_per_dimension"].update(train="\x1b[2J"),
    "no likelihood": lambda r: r["nats_per_dimension"].pop("train"),
    "a digest that is none": lambda r: r.update(arrays=None),
}
for _name, _change in _DENSITIES.items():
    kind(f"density.json: {_name}", {INFO, SAMPLE}, density(_change))
_OPTIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a billion components": lambda r: r["options"].update(components=10**9),
    "negative components": lambda r: r["options"].update(components=-2),
    "a list for a covariance": lambda r: r["options"].update(covariance=["full"]),
    "another kind": lambda r: r.update(kind="flow", options={"hidden": 10**6, "transforms": 10**6}),
    "another network": lambda r: r.update(kind="vae", options={"hidden": 10**6}),
}
for _name, _change in _OPTIONS.items():
    kind(f"density.json: {_name}", {SAMPLE}, density(_change))
kind("density.json: huge", {INFO, SAMPLE}, written("densities/gmm-2/density.json", " " * 5 * 2**20))
kind("density.json: none", {INFO, SAMPLE}, lambda path: (path / "densities" / "gmm-2" / "density.json").unlink())
kind("a density of singular covariances", {SAMPLE}, arrays(DENSITY, lambda h: h["covariances"].fill(0)))
kind("a density of negative weights", {SAMPLE}, arrays(DENSITY, lambda h: h["weights"].__imul__(-1)))
kind("a density that is NaN", {SAMPLE}, arrays(DENSITY, lambda h: h["means"].fill(np.nan)))
kind("a density of another dimension", {SAMPLE}, arrays(DENSITY, lambda h: h.update(
    means=h["means"][:, :3].copy(), covariances=h["covariances"][:, :3, :3].copy())))  # fmt: skip
kind("a density too few", {SAMPLE}, arrays(DENSITY, lambda h: h.pop("weights")))


def _climb(path: Path) -> None:
    (path / "densities" / "gmm-2").rename(path / "densities" / "..gmm\x1b[2J[bold]")


kind("a density with a name that climbs and colours", {SAMPLE}, _climb)

# -- what only looks like a checkpoint's -----------------------------------------------------------------------------

_LINE = {"epoch": 1, "train": {"loss": 1.0}, "validation": None, "seconds": 1}
LOGS = {
    "gibberish": b"\xff\xfe\x00[[[[\n" * 1000,
    "deep": b"[" * 200_000,
    "a line without an end": b"x" * 2**24,
    "NaN and more": b'{"epoch": 1, "train": {"loss": NaN}, "validation": null, "seconds": 1e999}\n',
    "numbers too long": json.dumps(_LINE).replace("1.0", "9" * 400).encode() + b"\n",
    "other types": json.dumps({**_LINE, "epoch": True, "train": {"loss": "low"}}).encode() + b"\n",
    "a list of lists": b"[" + b"[]," * 2**22 + b"[]]\n",
}
for _name, _lines in LOGS.items():
    kind(f"log.jsonl: {_name}", set(), written("log.jsonl", _lines))


def _false_latents(path: Path, shape: tuple[int, ...] = (3, 4)) -> None:
    """Codes kept under the right key, of no use to these data."""
    data = json.loads((path / "config.json").read_text())["data"]["fingerprint"]
    key = {"encoder": encoder_digest(read_arrays(path / WEIGHTS, Any)[0]), "data": data}
    name = f"{key['encoder'][:16]}-{key['data'][:16]}.safetensors"
    write_arrays(path / "latents" / name, {"z": np.zeros(shape, np.float32)}, key)


kind("kept latents of other shapes", set(), _false_latents)
kind("an interrupted write that is a link", set(), lambda p: (p / ".tmp-x").symlink_to(p.parent, True))


def _second_name(path: Path) -> None:
    (path.parent / "outside").write_text("mine")
    os.link(path.parent / "outside", path / ".tmp-new-log.jsonl")


kind("an interrupted write that is a second name of another file", set(), _second_name)
kind("weights with metadata of others", ALL, lambda p: ((p / WEIGHTS).write_bytes(
    save(read_arrays(p / WEIGHTS, Any)[0], {"raectl": "[]"})), put_digests_right(p)))  # fmt: skip
