"""Fitted densities in a directory: `densities/NAME/density.safetensors` and `density.json`."""

import contextlib
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from raectl import registry
from raectl.checkpoint.directory import Directory, visible
from raectl.densities import Density
from raectl.errors import RaectlError, UsageError, command
from raectl.storage import files
from raectl.storage import strict_json as reading

_NAME = re.compile(r"[a-z0-9._-]+")
_TYPES: dict[str, tuple[type, ...]] = {
    "kind": (str,),
    "options": (dict,),
    "seed": (int,),
    "order": (int,),
    "weights": (str, NoneType),
    "latents": (str,),
    "arrays": (str,),
    "nats_per_dimension": (dict,),
    "report": (dict,),
    "bound": (bool,),
}


@dataclass(frozen=True)
class Stored:
    """What density.json says of a fitted density.

    Arguments:
        name: of its directory.
        kind: registry name.
        options: what it was made with.
        seed: what it was fitted with.
        order: 1 for the first fitted in this directory, and so on.
        weights: SHA-256 of the weights whose latents it was fitted to, or None for latents from a file.
        latents: SHA-256 of the latents it was fitted to.
        arrays: SHA-256 of density.safetensors.
        nats_per_dimension: mean log-likelihood of the `train` and the `held_out` latents; None where there are none.
        report: what the fit reported.
        bound: whether `nats_per_dimension` are lower bounds.
    """

    name: str
    kind: str
    options: dict[str, Any]
    seed: int
    order: int
    weights: str | None
    latents: str
    arrays: str
    nats_per_dimension: dict[str, float | None]
    report: dict[str, Any]
    bound: bool = False


def check_name(name: str) -> str:
    """Return a density's name if it can be one, else raise a `UsageError`."""
    if not _NAME.fullmatch(name) or name.startswith("."):
        raise UsageError(f"--name {name!r} is no name for a density", "use a-z, 0-9, '.', '_' and '-'")
    return name


def stored(directory: Directory) -> list[Stored]:
    """The densities of a directory, in the order in which they were fitted.

    Raises:
        RaectlError: a density.json is damaged.
    """
    directory.require_own()
    return sorted(map(_read, _entries(directory)), key=lambda density: density.order)


def _entries(directory: Directory) -> list[Path]:
    if not directory.densities.is_dir():
        return []
    files.recover_all(directory.densities)
    return [entry for entry in sorted(visible(directory.densities)) if entry.is_dir()]


def _next_order(directory: Directory) -> int:
    """One more than the highest; what is damaged does not count, so that it can be fitted again."""
    orders = [0]
    for entry in _entries(directory):
        with contextlib.suppress(RaectlError):
            orders.append(_read(entry).order)
    return 1 + max(orders)


def _read(path: Path) -> Stored:
    hint = f"fit the density again, or remove it: {command('rm', '-r', path)}"
    try:
        record = reading.read_json(path / "density.json")
    except RaectlError as error:
        raise RaectlError(error.message, error.hint or hint) from error
    try:
        density = Stored(name=path.name, **record)
        for name, kinds in _TYPES.items():
            if type(getattr(density, name)) not in kinds:
                raise TypeError(f"{name} has another type")
        for value in (density.nats_per_dimension["train"], density.nats_per_dimension["held_out"]):
            if type(value) not in (float, int, NoneType):
                raise TypeError("nats_per_dimension has another type")
        registry.check("density", density.kind)
    except (TypeError, KeyError, RaectlError) as error:
        trouble = error.message if isinstance(error, RaectlError) else error
        raise RaectlError(f"{path / 'density.json'} is damaged: {trouble}", hint) from error
    return density


def find(directory: Directory, wanted: str | None) -> Stored | None:
    """The density named `wanted`, or the only one of that kind; by default the last one fitted, or None.

    Raises:
        RaectlError: there is none of that name or kind, or more than one of the kind.
    """
    present = stored(directory)
    if wanted is None:
        return present[-1] if present else None
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


def load(directory: Directory, entry: Stored, weights: str | None) -> Density:
    """A fitted density, from its arrays.

    Arguments:
        weights: SHA-256 of the weights that it is to be used with.

    Raises:
        RaectlError: it was fitted to other weights, or its files are damaged.
    """
    options = [f"--{key}={entry.options[key]}" for key in ("components", "covariance") if entry.options.get(key)]
    again = _fit_again(directory, "--density", entry.kind, *options, "--name", entry.name)
    if entry.weights != weights:
        raise RaectlError(f"the density {entry.name} of {directory.path} was fitted to other weights", again)
    path = directory.densities / entry.name / "density.safetensors"
    files.read_shapes(path)  # a file that claims to be huge is not read through
    if files.file_digest(path) != entry.arrays:
        raise RaectlError(f"{path} is damaged: its digest differs from the one in density.json", again)
    arrays, _ = files.read_arrays(path)
    try:
        density: Density = registry.resolve("density", entry.kind).from_arrays(arrays, **entry.options)
    except RaectlError as error:
        raise RaectlError(f"{path.parent} is damaged: {error.message}", again) from error
    return density


def save(
    directory: Directory,
    name: str,
    kind: str,
    density: Density,
    *,
    seed: int,
    weights: str | None,
    latents: str,
    nats_per_dimension: dict[str, float | None],
) -> Stored:
    """Write a fitted density, whole or not at all, in the place of one of the same name."""
    check_name(name)
    directory.require_own()
    with files.describing_os_errors(directory.densities):
        directory.densities.mkdir(exist_ok=True)
        files.sweep(directory.densities)
    order = _next_order(directory)
    with files.atomic_directory(directory.densities / name) as temporary:
        arrays = temporary / "density.safetensors"
        files.dump_arrays(arrays, density.to_arrays(), {"kind": kind})
        entry = Stored(
            name=name,
            kind=kind,
            options=density.options,
            seed=seed,
            order=order,
            weights=weights,
            latents=latents,
            arrays=files.file_digest(arrays),
            nats_per_dimension=nats_per_dimension,
            report=_finite({**density.report, "notices": density.notices}),
            bound=density.log_prob_is_bound,
        )
        record = asdict(entry)
        del record["name"]  # the directory's, which may be renamed
        files.write_json(temporary / "density.json", record)
    return entry


def _finite(report: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN and no infinity: None stands for them."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in report.items()}
