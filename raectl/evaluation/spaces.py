"""What is measured in which features: those that the user chose, and those of the modality's further measures."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from raectl.checkpoint.checkpoint import Checkpoint
from raectl.errors import RaectlError, UsageError
from raectl.extractors import Extractor
from raectl.metrics.reference import Measured, Reference
from raectl.registry import check, resolve


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
    """All that a checkpoint's items are measured in, the features to judge by first.

    Arguments:
        checkpoint: the model.
        features: registry name of the extractor to judge by; None for the modality's own.
        weights: file of that extractor's weights, for one that does not come with any.

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
