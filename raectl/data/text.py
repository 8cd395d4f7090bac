"""Text files: strings, one a line, or molecules and their names."""

from collections.abc import Iterator
from pathlib import Path

from raectl import files
from raectl.data import rules
from raectl.data.base import Progress, Source
from raectl.data.dataset import Dataset
from raectl.data.options import DataOptions
from raectl.data.packing import digest
from raectl.data.strings import Lines, open_strings
from raectl.errors import RaectlError
from raectl.grammars.parser import LONGEST

Line = tuple[str, str | None]  # the string, and what is wrong with it

_LARGEST = 4 * LONGEST + 2  # bytes of a line that may be looked at: UTF-8 takes four a character at most


class Text(Source):
    """A `.txt` in UTF-8. An empty line is the empty string, which few grammars derive."""

    @classmethod
    def recognises(cls, spec: str) -> bool:
        return rules.suffix(spec) == ".txt" and Path(spec).is_file()

    def open(self, spec: str, options: DataOptions, progress: Progress) -> Dataset:
        path = rules.absolute(spec)
        lines = Lines(str(path), _state(path), lambda: files.file_digest(path), lambda: _read(path))
        return open_strings(lines, options, progress)


class Smi(Source):
    """A `.smi`: a molecule a line, its SMILES and, after a space or a tab, whatever else; the grammar is `smiles`."""

    @classmethod
    def recognises(cls, spec: str) -> bool:
        return rules.suffix(spec) == ".smi" and Path(spec).is_file()

    def open(self, spec: str, options: DataOptions, progress: Progress) -> Dataset:
        path = rules.absolute(spec)
        # The same bytes are other strings in a .txt.
        lines = Lines(str(path), _state(path), lambda: digest("smi", files.file_digest(path)),
                      lambda: map(_first, _read(path)), "smiles")  # fmt: skip
        return open_strings(lines, options, progress)


def _first(line: Line) -> Line:
    """What stands before the first space."""
    text, trouble = line
    return next(iter(text.split(maxsplit=1)), ""), trouble


def _state(path: Path) -> str:
    found = path.stat()
    return digest(str(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _read(path: Path) -> Iterator[Line]:
    """Each line without its end, and what is wrong with it; memory does not grow with a line."""
    try:
        with open(path, "rb") as file:
            mark = b"\xef\xbb\xbf"
            if file.read(len(mark)) != mark:
                file.seek(0)
            while line := file.readline(_LARGEST):
                trouble = None
                while not line.endswith(b"\n") and (rest := file.readline(_LARGEST)):
                    trouble, line = f"longer than {LONGEST:,} characters", rest
                try:
                    text = "" if trouble else line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
                except UnicodeDecodeError:
                    text, trouble = "", "no text in UTF-8"
                yield text, trouble
    except OSError as error:
        raise RaectlError(f"cannot read {rules.shown(str(path))}: {error.strerror or error}") from error
