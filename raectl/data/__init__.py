"""Sources of data: each one becomes a `Dataset`, one array of bytes and what is known of it."""

from raectl.data.dataset import DataOptions, Dataset, split
from raectl.data.opening import open_dataset

__all__ = ["DataOptions", "Dataset", "open_dataset", "split"]
