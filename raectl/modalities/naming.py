"""File names for a directory of items: safe on every system, unique, and like the items' names."""

import itertools
import re
import unicodedata
from collections.abc import Sequence

_EXTENSION = re.compile(r"\.[a-z][a-z0-9]{1,4}$", re.IGNORECASE)
_UNSAFE = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]')
_MAX_BYTES = 200  # file systems allow 255; the rest is for a number and the suffix


def file_names(names: Sequence[str], total: int, suffix: str) -> list[str]:
    """A file name for each of `total` items: `000000.png`, or the item's name without folders if names are given.

    Equal names, ignoring case, are numbered `-2`, `-3` and so on.

    Raises:
        ValueError: there are names, but not one per item.

    Example:
        >>> file_names((), 2, ".png")
        ['000000.png', '000001.png']
        >>> file_names(("a/b.jpg", "a_b.jpg", "../c"), 3, ".png")
        ['a_b.png', 'a_b-2.png', '_c.png']
    """
    if not names:
        width = max(6, len(str(total - 1)))
        return [f"{i:0{width}d}{suffix}" for i in range(total)]
    if len(names) != total:
        raise ValueError(f"{len(names)} names for {total} items")
    used: set[str] = set()
    return [_unique(_stem(name), used) + suffix for name in names]


def in_folders(folders: Sequence[str], names: Sequence[str]) -> list[str]:
    """File names in folders of these names, each in one that is safe as `file_names` has it; as they are without any.

    Example:
        >>> in_folders(("a:b", "c"), ("0.png", "1.png"))
        ['a_b/0.png', 'c/1.png']
    """
    if not folders:
        return list(names)
    used: set[str] = set()
    safe = {folder: _unique(_safe(folder), used) for folder in dict.fromkeys(folders)}
    return [f"{safe[folder]}/{name}" for folder, name in zip(folders, names, strict=True)]


def _stem(name: str) -> str:
    """`name` without its extension, safe."""
    return _safe(_EXTENSION.sub("", name))


def _safe(name: str) -> str:
    """`name` as one path component that is neither hidden nor too long nor empty."""
    encoded = name.encode("utf-8", "replace")
    # The end of a long name is kept: names in the same folder differ there.
    flat = _UNSAFE.sub("_", encoded[-_MAX_BYTES:].decode("utf-8", "ignore"))
    return flat.strip(" .") or "item"


def _unique(stem: str, used: set[str]) -> str:
    candidates = itertools.chain((stem,), (f"{stem}-{i}" for i in itertools.count(2)))
    name = next(c for c in candidates if _folded(c) not in used)
    used.add(_folded(name))
    return name


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
