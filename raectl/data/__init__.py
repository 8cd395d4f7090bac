"""Sources of data: each one becomes a `Dataset`, one array of bytes and what is known of it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raectl.data.dataset import Dataset, split
    from raectl.data.opening import open_dataset
    from raectl.data.options import DataOptions

_HOMES = {  # imported when first used: a process that only decodes needs no NumPy
    "DataOptions": "raectl.data.options",
    "Dataset": "raectl.data.dataset",
    "open_dataset": "raectl.data.opening",
    "split": "raectl.data.dataset",
}
__all__ = ["DataOptions", "Dataset", "open_dataset", "split"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
