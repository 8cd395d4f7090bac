"""Features: which ones, computed a batch at a time, and kept on the disk for data that are measured again."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raectl.checkpoint.checkpoint import Checkpoint
from raectl.errors import RaectlError, UsageError
from raectl.extractors import Extractor
from raectl.metrics.reference import Measured, Reference
from raectl.progress import Progress
from raectl.registry import check, resolve
from raectl.storage.arrays import read_arrays, write_arrays
from raectl.storage.cache import cache_directory, digest

_BATCH = 256  # items; a multiple of every extractor's block


@dataclass(frozen=True)
class FeatureSpace:
    """The features of one extractor, and the registry names of the set metrics that are measured in them."""

    extractor: Extractor
    set_metrics: tuple[str, ...]

    def measure(self, reference: Reference, features: Tensor) -> dict[str, Measured]:
        """All of them: (M, D) features of a set of items => {metric: value and standard error}."""
        measured: dict[str, Measured] = {}
        for name in self.set_metrics:
            measured |= resolve("set-metric", name)(reference, features)
        names_here = {"frechet": self.extractor.frechet_name}
        return {names_here.get(name, name): value for name, value in measured.items()}


def feature_spaces(checkpoint: Checkpoint, features: str | None, weights: Path | None) -> list[FeatureSpace]:
    """All that a checkpoint's items are measured in, the features to judge by first; arguments as of `Evaluation`.

    Raises:
        UsageError: the extractor is unknown, or one of other items.
        RaectlError: it is not installed, or its weights cannot be read.
    """
    modality = checkpoint.modality
    known = modality.extractors
    name = known[0] if features is None and known else features
    if name is None or check("extractor", name) not in known:
        raise UsageError(
            f"there are no features {features or 'at all'} of {checkpoint.data.modality}",
            f"known: {', '.join(known) or 'none'}",
        )
    try:
        judge: Extractor = resolve("extractor", name)(weights=weights, device=checkpoint.device)
    except UsageError:
        raise
    except RaectlError as error:  # where the first is not installed, the last needs nothing
        other = f"   (or: --features {known[-1]})" if features is None else ""
        raise RaectlError(error.message, error.hint and error.hint + other) from error
    further = dict(modality.always_measured)
    judged = FeatureSpace(judge, tuple(dict.fromkeys((*judge.set_metrics, *further.pop(judge.name, ())))))
    others = [
        FeatureSpace(resolve("extractor", name)(device=checkpoint.device), set_metrics)
        for name, set_metrics in further.items()
    ]
    return [judged, *others]


Show = Callable[[np.ndarray], np.ndarray]


def extract(
    extractor: Extractor,
    batches: Iterable[np.ndarray],
    total: int,
    progress: Progress | None = None,
    show: Show = np.asarray,
) -> np.ndarray:
    """`extract_all` by one extractor: (N, D) float32."""
    return extract_all([extractor], batches, total, progress, show)[0]


def extract_all(
    extractors: Sequence[Extractor],
    batches: Iterable[np.ndarray],
    total: int,
    progress: Progress | None = None,
    show: Show = np.asarray,
) -> list[np.ndarray]:
    """The features of items that come a batch at a time; memory is that of the features and of one batch.

    Arguments:
        batches: each (B, *stored), of any B.
        total: N, the number of items in all batches.
        show: turns a batch into what extractors take that do not take items as stored.

    Returns:
        (N, D) float32 for each extractor.

    Raises:
        ValueError: the batches hold more or fewer items than `total`.
    """
    progress = progress or Progress()
    rows = [np.empty((0, extractor.dim or 0), np.float32) for extractor in extractors]
    done = 0
    for batch in batches:
        shown = show(batch)
        for index, extractor in enumerate(extractors):
            features = extractor(batch if extractor.sees_stored else shown).numpy()
            if not done:
                rows[index] = np.empty((total, features.shape[1]), features.dtype)
            rows[index][done : done + len(batch)] = features[: max(0, total - done)]
        done += len(batch)
        progress.update("computing features", done, total)
    if done != total:
        raise ValueError(f"{done} items instead of {total}")
    return rows


def cached_features(
    extractor: Extractor, items: np.ndarray, key: str, progress: Progress | None = None, show: Show = np.asarray
) -> np.ndarray:
    """The features of real data, cached in `$RAECTL_CACHE/features/`, for they are the same at every evaluation.

    A damaged entry is computed anew, and where nothing can be written, the features are computed each time.

    Arguments:
        items: (N, *stored), possibly memory-mapped.
        key: identity of `items`, such as the data's fingerprint and which rows were taken.
        show: as of `extract_all`.

    Returns:
        (N, D) float32.
    """
    # Another version of torch, or another kind of device, rounds in another way.
    identity = {
        "extractor": extractor.key,
        "data": key,
        "torch": str(torch.__version__),  # a kind of text that no JSON encoder knows
        "device": extractor.device.type,
        "items": str(len(items)),
    }
    path = cache_directory() / "features" / f"{digest(identity)}.safetensors"
    try:
        arrays, found = read_arrays(path, dict[str, str], lambda _: {"features": None})
        if found == identity:
            return arrays["features"]
    except RaectlError:
        pass  # not there yet, or damaged
    batches = (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))
    features = extract(extractor, batches, len(items), progress, show)
    with contextlib.suppress(OSError, RaectlError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(path, {"features": features}, identity)
    return features
