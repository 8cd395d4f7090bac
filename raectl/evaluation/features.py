"""Features of many items: computed a batch at a time, and kept on the disk for data that are measured again."""

import contextlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch

from raectl.errors import RaectlError
from raectl.extractors import Extractor
from raectl.progress import Progress
from raectl.storage.arrays import read_arrays, write_arrays
from raectl.storage.cache import cache_directory, digest

_BATCH = 256  # items; a multiple of every extractor's block


def extract(
    extractor: Extractor, batches: Iterable[np.ndarray], total: int, progress: Progress | None = None
) -> np.ndarray:
    """`extract_all` by one extractor: (N, D) float32."""
    return extract_all([extractor], batches, total, progress)[0]


def extract_all(
    extractors: Sequence[Extractor], batches: Iterable[np.ndarray], total: int, progress: Progress | None = None
) -> list[np.ndarray]:
    """The features of items that come a batch at a time; memory is that of the features and of one batch.

    Arguments:
        batches: each (B, ...), as the extractors take them, of any B.
        total: N, the number of items in all batches.

    Returns:
        (N, D) float32 for each extractor.

    Raises:
        ValueError: the batches hold more or fewer items than `total`.
    """
    progress = progress or Progress()
    rows = [np.empty((0, extractor.dim or 0), np.float32) for extractor in extractors]
    done = 0
    for batch in batches:
        for index, extractor in enumerate(extractors):
            features = extractor(batch).numpy()
            if not done:
                rows[index] = np.empty((total, features.shape[1]), features.dtype)
            rows[index][done : done + len(batch)] = features[: max(0, total - done)]
        done += len(batch)
        progress.update("computing features", done, total)
    if done != total:
        raise ValueError(f"{done} items instead of {total}")
    return rows


def cached_features(
    extractor: Extractor,
    items: np.ndarray,
    key: str,
    progress: Progress | None = None,
    show: Callable[[np.ndarray], np.ndarray] = lambda items: items,
) -> np.ndarray:
    """The features of real data, cached in `$RAECTL_CACHE/features/`, for they are the same at every evaluation.

    A damaged entry is computed anew, and where nothing can be written, the features are computed each time.

    Arguments:
        items: (N, *stored) uint8, possibly memory-mapped.
        key: identity of `items`, such as the data's fingerprint and which rows were taken.
        show: turns a batch of them into what the extractor takes.

    Returns:
        (N, D) float32.
    """
    # Another version of torch, or another kind of device, rounds in another way.
    identity = {
        "extractor": extractor.key,
        "data": key,
        "torch": torch.__version__,
        "device": extractor.device.type,
        "items": str(len(items)),
    }
    path = cache_directory() / "features" / f"{digest(identity)}.safetensors"
    try:
        arrays, metadata = read_arrays(path)
        if metadata == identity:
            return arrays["features"]
    except RaectlError:
        pass  # not there yet, or damaged
    batches = (show(items[start : start + _BATCH]) for start in range(0, len(items), _BATCH))
    features = extract(extractor, batches, len(items), progress)
    with contextlib.suppress(OSError, RaectlError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(path, {"features": features}, identity)
    return features
