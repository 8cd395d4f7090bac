"""Latents of any encoder from a file: a `.npy` or a `.npz`. Pickles are refused."""

import zipfile
from pathlib import Path

import numpy as np

from raectl.data import limits
from raectl.data.labels import Labels, from_array
from raectl.densities.latents.checks import as_latents
from raectl.errors import RaectlError, UsageError

FEWEST = 3  # latents: two to fit to, one held out
_KNOWN = ("z", "latents")  # names of the array among others
_LABELS = "labels"
_NAMED = 10  # arrays of a file that a message names
_LINES = {  # what makes an array z of a file of another kind
    ".csv": "numpy.loadtxt({file}, delimiter=',', ndmin=2)",
    ".txt": "numpy.loadtxt({file}, delimiter=',', ndmin=2)",
    ".tsv": "numpy.loadtxt({file}, delimiter='\\t', ndmin=2)",
    ".pt": "torch.load({file}, map_location='cpu').detach().numpy()",
    ".pth": "torch.load({file}, map_location='cpu').detach().numpy()",
}


def read_latents(path: str | Path) -> np.ndarray:
    """Latents from a file: (N, d) numbers.

    Arguments:
        path: a `.npy`, or a `.npz` of one array, or with one called `z` or `latents`.

    Returns:
        (N, d) float32, or float64 for types that it does not hold; memory-mapped if the file allows it.

    Raises:
        RaectlError: the file is missing, damaged, or holds something else; a value is not finite.
    """
    path = Path(path)
    array, expression = _load(path)
    if trouble := _trouble(array):
        wrong, cure = trouble
        what = f"it holds {wrong}, of type {array.dtype} and shape {array.shape}"
        message = f"{path} holds no (N, d) array of numbers with N at least {FEWEST}: {what}"
        raise RaectlError(message, cure and _save(path, cure.format(z="z"), expression))
    exact = array.dtype.itemsize > 4 or (array.dtype.kind in "iu" and array.dtype.itemsize == 4)
    z = np.asarray(array, dtype=np.float64 if exact else np.float32)
    try:
        as_latents(z)  # before a part is held out, so that rows are those of the file
    except RaectlError as error:
        hint = "the encoder may have diverged; without these rows: "
        raise RaectlError(
            f"{path}: {error.message}", hint + _save(path, "z[(abs(z) <= 1e18).all(axis=1)]", expression)
        ) from error
    return z


def read_labels(path: str | Path, count: int) -> Labels:
    """The classes of `count` latents: the array `labels` beside them.

    Raises:
        UsageError: the file has none.
        RaectlError: they are no labels, or not as many.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as loaded:
            labels = loaded[_LABELS]
    except ValueError as error:
        message = f"--per-class: the labels in {path} are Python objects, which are refused"
        raise UsageError(message, "labels=y.astype(str), or astype(int), before numpy.savez") from error
    except Exception as error:  # no archive, no such array
        message = f"--per-class: {path} has no array {_LABELS!r} beside the latents"
        raise UsageError(message, "numpy.savez('z.npz', z=z, labels=labels) makes a file of both") from error
    return from_array(labels, count, limits.shown(str(path)))


def _load(path: Path) -> tuple[np.ndarray, str]:
    """The array of a file, and the Python expression that reads it."""
    expression = f"numpy.load({str(path)!r})"
    try:
        with path.open("rb") as file:  # which NumPy leaves open if it is given the path of a damaged archive
            if file.read(2) != b"PK":
                array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
                return array, expression
            file.seek(0)
            with np.load(file, allow_pickle=False) as loaded, zipfile.ZipFile(path) as archive:
                limits.refuse_bomb(path, max((info.file_size for info in archive.infolist()), default=0))
                name = _only_array(path, loaded.files, archive.namelist())
                return np.asarray(loaded[name]), f"{expression}[{name!r}]"
    except RaectlError:
        raise
    except OSError as error:
        raise RaectlError(f"cannot read latents from {path}: {error.strerror or error}", _how(path)) from error
    except Exception as error:  # NumPy raises nearly anything on a damaged file
        raise RaectlError(f"cannot read latents from {path}: {_damage(path, error)}", _how(path)) from error


def _damage(path: Path, error: Exception) -> str:
    """What is wrong with a file that NumPy does not read."""
    with path.open("rb") as file:
        head = file.read(6)
    if "Object arrays" in str(error) or "Python objects" in str(error):
        return "it holds Python objects, which are refused"
    if head.startswith((b"\x93NUMPY", b"PK")):
        return "it is cut short or damaged"
    return "it is no .npy file of numbers"


def _only_array(path: Path, names: list[str], files: list[str]) -> str:
    """The name of the only array of an archive, or of the one called `z` or `latents`, given its names and files."""
    arrays = [name for name in names if f"{name}.npy" in files]
    known = [name for name in arrays if name in _KNOWN] or arrays
    if len(known) == 1:
        return known[0]
    listed = ", ".join(map(limits.shown, (arrays or files)[:_NAMED])) or "nothing"
    listed += ", ..." if len(arrays or files) > _NAMED else ""
    if not arrays:
        if any(name.endswith("/data.pkl") for name in files):
            what, how = "torch.save has written it", _how(path, ".pt")
        else:
            what, how = f"it is an archive that holds no array, but {listed}", _how(path)
        raise RaectlError(f"cannot read latents from {path}: {what}", how)
    message = f"cannot tell which of its arrays are the latents: {path} holds {listed}"
    raise RaectlError(message, _save(path, "z", f"numpy.load({str(path)!r})[{arrays[0]!r}]"))


def _trouble(array: np.ndarray) -> tuple[str, str] | None:
    """What an array is that holds no latents, and the expression that makes latents of it, or "" if none does."""
    shape, kind = array.shape, array.dtype.kind
    if kind == "b":
        return "true and false", "{z}.astype(float)"
    if kind == "c":
        return "complex numbers", "numpy.hstack([{z}.real, {z}.imag])"
    if kind not in "fiu":
        return "no numbers", ""
    if array.size == 0 or array.ndim == 0:
        return "no rows of numbers", ""
    if array.ndim == 1:
        return "one number a row" if len(array) >= FEWEST else "too few numbers", "{z}.reshape(len({z}), -1)"
    if array.ndim > 2:
        one = shape[0] == 1 and array.ndim == 3  # a batch of one batch
        return "an array of more than two dimensions", "{z}[0]" if one else "{z}.reshape(len({z}), -1)"
    if len(array) < FEWEST:
        return f"{len(array)} latent{'' if len(array) == 1 else 's'}, too few to hold one out and fit to the rest", ""
    return None


def _save(path: Path, value: str, expression: str) -> str:
    """The lines of Python that write latents next to a file."""
    out = path.with_name(f"{path.stem}-latents.npy")
    return f"z = {expression}; numpy.save({str(out)!r}, {value})"


def _how(path: Path, kind: str | None = None) -> str:
    """How a file of latents is made, of a file of this kind, by default that of its suffix."""
    if line := _LINES.get(kind or path.suffix.lower()):
        return f"numpy.save('z.npy', {line.format(file=repr(str(path)))}) makes one"
    return "numpy.save('z.npy', z) with z an (N, d) array writes one"
