"""The interface of a source: a class that recognises one kind of SOURCE and opens it."""

from abc import ABC, abstractmethod
from typing import ClassVar

from raectl.data.dataset import Dataset
from raectl.data.options import DataOptions
from raectl.progress import Progress


class Source(ABC):
    """One kind of SOURCE. A new kind is a subclass in its own file and a line in the registry."""

    background: ClassVar[str] = "white"  # default colour behind transparent pixels and around padded images

    @classmethod
    @abstractmethod
    def recognises(cls, spec: str) -> bool:
        """Whether `spec` is of this kind, by a cheap test: its name, its type on the disk, its first few bytes."""

    @abstractmethod
    def open(self, spec: str, options: DataOptions, progress: Progress) -> Dataset:
        """Read the items of `spec`.

        Raises:
            RaectlError: it cannot be read, is empty, or has too many bad items.
        """
