"""Regularized Autoencoders: train one on your images, fit a density to its latents, sample from it.

The names here are imported on first use, so that `import raectl` does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from raectl._version import __version__

if TYPE_CHECKING:
    from raectl import densities, registry
    from raectl.checkpoint.checkpoint import Checkpoint, load
    from raectl.config import Config
    from raectl.data import DataOptions, Dataset, open_dataset
    from raectl.densities import Density
    from raectl.errors import RaectlError
    from raectl.evaluation.evaluation import Evaluation
    from raectl.training.run import train
    from raectl.training.sharpening.run import sharpen

_HOMES = {
    "Checkpoint": "raectl.checkpoint.checkpoint",
    "Config": "raectl.config",
    "DataOptions": "raectl.data",
    "Dataset": "raectl.data",
    "Density": "raectl.densities",
    "Evaluation": "raectl.evaluation.evaluation",
    "RaectlError": "raectl.errors",
    "load": "raectl.checkpoint.checkpoint",
    "open_dataset": "raectl.data",
    "sharpen": "raectl.training.sharpening.run",
    "train": "raectl.training.run",
}
__all__ = [
    "Checkpoint",
    "Config",
    "DataOptions",
    "Dataset",
    "Density",
    "Evaluation",
    "RaectlError",
    "__version__",
    "densities",
    "load",
    "open_dataset",
    "registry",
    "sharpen",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in ("densities", "registry"):
        return importlib.import_module(f"raectl.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'raectl' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
