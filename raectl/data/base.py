"""What a source is: something that recognises a SOURCE by its name and opens it."""

from abc import ABC, abstractmethod
from typing import ClassVar

from raectl.data.dataset import Dataset
from raectl.data.options import DataOptions
from raectl.progress import Progress


class Source(ABC):
    """One kind of SOURCE. A new kind is a subclass in a file of its own and one line in the registry.

    Attributes:
        background: colour behind transparent pixels and around padded images where the user gave none.
    """

    background: ClassVar[str] = "white"

    @classmethod
    @abstractmethod
    def recognises(cls, spec: str) -> bool:
        """Whether `spec` is of this kind, told cheaply: by its name, what is on the disk, or the first few bytes."""

    @abstractmethod
    def open(self, spec: str, options: DataOptions, progress: Progress) -> Dataset:
        """The items of `spec`.

        Raises:
            RaectlError: it cannot be read, holds nothing, or too little of it is whole.
        """
