"""Class labels that stand beside the items: an array of them, or a `metadata.csv`."""

import csv
import io
import re
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np

from raectl.data import limits
from raectl.errors import RaectlError

METADATA = "metadata.csv"  # as on the Hugging Face hub: https://huggingface.co/docs/hub/datasets-image
LARGEST = 2**28  # bytes of a metadata.csv
_FILE, _LABEL = "file_name", "label"  # its columns
_FORMULA = re.compile(r"[=@]|[-+](?=[^\d.\s])")  # what a spreadsheet would compute when it opens the table
_NAMED = 5
_LONGEST = 200  # characters of a label
_BREAKS = ("Cc", "Zl", "Zp")  # Unicode's categories of control characters and ends of lines

Labels = tuple[np.ndarray, tuple[str, ...]]  # (N,) indices, and the names of the classes


def from_array(labels: np.ndarray, count: int, where: str) -> Labels:
    """Labels of `count` items: (N,) whole numbers or texts.

    Raises:
        RaectlError: they are something else, or not as many as items.
    """
    if labels.shape != (count,) or labels.dtype.kind not in "biuUS":
        found = f"of type {labels.dtype} and shape {labels.shape}"
        message = f"{where}: its labels are {found}, and no {count:,} whole numbers or texts"
        raise RaectlError(message, "a file without them, or with a label an image: labels=y.reshape(-1).astype(int)")
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "backslashreplace")
    values, indices = np.unique(labels, return_inverse=True)
    return indices.astype(np.int64), tuple(_checked(str(value), where) for value in values.tolist())


def from_folders(names: Sequence[str]) -> Labels | None:
    """The first folder of each path; None if some items are in none."""
    if not all("/" in name for name in names):
        return None
    classes, labels = np.unique([name.partition("/")[0] for name in names], return_inverse=True)
    return labels.astype(np.int64), tuple(classes.tolist())


def from_metadata(table: bytes, names: Sequence[str], where: str) -> Labels | str:
    """The labels that a `metadata.csv` gives for files, or in words why there are none.

    Arguments:
        names: of the files, relative to the folder of the table, with `/`.
        where: the table's path, for messages.

    Raises:
        RaectlError: it is damaged, or contradicts itself.
    """
    known = _rows(table, where)
    if known is None:
        return f"{where} has no columns {_FILE} and {_LABEL}: it was not used"
    # Pages and frames, such as `a.tif#12`, may be labelled by their file.
    of_names = {name: known.get(name, known.get(name.rpartition("#")[0])) for name in names}
    missing = [name for name, label in of_names.items() if label is None]
    if missing:
        listed = ", ".join(map(limits.shown, missing[:_NAMED])) + (", ..." if len(missing) > _NAMED else "")
        return f"{where} has no label for {len(missing):,} of {len(names):,} images, so it was not used: {listed}"
    classes, labels = np.unique([str(of_names[name]) for name in names], return_inverse=True)
    return labels.astype(np.int64), tuple(classes.tolist())


def _rows(table: bytes, where: str) -> Mapping[str, str] | None:
    """The label of each file, or None if the columns are others."""
    try:
        lines = csv.reader(io.StringIO(table.decode("utf-8-sig"), newline=""), strict=True)
        head = [cell.strip() for cell in next(lines, [])]
        if head.count(_FILE) != 1 or head.count(_LABEL) != 1:
            return None
        file, label = head.index(_FILE), head.index(_LABEL)
        found: dict[str, str] = {}
        for row in lines:
            if not row:
                continue
            if len(row) != len(head):
                raise ValueError(f"line {lines.line_num} has {len(row)} cells, the first {len(head)}")
            name, value = row[file].removeprefix("./").replace("\\", "/"), row[label].strip()
            if not value:  # not labelled yet
                continue
            if _FORMULA.match(_checked(value, where)):
                message = f"{where} has the label {value[:40]!r}, which a spreadsheet would run as a formula"
                raise RaectlError(message, "save the values instead of the formulas")
            if found.setdefault(name, value) != value:
                message = f"{where}: {limits.shown(name)} has two labels, {found[name]!r} and {value!r}"
                raise RaectlError(message, "one row a file")
        return found
    except (ValueError, csv.Error) as error:  # UnicodeDecodeError is a ValueError
        what = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error
        raise RaectlError(f"cannot read {where}: {what}", "save it as CSV in UTF-8, or move it elsewhere") from error


def _checked(label: str, where: str) -> str:
    """A label, if it is a short text of one line."""
    if not label or len(label) > _LONGEST or any(unicodedata.category(letter) in _BREAKS for letter in label):
        what = "an empty label" if not label else f"the label {label[:40]!r}, which is no short text"
        raise RaectlError(f"{where} has {what}", "a name of a line for each class")
    return label
