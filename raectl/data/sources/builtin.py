"""The built-in sources: digits of scikit-learn, the Grammar VAE's expressions, the ZINC leads of MOSES."""

import csv
import gzip
import itertools
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np

from raectl.data import limits
from raectl.data.base import Source
from raectl.data.dataset import Dataset
from raectl.data.images.array import ImageArray, open_image_array
from raectl.data.options import DataOptions
from raectl.data.strings import Lines, open_strings
from raectl.errors import RaectlError
from raectl.progress import Progress
from raectl.storage.arrays import file_digest
from raectl.storage.cache import digest

_EXPRESSIONS_VERSION = digest("expressions", 1)
_EXPRESSIONS = 100_000
_LEAVES = ("x", "1", "2", "3")
_BRACKETS = ("(", "sin(", "exp(")
_MOSES = Path("moses", "dataset", "data", "train.csv.gz")


class Digits(Source):
    """`digits`: 1,797 handwritten ones of 8 x 8 pixels, with scikit-learn. (A folder of that name is `./digits`.)"""

    background: ClassVar[str] = "black"

    @classmethod
    def recognises(cls, spec: str) -> bool:
        return spec == "digits"

    def open(self, spec: str, options: DataOptions, progress: Progress) -> Dataset:
        from sklearn.datasets import load_digits

        loaded = load_digits()
        images = np.rint(loaded.images * (255 / 16)).astype(np.uint8)[..., None]  # 0 to 16 => 0 to 255
        classes = tuple(str(name) for name in loaded.target_names)
        labels = loaded.target.astype(np.int64)
        return open_image_array(ImageArray(images, spec, None, labels, classes), options, self.background, progress)


class Expressions(Source):
    """`expressions`: 100,000 expressions of one variable. (A folder of that name is `./expressions`.)"""

    @classmethod
    def recognises(cls, spec: str) -> bool:
        return spec == "expressions"

    def open(self, spec: str, options: DataOptions, progress: Progress) -> Dataset:
        lines = Lines(
            spec,
            _EXPRESSIONS_VERSION,
            lambda: _EXPRESSIONS_VERSION,
            lambda: ((text, None) for text in expressions()),
            spec,
        )
        return open_strings(lines, options, progress)


def expressions() -> Iterator[str]:
    """The data of Kusner, Paige, Hernández-Lobato, "Grammar Variational Autoencoder", ICML 2017, section 4.1.

    Line for line their file, which is the first 100,000 of an enumeration (no random sample of it):
    leaf operator leaf + U + V, with U a leaf or one in brackets, V a leaf or a leaf or a pair in brackets.

    Example:
        >>> next(expressions())
        'x+x+(x)+(x+x)'
    """
    pairs = [f"{a}{op}{b}" for op in "+*/" for a in _LEAVES for b in _LEAVES]
    first = [f"{bracket}{leaf})" for bracket in _BRACKETS for leaf in _LEAVES] + [*_LEAVES]
    second = [f"{bracket}{w})" for bracket in _BRACKETS for w in (*pairs, *_LEAVES)] + [*_LEAVES]
    return ("+".join(parts) for parts in itertools.islice(itertools.product(pairs, first, second), _EXPRESSIONS))


class Molecules(Source):
    """`molecules`: about 1.6 million SMILES of the package `molsets`. (A folder of that name is `./molecules`.)"""

    @classmethod
    def recognises(cls, spec: str) -> bool:
        return spec == "molecules"

    def open(self, spec: str, options: DataOptions, progress: Progress) -> Dataset:
        path = _find_molecules()
        lines = Lines(spec, digest(str(path), path.stat().st_size), lambda: file_digest(path),
                      lambda: _read_molecules(path), "smiles")  # fmt: skip
        return open_strings(lines, options, progress)


def _find_molecules() -> Path:
    """The file in the package, which is not imported: that would need a dozen others."""
    spec = find_spec("moses")
    path = Path(spec.origin).parents[1] / _MOSES if spec and spec.origin else None
    if path is None or not path.is_file():
        raise RaectlError("the molecules are not installed", "pip install --no-deps molsets")
    return path


def _read_molecules(path: Path) -> Iterator[tuple[str, str | None]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                yield row["SMILES"], None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise RaectlError(f"cannot read {limits.shown(str(path))}: {error}", "install molsets again") from error
