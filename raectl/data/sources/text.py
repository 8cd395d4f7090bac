"""Text files: `.txt` with a string a line, `.smi` with a molecule a line."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, TextIO

from raectl.data import limits
from raectl.data.base import Source
from raectl.data.dataset import Dataset
from raectl.data.options import DataOptions
from raectl.data.strings import Line, Lines, open_strings
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
            read=lambda: _read(path, self.first),
            grammar=self.grammar,
        )
        return open_strings(lines, options, progress)


class Smi(Text):
    """A `.smi`, a molecule a line: its SMILES, then optionally a space or a tab and a name, which is ignored."""

    suffix = ".smi"
    version = "smi, 6"
    grammar = "smiles"
    first = True


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
