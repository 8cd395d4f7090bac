"""The built-in sources: scikit-learn's digits, the expressions of the Grammar VAE, the molecules of MOSES."""

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
from raectl.data.sources.strings import Lines, open_strings
from raectl.errors import RaectlError
from raectl.progress import Progress
from raectl.storage.arrays import file_digest
from raectl.storage.cache import digest

_EXPRESSIONS = 100_000
_LEAVES = ("x", "1", "2", "3")
_BRACKETS = ("(", "sin(", "exp(")
_MOSES = Path("moses", "dataset", "data", "train.csv.gz")


class _BuiltIn(Source):
    """A source with a fixed name. (A folder of the name `digits` is opened as `./digits`.)"""

    name: ClassVar[str]

    @classmethod
    def recognises(cls, spec: str) -> bool:
        return spec == cls.name


class Digits(_BuiltIn):
    """`digits`: scikit-learn's 1,797 handwritten digits of 8 x 8 pixels."""

    name = "digits"
    background = "black"

    def open(self, spec: str, options: DataOptions, progress: Progress) -> Dataset:
        from sklearn.datasets import load_digits

        loaded = load_digits()
        images = np.rint(loaded.images * (255 / 16)).astype(np.uint8)[..., None]  # 0 to 16 => 0 to 255
        classes = tuple(str(name) for name in loaded.target_names)
        labels = loaded.target.astype(np.int64)
        return open_image_array(ImageArray(images, spec, None, labels, classes), options, self.background, progress)


class Expressions(_BuiltIn):
    """`expressions`: 100,000 expressions of one variable, see the function of this name."""

    name = "expressions"

    def open(self, spec: str, options: DataOptions, progress: Progress) -> Dataset:
        key = digest("expressions", 2)  # a version, to be changed when the cache entry would be another
        lines = Lines(spec, key, lambda: key, {"": lambda: ((text, None) for text in expressions())}, spec)
        return open_strings(lines, options, progress)


def expressions() -> Iterator[str]:
    """The data of Kusner, Paige, Hernández-Lobato, "Grammar Variational Autoencoder", ICML 2017, section 4.1.

    The same lines as in their file: the first 100,000 of an enumeration (not a random sample) of L op L + U + V, where
    L is a leaf, U a leaf or B L), V a leaf or B L) or B L op L), with B one of `(`, `sin(` and `exp(`.

    Example:
        >>> next(expressions())
        'x+x+(x)+(x+x)'
    """
    pairs = [f"{a}{op}{b}" for op in "+*/" for a in _LEAVES for b in _LEAVES]
    first = [f"{bracket}{leaf})" for bracket in _BRACKETS for leaf in _LEAVES] + [*_LEAVES]
    second = [f"{bracket}{w})" for bracket in _BRACKETS for w in (*pairs, *_LEAVES)] + [*_LEAVES]
    return ("+".join(parts) for parts in itertools.islice(itertools.product(pairs, first, second), _EXPRESSIONS))


class Molecules(_BuiltIn):
    """`molecules`: about 1.6 million SMILES from ZINC, in the package `molsets` (MOSES)."""

    name = "molecules"

    def open(self, spec: str, options: DataOptions, progress: Progress) -> Dataset:
        path = _find_molecules()
        state = digest(str(path), path.stat().st_size)
        lines = Lines(spec, state, lambda: file_digest(path), {"": lambda: _read_molecules(path)}, "smiles")
        return open_strings(lines, options, progress)


def _find_molecules() -> Path:
    """Path of the file in the package `moses`, which is not imported: it has many dependencies."""
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
