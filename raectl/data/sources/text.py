"""Text files: `.txt` with a string a line, `.smi` with a molecule a line, and folders of them."""

import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar, TextIO

from raectl.data import limits
from raectl.data.base import Source
from raectl.data.dataset import Dataset
from raectl.data.options import DataOptions
from raectl.data.sources.strings import Line, Lines, open_strings
from raectl.errors import RaectlError
from raectl.grammars.parser import LONGEST
from raectl.progress import Progress
from raectl.storage.arrays import file_digest
from raectl.storage.cache import digest, file_state

_MARK = "\u00ef\u00bb\u00bf"  # of UTF-8
_LARGEST = 4 * LONGEST + 2  # bytes of a line that are read: a character has at most four in UTF-8


class Text(Source):
    """A UTF-8 `.txt` file with one string a line. An empty line is the empty string, which most grammars reject."""

    suffix: ClassVar[str] = ".txt"
    version: ClassVar[str] = "txt, 5"  # part of the cache key, changed when a file gives other strings or messages
    grammar: ClassVar[str | None] = None  # name of the default grammar
    first: ClassVar[bool] = False  # whether only the first word of a line counts, and blank lines do not

    @classmethod
    def recognises(cls, spec: str) -> bool:
        return limits.suffix(spec) == cls.suffix and Path(spec).is_file()

    def open(self, spec: str, options: DataOptions, progress: Progress) -> Dataset:
        path = limits.absolute(spec)
        lines = Lines(
            source=str(path),
            state=digest(self.version, file_state(path)),
            content=lambda: digest(self.version, file_digest(path)),
            files={"": lambda: _read(path, self.first)},
            grammar=self.grammar,
        )
        return open_strings(lines, options, progress)


class Smi(Text):
    """A `.smi`, a molecule a line: its SMILES, then optionally a space or a tab and a name, which is ignored."""

    suffix = ".smi"
    version = "smi, 6"
    grammar = "smiles"
    first = True


class Texts(Source):
    """A folder of `.txt` files, or of `.smi` files, and of nothing else: each file is a class, called like it."""

    @classmethod
    def recognises(cls, spec: str) -> bool:
        return Path(spec).is_dir() and _kind_of(spec) is not None

    def open(self, spec: str, options: DataOptions, progress: Progress) -> Dataset:
        folder, kind = limits.absolute(spec), _kind_of(spec)
        assert kind is not None
        paths = sorted(path for path in folder.iterdir() if not limits.is_litter(path.name))
        counts = Counter(path.stem for path in paths)
        lines = Lines(
            source=str(folder),
            state=digest(kind.version, *(f"{path.name} {file_state(path)}" for path in paths)),
            content=lambda: digest(kind.version, *(f"{path.name} {file_digest(path)}" for path in paths)),
            files={
                path.stem if counts[path.stem] == 1 else path.name: partial(_read, path, kind.first) for path in paths
            },
            grammar=kind.grammar,
        )
        return open_strings(lines, options, progress)


def _kind_of(folder: str) -> type[Text] | None:
    """The kind of text that all entries of a folder are; None if they are of several kinds, or of others."""
    found: set[type[Text]] = set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if limits.is_litter(entry.name):
                    continue
                kind = next((kind for kind in (Text, Smi) if kind.recognises(entry.path)), None)
                if kind is None or found - {kind}:
                    return None
                found.add(kind)
    except OSError:
        return None  # the folder source reports the error
    return found.pop() if found else None


def _read(path: Path, first: bool = False) -> Iterator[Line | None]:
    """The string of each line, or with `first` its first word, None for a blank line; in bounded memory."""
    try:
        # Latin-1 has a character for each byte; lines may end as on Windows, Unix, or the old Macintosh.
        with open(path, encoding="latin-1", newline=None) as file:
            if file.read(len(_MARK)) != _MARK:
                file.seek(0)
            while part := _part(file):
                line = part.lstrip() if first else part
                while not part.endswith(b"\n") and (part := _part(file)):
                    line = (line + part)[:_LARGEST]
                    line = line.lstrip() if first else line
                words = line.split(None, 1) if first else [line]
                yield _text(words[0]) if words else None
    except OSError as error:
        raise RaectlError(f"cannot read {limits.shown(str(path))}: {error.strerror or error}") from error


def _part(file: TextIO) -> bytes:
    """The next line, or a part of one that is too long."""
    return file.readline(_LARGEST).encode("latin-1")


def _text(line: bytes) -> Line:
    line = line.removesuffix(b"\n")
    if len(line) > 4 * LONGEST:
        return "", f"longer than {LONGEST:,} characters"
    try:
        return line.decode("utf-8"), None
    except UnicodeDecodeError:
        return "", "not UTF-8 text: save it as UTF-8"
