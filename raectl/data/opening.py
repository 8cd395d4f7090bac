"""Open a SOURCE as a `Dataset`, by the first source of the registry that recognises it."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from raectl import registry
from raectl.data import limits
from raectl.data.base import Source
from raectl.data.dataset import Dataset
from raectl.data.options import DataOptions
from raectl.data.sources.arrays import Array
from raectl.errors import RaectlError, UsageError
from raectl.progress import Progress

_DEFAULTS = DataOptions()


def open_dataset(
    spec: str | Path | np.ndarray, options: DataOptions = _DEFAULTS, progress: Progress | None = None
) -> Dataset:
    """Open a folder, a zip, an array file, IDX files, a text file, a built-in name, or an array (N, H, W[, C]).

    Arguments:
        spec: the SOURCE; an array in memory has uint8 values, or others that a range is found for.
        options: how the items are brought to one shape.
        progress: receives updates while items are packed.

    Raises:
        UsageError: an option is out of its range, or `spec` of another type.
        RaectlError: the source does not exist, is of no known kind, or cannot be read.

    Example:
        >>> open_dataset(np.zeros((5, 16, 16), np.uint8)).items.shape
        (5, 16, 16, 1)
    """
    limits.check(options)
    progress = progress or Progress()
    if isinstance(spec, np.ma.MaskedArray):
        raise UsageError("a masked array has no values where it is masked", "x.filled(0) has 0 there")
    if isinstance(spec, np.ndarray):
        dataset = Array().open_array(spec, options, progress)
    elif isinstance(spec, (str, os.PathLike)):
        spec = os.fspath(spec)
        spec = spec if os.path.lexists(spec) else os.path.expanduser(spec)  # noqa: PTH111 (a name is no path yet)
        dataset = _kind(spec)().open(spec, options, progress)
    else:
        hint = "np.asarray(x), of shape N H W, N H W C or N C H W, makes one"  # type: ignore[unreachable]
        raise UsageError(f"a SOURCE is a name, a path or an array, not of type {type(spec).__name__}", hint)
    # `strict` applies to this call only: a checkpoint keeps the options to open other data.
    resolved = replace(dataset.options, max_bad=options.max_bad, strict=False, bands=options.bands)
    limits.check_bands(resolved, dataset.source)
    return replace(dataset, options=resolved)


def _kind(spec: str) -> type[Source]:
    if not spec:  # pathlib would take it for the working directory
        raise _unrecognised(spec)
    try:
        for name in registry.names("source"):
            source: type[Source] = registry.resolve("source", name)
            if source.recognises(spec):
                return source
    except (OSError, RuntimeError) as error:  # no permission, a name too long, links in a circle
        raise RaectlError(f"cannot read {limits.shown(spec)}: {getattr(error, 'strerror', None) or error}") from error
    raise _unrecognised(spec)


def _unrecognised(spec: str) -> RaectlError:
    kinds = (
        "a SOURCE is a folder of images, a .zip, .npy or .npz, a .tif of several pages, IDX files, a .txt of strings "
        "or .smi of molecules, one a line, a folder of such files, or digits, expressions or molecules"
    )
    if not os.path.lexists(spec):
        return RaectlError(f"{limits.shown(spec)} does not exist", kinds)
    if limits.is_image_name(spec):
        return RaectlError(f"{limits.shown(spec)} is a single image", "give the folder that it is in")
    return RaectlError(f"{limits.shown(spec)} is of no known kind", kinds)
