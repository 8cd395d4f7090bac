"""Text files: strings, one a line, or molecules and their names."""

from collections.abc import Iterator
from pathlib import Path

from raectl.data import limits
from raectl.data.base import Source
from raectl.data.dataset import Dataset
from raectl.data.options import DataOptions
from raectl.data.strings import Lines, open_strings
from raectl.errors import RaectlError
from raectl.grammars.parser import LONGEST
from raectl.progress import Progress
from raectl.storage.arrays import file_digest
from raectl.storage.cache import digest

Line = tuple[str, str | None]  # the string, and what is wrong with it; a line without one does not count

_LARGEST = 4 * LONGEST + 2  # bytes of a line that may be looked at: UTF-8 takes four a character at most
# Parts of their keys: the same bytes are other strings in the other; go up when they are read or described otherwise.
_TXT, _SMI = "txt, 2", "smi, 3"


class Text(Source):
    """A `.txt` in UTF-8. An empty line is the empty string, which few grammars derive."""

    @classmethod
    def recognises(cls, spec: str) -> bool:
        return limits.suffix(spec) == ".txt" and Path(spec).is_file()

    def open(self, spec: str, options: DataOptions, progress: Progress) -> Dataset:
        path = limits.absolute(spec)
        lines = Lines(str(path), digest(_TXT, _state(path)), lambda: digest(_TXT, file_digest(path)),
                      lambda: _read(path))  # fmt: skip
        return open_strings(lines, options, progress)


class Smi(Source):
    """A `.smi`: a molecule a line, its SMILES and, after a space or a tab, whatever else; the grammar is `smiles`.

    Blank lines do not count.
    """

    @classmethod
    def recognises(cls, spec: str) -> bool:
        return limits.suffix(spec) == ".smi" and Path(spec).is_file()

    def open(self, spec: str, options: DataOptions, progress: Progress) -> Dataset:
        path = limits.absolute(spec)
        lines = Lines(str(path), digest(_SMI, _state(path)), lambda: digest(_SMI, file_digest(path)),
                      lambda: _read(path, first=True), "smiles")  # fmt: skip
        return open_strings(lines, options, progress)


def _state(path: Path) -> str:
    found = path.stat()
    return digest(str(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _read(path: Path, first: bool = False) -> Iterator[Line | None]:
    """Each line without its end, or what stands before its first space, and what is wrong with that; memory does not
    grow with a line. Where the first word is asked for, a blank line is None."""
    try:
        with open(path, "rb") as file:
            mark = b"\xef\xbb\xbf"
            if file.read(len(mark)) != mark:
                file.seek(0)
            while part := file.readline(_LARGEST):
                line = part.lstrip() if first else part
                while not part.endswith(b"\n") and (part := file.readline(_LARGEST)):
                    line = (line + part)[:_LARGEST]
                    line = line.lstrip() if first else line
                words = line.split(None, 1) if first else [line]
                yield _text(words[0]) if words else None
    except OSError as error:
        raise RaectlError(f"cannot read {limits.shown(str(path))}: {error.strerror or error}") from error


def _text(line: bytes) -> Line:
    line = line.removesuffix(b"\n").removesuffix(b"\r")
    if len(line) > 4 * LONGEST:
        return "", f"longer than {LONGEST:,} characters"
    try:
        return line.decode("utf-8"), None
    except UnicodeDecodeError:
        return "", "no text in UTF-8"
