"""Fitted densities in a directory: `densities/NAME/density.safetensors` and `density.json`."""

import contextlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, TypedDict

from raectl import registry
from raectl.checkpoint.directory import Directory, visible
from raectl.checkpoint.latent_files import read_labels, read_latents
from raectl.data import split
from raectl.densities import Density
from raectl.densities.by_class.density import ByClass, arrays_of
from raectl.densities.by_class.fitting import fit_by_class
from raectl.densities.fitting import Fit, fit
from raectl.errors import RaectlError, UsageError, command
from raectl.progress import Progress
from raectl.storage.arrays import Arrays, dump_arrays, file_digest, read_arrays
from raectl.storage.atomic import atomic_directory, describing_os_errors, recover_all, remove_temporaries, write_json
from raectl.storage.lock import Lock
from raectl.storage.records import convert, read_record, to_json

_HELD_OUT = 0.1  # share of latents from a file by which a density is judged
_ROWS = ("real", "reconstruction", "interpolation", "prior")  # of evaluations, and of `sample`
_NAME = re.compile(r"[a-z0-9._-]+")


class _Fit(TypedDict):
    train: float | None
    held_out: float | None


class _Class(TypedDict):
    """The density of a class: what it was made with, and how many latents the class has."""

    name: str
    n: int
    options: dict[str, Any]


@dataclass(frozen=True)
class FittedDensity:
    """What density.json says of a fitted density.

    Arguments:
        name: of its directory.
        kind: registry name.
        options: what it was made with.
        seed: what it was fitted with.
        order: 1 for the first fitted in this directory, and so on.
        encoder: SHA-256 of the encoder whose latents it was fitted to, or None for latents from a file.
        latents: SHA-256 of the latents it was fitted to.
        arrays: SHA-256 of density.safetensors.
        nats_per_dimension: mean log-likelihood of the `train` and the `held_out` latents; None where there are none.
        progress: what the fit reported.
        bound: whether `nats_per_dimension` are lower bounds.
        classes: of a density a class, these, in the order of the arrays; else none.
    """

    name: str
    kind: str
    options: dict[str, Any]
    seed: int
    order: int
    encoder: str | None
    latents: str
    arrays: str
    nats_per_dimension: _Fit
    stats: dict[str, Any]
    bound: bool
    classes: list[_Class] = field(default_factory=list)

    def __post_init__(self) -> None:
        registry.check("density", self.kind)
        if len({part["name"] for part in self.classes}) != len(self.classes):
            raise ValueError("two of its classes have one name")


def check_name(name: str) -> str:
    """Return a density's name if it can be one, else raise a `UsageError`."""
    if name in _ROWS:
        raise UsageError(f"--name {name!r} is a row of `raectl evaluate` that is no density", f"--name my-{name}")
    if not _NAME.fullmatch(name) or name.startswith("."):
        raise UsageError(f"--name {name!r} is no name for a density", "use a-z, 0-9, '.', '_' and '-'")
    return name


def list_fitted(directory: Directory) -> list[FittedDensity]:
    """The densities of a directory, in the order in which they were fitted.

    Raises:
        RaectlError: a density.json is damaged.
    """
    directory.require_own()
    return sorted(map(_read, _entries(directory)), key=lambda density: density.order)


def _entries(directory: Directory) -> list[Path]:
    if not directory.densities.is_dir():
        return []
    recover_all(directory.densities)
    return [entry for entry in sorted(visible(directory.densities)) if entry.is_dir()]


def _next_order(directory: Directory) -> int:
    """One more than the highest; what is damaged does not count, so that it can be fitted again."""
    orders = [0]
    for entry in _entries(directory):
        with contextlib.suppress(RaectlError):
            orders.append(_read(entry).order)
    return 1 + max(orders)


def _read(path: Path) -> FittedDensity:
    hint = f"fit the density again, or remove it: {command('rm', '-r', path)}"
    values = read_record(path / "density.json", dict[str, Any], hint)
    if "report" in values:
        raise RaectlError(f"{path} was written by raectl 0.1, which this version does not open", hint)
    try:
        return convert({**values, "name": path.name}, FittedDensity)
    except ValueError as error:
        raise RaectlError(f"{path / 'density.json'} is damaged: {error}", hint) from error


def find(directory: Directory, wanted: str | None, *, by_class: bool = False) -> FittedDensity | None:
    """The density named `wanted`, or the only one of that kind; by default the last one fitted, or None.

    Arguments:
        by_class: whether the default is the last one by class, if there is any.

    Raises:
        RaectlError: there is none of that name or kind, or more than one of the kind.
    """
    present = list_fitted(directory)
    if wanted is None:
        preferred = [d for d in present if d.classes] if by_class else []
        return next(reversed(preferred or present), None)
    matches = [d for d in present if d.name == wanted] or [d for d in present if d.kind == wanted]
    if len(matches) == 1:
        return matches[0]
    names = ", ".join(d.name for d in matches or present) or "none"
    kind = ("--density", wanted) if wanted in registry.names("density") else ()
    if matches:
        raise UsageError(f"{directory.path} has more than one density of kind {wanted!r}", f"choose one of: {names}")
    raise RaectlError(f"{directory.path} has no density {wanted!r}; it has: {names}", _fit_again(directory, *kind))


def _fit_again(directory: Directory, *options: str) -> str:
    latents = ("--latents", "FILE.npy") if directory.is_densities_only() else ()
    return command("raectl", "fit-density", directory.path, *latents, *options)


def load(directory: Directory, entry: FittedDensity, encoder: str | None) -> Density:
    """A fitted density, from its arrays.

    Arguments:
        encoder: SHA-256 of the encoder whose latents it is to be used for.

    Raises:
        RaectlError: it was fitted to another encoder's latents, or its files are damaged.
    """
    options = [f"--{key}={entry.options[key]}" for key in ("components", "covariance") if entry.options.get(key)]
    options += ["--per-class"] if entry.classes else []
    again = _fit_again(directory, "--density", entry.kind, *options, "--name", entry.name)
    if entry.encoder != encoder:
        raise RaectlError(f"the density {entry.name} of {directory.path} was fitted to other weights", again)
    path = directory.densities / entry.name / "density.safetensors"
    arrays, _ = read_arrays(path, NoneType, hint=again)
    if file_digest(path) != entry.arrays:
        raise RaectlError(f"{path} is damaged: its digest differs from the one in density.json", again)
    try:
        density = _rebuilt(entry, arrays)
    except RaectlError as error:
        raise RaectlError(f"{path.parent} is damaged: {error.message}", again) from error
    return density


def _rebuilt(entry: FittedDensity, arrays: Arrays) -> Density:
    kind: type[Density] = registry.resolve("density", entry.kind)
    if not entry.classes:
        return kind.from_arrays(arrays, **entry.options)
    own = zip(entry.classes, arrays_of(arrays, len(entry.classes)), strict=True)
    parts = {part["name"]: kind.from_arrays(found, **part["options"]) for part, found in own}
    return ByClass(parts, [part["n"] for part in entry.classes])


def save(directory: Directory, fit: Fit, name: str | None = None, encoder: str | None = None) -> FittedDensity:
    """Write a fitted density, whole or not at all, in the place of one of the same name.

    Arguments:
        fit: the density, and what was measured of it.
        name: the directory's name; None for the fit's default.
        encoder: SHA-256 of the encoder whose latents it was fitted to; None for latents from a file.
    """
    name, density = check_name(name or fit.default_name), fit.density
    directory.require_own()
    with describing_os_errors(directory.densities):
        directory.densities.mkdir(exist_ok=True)
        remove_temporaries(directory.densities)
    order = _next_order(directory)
    with atomic_directory(directory.densities / name) as temporary:
        arrays = temporary / "density.safetensors"
        dump_arrays(arrays, density.to_arrays())
        entry = FittedDensity(
            name=name,
            kind=fit.kind,
            options=fit.options,
            seed=fit.seed,
            order=order,
            encoder=encoder,
            latents=fit.latents,
            arrays=file_digest(arrays),
            nats_per_dimension={"train": fit.train, "held_out": fit.held_out},
            stats=_finite({**density.stats, "notices": density.notices}),
            bound=density.log_prob_is_bound,
            classes=_classes(density) if isinstance(density, ByClass) else [],
        )
        record = to_json(entry)
        del record["name"]  # the directory's, which may be renamed
        write_json(temporary / "density.json", record)
    return entry


def _classes(density: ByClass) -> list[_Class]:
    own = zip(density.parts.items(), density.counts.tolist(), strict=True)
    return [{"name": name, "n": n, "options": part.settings} for (name, part), n in own]


def _finite(report: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN and no infinity: None stands for them."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in report.items()}


def fit_latents(
    path: str | Path,
    latents: str | Path,
    kind: str = "gmm",
    *,
    name: str | None = None,
    seed: int = 0,
    per_class: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Fit:
    """Fit a density to latents of any encoder, and keep it in a directory that holds only densities.

    Arguments:
        path: the directory; it is made, or was made by this function before.
        latents: a file as `read_latents` takes it; a tenth of them is held out.
        per_class: fit one to each class, by the array `labels` beside the latents in a `.npz`.
        kind, name, seed, progress, options: as in `Checkpoint.fit_density`.

    Raises:
        RaectlError: `path` is something else, another process writes there, or the latents do not suit.
    """
    if name is not None:
        check_name(name)
    directory = Directory(Path(path))
    is_new = not directory.path.exists() or _is_empty(directory.path)
    if not is_new and not directory.is_densities_only():
        raise RaectlError(f"{path} is no directory that holds densities only", "--latents needs a new directory")
    z = read_latents(latents)
    train, held_out = split(len(z), _HELD_OUT, seed)
    with Lock(directory.path, (progress or Progress()).note) as lock:
        if not is_new:
            lock.acquire()
        if per_class:
            labels, classes = read_labels(latents, len(z))
            own, others = ((z[rows], labels[rows]) for rows in (train, held_out))
            result = fit_by_class(kind, own, others, classes, seed=seed, progress=progress, **options)
        else:
            result = fit(kind, z[train], z[held_out], seed=seed, progress=progress, **options)
        with describing_os_errors(directory.path):
            directory.densities.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        save(directory, result, name)
    return result


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
