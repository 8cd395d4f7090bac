"""A SOURCE becomes a `Dataset`: one array of bytes, and what is known of it."""

from raectl.data.dataset import Dataset, split
from raectl.data.opening import open_dataset
from raectl.data.options import DataOptions

__all__ = ["DataOptions", "Dataset", "open_dataset", "split"]
