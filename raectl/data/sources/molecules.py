"""The built-in molecules: the ZINC leads of MOSES, which come with the package `molsets`."""

import csv
import gzip
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from raectl.data import limits as rules
from raectl.data.base import Progress, Source
from raectl.data.dataset import Dataset
from raectl.data.options import DataOptions
from raectl.data.packing import digest
from raectl.data.strings import Lines, open_strings
from raectl.errors import RaectlError
from raectl.storage import files

_INSIDE = Path("moses", "dataset", "data", "train.csv.gz")


class Molecules(Source):
    """The source of the name `molecules`: about 1.6 million SMILES. (A folder of that name is `./molecules`.)"""

    @classmethod
    def recognises(cls, spec: str) -> bool:
        return spec == "molecules"

    def open(self, spec: str, options: DataOptions, progress: Progress) -> Dataset:
        path = _find()
        lines = Lines(spec, digest(str(path), path.stat().st_size), lambda: files.file_digest(path),
                      lambda: _read(path), "smiles")  # fmt: skip
        return open_strings(lines, options, progress)


def _find() -> Path:
    """The file in the package, which is not imported: that would need a dozen others."""
    spec = find_spec("moses")
    path = Path(spec.origin).parents[1] / _INSIDE if spec and spec.origin else None
    if path is None or not path.is_file():
        raise RaectlError("the molecules are not installed", "pip install --no-deps molsets")
    return path


def _read(path: Path) -> Iterator[tuple[str, str | None]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                yield row["SMILES"], None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise RaectlError(f"cannot read {rules.shown(str(path))}: {error}", "install molsets again") from error
