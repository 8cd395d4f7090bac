"""The one table of names: what exists, and where it lives.

Entries are dotted paths, so every name is known without importing torch, and nothing is imported before it is used.
A new component is one file and one line here; the contract tests run over these names.
"""

import difflib
import importlib
from typing import Any

from raectl.errors import UsageError

_TABLE: dict[str, dict[str, str]] = {
    "model": {
        "rae": "raectl.model.table:RAE",
        "ae": "raectl.model.table:AE",
        "vae": "raectl.model.table:VAE",
        "cv-vae": "raectl.model.table:CV_VAE",
        "wae": "raectl.model.table:WAE",
        "iwae": "raectl.model.table:IWAE",
    },
    "regularizer": {
        "none": "raectl.model.regularizers.none:NoRegularizer",
        "tikhonov": "raectl.model.regularizers.tikhonov:Tikhonov",
        "gradient-penalty": "raectl.model.regularizers.gradient_penalty:GradientPenalty",
        "spectral-norm": "raectl.model.regularizers.spectral_norm:SpectralNorm",
    },
    "architecture": {
        "conv32": "raectl.model.architectures.convolutional:Conv32",
        "conv64": "raectl.model.architectures.convolutional:Conv64",
        "mlp": "raectl.model.architectures.mlp:MLP",
        "conv-gru": "raectl.model.architectures.recurrent:ConvGRU",
        "conv-gru-medium": "raectl.model.architectures.recurrent:ConvGRUMedium",
        "conv-gru-large": "raectl.model.architectures.recurrent:ConvGRULarge",
    },
    "density": {
        "standard-normal": "raectl.densities.standard_normal:StandardNormal",
        "gaussian": "raectl.densities.gaussian:Gaussian",
        "gmm": "raectl.densities.mixtures.gmm:GMM",
        "student-t": "raectl.densities.mixtures.student_t:StudentT",
        "bayesian-gmm": "raectl.densities.mixtures.bayesian_gmm:BayesianGMM",
        "kde": "raectl.densities.kde:KDE",
        "vae": "raectl.densities.second_stage:SecondStageVAE",
        "flow": "raectl.densities.flow:Flow",
    },
    # The order is the order in which a SOURCE is recognised: the first that says it is one of its kind opens it.
    "source": {
        "digits": "raectl.data.sources.builtin:Digits",
        "expressions": "raectl.data.sources.builtin:Expressions",
        "molecules": "raectl.data.sources.builtin:Molecules",
        "zip": "raectl.data.sources.zips:Zip",
        "array": "raectl.data.sources.arrays:Array",
        "text": "raectl.data.sources.text:Text",
        "smi": "raectl.data.sources.text:Smi",
        "idx": "raectl.data.sources.idx:IDX",
        "folder": "raectl.data.sources.folder:Folder",
    },
    "metric": {
        "mse": "raectl.metrics.reconstruction:mse",
        "psnr": "raectl.metrics.reconstruction:psnr",
        "ssim": "raectl.metrics.reconstruction:ssim",
        "exact-match": "raectl.metrics.derivations:exact_match",
        "production-accuracy": "raectl.metrics.derivations:production_accuracy",
    },
    # A metric compares an item with its reconstruction, a measure a set of items with the real ones.
    "set-metric": {
        "frechet": "raectl.metrics.frechet:frechet",
        "kernel": "raectl.metrics.kernel:kernel",
        "prdc": "raectl.metrics.manifold:prdc",
        "validity": "raectl.metrics.strings:validity",
        "score": "raectl.metrics.strings:score",
        "score-of-valid": "raectl.metrics.strings:score_of_valid",
    },
    "extractor": {
        "efficientnet-lite0": "raectl.extractors.efficientnet_lite0:EfficientNetLite0",
        "inception": "raectl.extractors.inception:Inception",
        "pixels": "raectl.extractors.pixels:Pixels",
        "strings": "raectl.extractors.strings:Strings",
        "expressions": "raectl.extractors.expressions:Expressions",
        "molecules": "raectl.extractors.molecules:Molecules",
        "penalized-logp": "raectl.extractors.molecules:ScoredMolecules",
    },
    "objective": {
        "expressions": "raectl.objectives.expressions:Expressions",
        "penalized-logp": "raectl.objectives.penalized_logp:PenalizedLogP",
    },
    "modality": {"images": "raectl.modalities.images:Images", "strings": "raectl.modalities.strings:Strings"},
}


_OTHER_NAMES = {"l2": "tikhonov", "gp": "gradient-penalty", "sn": "spectral-norm", "2svae": "vae", "t": "student-t"}


def names(kind: str) -> tuple[str, ...]:
    """The registered names of one kind, in their order.

    Raises:
        KeyError: `kind` is none of the table's kinds.

    Example:
        >>> names("model")[0]
        'rae'
    """
    return tuple(_TABLE[kind])


def check(kind: str, name: str) -> str:
    """Return `name` if it is registered, else raise a `UsageError` that lists the names that are.

    Example:
        >>> check("density", "gmm")
        'gmm'
    """
    if name not in _TABLE[kind]:
        near = [_OTHER_NAMES[name]] if _OTHER_NAMES.get(name) in _TABLE[kind] else []
        near = near or difflib.get_close_matches(name, names(kind), 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"unknown {kind} {name!r}", f"{hint}known: {', '.join(names(kind))}")
    return name


def resolve(kind: str, name: str) -> Any:
    """Import and return the class, function or row registered as `name`.

    Raises:
        UsageError: the name is not registered; the error lists the known ones.

    Example:
        >>> resolve("density", "gaussian").__name__
        'Gaussian'
    """
    module, _, attribute = _TABLE[kind][check(kind, name)].partition(":")
    return getattr(importlib.import_module(module), attribute)


def register(kind: str, name: str, path: str) -> None:
    """Add a component of your own, as `package.module:attribute`, for this process.

    Checkpoint directories store names only, so whoever opens one that uses the component registers it first.
    """
    _TABLE[kind][name] = path
