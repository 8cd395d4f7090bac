"""What is computed of a data set by a model, cached in the checkpoint directory under a key of both."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from torch import Tensor

from raectl.checkpoint.directory import Directory
from raectl.errors import RaectlError
from raectl.storage.arrays import Arrays, Spec, read_arrays, write_arrays
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

    def compute() -> Arrays:
        z = np.empty(shape, np.float32)
        done = 0
        for block in encode():
            z[done : done + len(block)] = block.cpu().numpy()
            done += len(block)
        return {"z": z}

    key = {"encoder": encoder, "data": data}
    return cached_arrays(directory, f"{encoder[:16]}-{data[:16]}", key, {"z": (shape, "float32")}, compute)["z"]


def cached_arrays(
    directory: Directory,
    name: str,
    key: Mapping[str, str],
    specs: Mapping[str, Spec | None],
    compute: Callable[[], Arrays],
    are_valid: Callable[[Arrays], bool] = lambda _: True,
) -> Arrays:
    """Named arrays, read from the cache or computed.

    Arguments:
        directory: where they are kept, if it can be written to.
        name: of their file; begins with 16 characters of the encoder's SHA-256, by which those of others are removed.
        key: what they depend on.
        specs: the arrays' names, shapes and types; None for any.
        compute: called only if they are not in the cache.
        are_valid: whether arrays that were read can be what `compute` gives.
    """
    path = directory.latents / f"{name}.safetensors"
    try:
        arrays, found = read_arrays(path, dict[str, str], lambda _: specs)
        if found == key and are_valid(arrays):
            return arrays
    except RaectlError:
        pass  # not there yet, or damaged: computed again
    arrays = compute()
    try:
        directory.latents.mkdir(exist_ok=True)
        remove_temporaries(directory.latents)
        for other in directory.latents.glob("*.safetensors"):
            if not other.name.startswith(name[:16]):
                other.unlink(missing_ok=True)
        write_arrays(path, arrays, key)
    except (OSError, RaectlError):
        pass  # a cache only: a checkpoint on a read-only disk works without it
    return arrays
