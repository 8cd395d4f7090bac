"""Latents of a data set under a checkpoint's encoder, cached under a key of weights and data."""

from typing import TYPE_CHECKING

import numpy as np

from raectl.data import Dataset, split
from raectl.errors import RaectlError
from raectl.storage import files

if TYPE_CHECKING:
    from raectl.checkpoint.checkpoint import Checkpoint


def latents(checkpoint: "Checkpoint", dataset: Dataset) -> np.ndarray:
    """The codes that stand for a data set's items, in their order: (N, d) float32.

    They are kept in the checkpoint directory, if it can be written to, and found there again.
    """
    directory = checkpoint.directory.latents
    key = {"weights": checkpoint.weights, "data": dataset.fingerprint}
    path = directory / f"{key['weights'][:16]}-{key['data'][:16]}.safetensors"
    shape = (len(dataset), checkpoint.latent_dim)
    try:
        if files.read_shapes(path) == {"z": shape}:
            arrays, metadata = files.read_arrays(path)
            if metadata == key and arrays["z"].dtype == np.float32:
                return arrays["z"]
    except RaectlError:
        pass  # not there yet, or damaged: encoded again
    z = np.empty(shape, np.float32)
    done = 0
    for block in checkpoint.encode_blocks(dataset.items):
        z[done : done + len(block)] = block.cpu().numpy()
        done += len(block)
    try:
        directory.mkdir(exist_ok=True)
        _forget_other_weights(checkpoint)
        files.write_arrays(path, {"z": z}, key)
    except (OSError, RaectlError):
        pass  # a cache only: a checkpoint on a read-only disk works without it
    return z


def _forget_other_weights(checkpoint: "Checkpoint") -> None:
    files.sweep(checkpoint.directory.latents)
    for path in checkpoint.directory.latents.glob("*.safetensors"):
        if not path.name.startswith(checkpoint.weights[:16]):
            path.unlink(missing_ok=True)


def split_latents(checkpoint: "Checkpoint", dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Latents of the training and of the held-out items; for the checkpoint's own data the split of its training."""
    z = latents(checkpoint, dataset)
    train, held_out = split(len(z), checkpoint.config.val_fraction, checkpoint.config.seed)
    return z[train], z[held_out]
