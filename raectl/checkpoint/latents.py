"""Latents of a data set, cached in the checkpoint directory under a key of encoder and data."""

from collections.abc import Callable, Iterable

import numpy as np
from torch import Tensor

from raectl.checkpoint.directory import Directory
from raectl.errors import RaectlError
from raectl.storage.arrays import read_arrays, write_arrays
from raectl.storage.atomic import remove_temporaries


def cached_latents(
    directory: Directory, encoder: str, data: str, shape: tuple[int, int], encode: Callable[[], Iterable[Tensor]]
) -> np.ndarray:
    """The latents of a data set's items, in their order: (N, d) float32, read from the cache or computed.

    Arguments:
        directory: where they are kept, if it can be written to.
        encoder, data: SHA-256 of the encoder and fingerprint of the data: the key.
        shape: (N, d).
        encode: computes them, a block of rows at a time; called only if they are not in the cache.
    """
    key = {"encoder": encoder, "data": data}
    path = directory.latents / f"{encoder[:16]}-{data[:16]}.safetensors"
    try:
        arrays, found = read_arrays(path, dict[str, str], lambda _: {"z": (shape, "float32")})
        if found == key:
            return arrays["z"]
    except RaectlError:
        pass  # not there yet, or damaged: encoded again
    z = np.empty(shape, np.float32)
    done = 0
    for block in encode():
        z[done : done + len(block)] = block.cpu().numpy()
        done += len(block)
    try:
        directory.latents.mkdir(exist_ok=True)
        remove_temporaries(directory.latents)
        for other in directory.latents.glob("*.safetensors"):
            if not other.name.startswith(encoder[:16]):
                other.unlink(missing_ok=True)
        write_arrays(path, {"z": z}, key)
    except (OSError, RaectlError):
        pass  # a cache only: a checkpoint on a read-only disk works without it
    return z
