"""Data: a SOURCE as the user names it (a folder, a zip, an array file, ...) => a `Dataset`, one uint8 array."""

from raectl.data.dataset import Dataset, split
from raectl.data.opening import open_dataset
from raectl.data.options import DataOptions
from raectl.data.sources.arrays import IN_MEMORY

__all__ = ["IN_MEMORY", "DataOptions", "Dataset", "open_dataset", "split"]
