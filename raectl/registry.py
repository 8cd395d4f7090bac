"""The registry of components by kind and name, with the path of each.

Components are imported when they are resolved, so listing names does not import torch. A new component is a file and a
line here; tests/test_contracts.py tests all of them.
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
        "none": "raectl.model.regularizers.base:NoRegularizer",
        "tikhonov": "raectl.model.regularizers.tikhonov:Tikhonov",
        "gradient-penalty": "raectl.model.regularizers.gradient_penalty:GradientPenalty",
        "spectral-norm": "raectl.model.regularizers.spectral_norm:SpectralNorm",
        "noise": "raectl.model.regularizers.code_noise:CodeNoise",
    },
    "reconstruction": {
        "l2": "raectl.model.reconstructions.squared:Squared",
        "l1": "raectl.model.reconstructions.absolute:Absolute",
        "cross-entropy": "raectl.model.reconstructions.cross_entropy:CrossEntropy",
    },
    "architecture": {
        "conv32": "raectl.model.architectures.convolutional:Conv32",
        "conv64": "raectl.model.architectures.convolutional:Conv64",
        "linear-conv": "raectl.model.architectures.linear_conv:LinearConv",
        "mlp": "raectl.model.architectures.mlp:MLP",
        "conv-gru": "raectl.model.architectures.recurrent:ConvGRU",
        "conv-gru-medium": "raectl.model.architectures.recurrent:ConvGRUMedium",
        "conv-gru-large": "raectl.model.architectures.recurrent:ConvGRULarge",
    },
    "augmentation": {
        "flip": "raectl.training.augmentation:flip",
        "shift": "raectl.training.augmentation:shift",
        "turn": "raectl.training.augmentation:turn",
        "colour": "raectl.training.augmentation:recolour",
    },
    "optimizer": {"muon": "raectl.training.optimizers.muon:Muon", "adam": "raectl.training.optimizers.adam:Adam"},
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
    # In the order in which a SOURCE is tried: the first that recognizes it opens it.
    "source": {
        "digits": "raectl.data.sources.builtin:Digits",
        "expressions": "raectl.data.sources.builtin:Expressions",
        "molecules": "raectl.data.sources.builtin:Molecules",
        "zip": "raectl.data.sources.zips:Zip",
        "array": "raectl.data.sources.arrays:Array",
        "text": "raectl.data.sources.text:Text",
        "smi": "raectl.data.sources.text:Smi",
        "texts": "raectl.data.sources.text:Texts",
        "idx": "raectl.data.sources.idx:IDX",
        "folder": "raectl.data.sources.folder:Folder",
        "pages": "raectl.data.sources.pages:Pages",
    },
    "metric": {
        "mse": "raectl.metrics.reconstruction:mse",
        "psnr": "raectl.metrics.reconstruction:psnr",
        "ssim": "raectl.metrics.reconstruction:ssim",
        "exact-match": "raectl.metrics.derivations:exact_match",
        "production-accuracy": "raectl.metrics.derivations:production_accuracy",
    },
    # A metric compares an item with its reconstruction, a set metric a set of items with real ones.
    "set-metric": {
        "frechet": "raectl.metrics.frechet:frechet",
        "kernel": "raectl.metrics.kernel:kernel",
        "prdc": "raectl.metrics.manifold:prdc",
        "validity": "raectl.metrics.strings:validity",
        "score": "raectl.metrics.strings:score",
        "score-of-valid": "raectl.metrics.strings:score_of_valid",
        "sharpness": "raectl.metrics.sharpness:sharpness",
        "copied": "raectl.metrics.copying:copied",
    },
    "extractor": {
        "efficientnet-lite0": "raectl.extractors.efficientnet_lite0:EfficientNetLite0",
        "inception": "raectl.extractors.inception:Inception",
        "pixels": "raectl.extractors.pixels:Pixels",
        "strings": "raectl.extractors.strings:Strings",
        "expressions": "raectl.extractors.expressions:Expressions",
        "molecules": "raectl.extractors.molecules:Molecules",
        "penalized-logp": "raectl.extractors.molecules:ScoredMolecules",
        "edges": "raectl.extractors.edges:Edges",
    },
    "objective": {
        "expressions": "raectl.objectives.expressions:Expressions",
        "penalized-logp": "raectl.objectives.penalized_logp:PenalizedLogP",
    },
    "modality": {"images": "raectl.modalities.images:Images", "strings": "raectl.modalities.strings:Strings"},
}


_SYNONYMS = {
    "l2": "tikhonov",
    "gp": "gradient-penalty",
    "sn": "spectral-norm",
    "mse": "l2",
    "mae": "l1",
    "2svae": "vae",
    "t": "student-t",
}


def names(kind: str) -> tuple[str, ...]:
    """The registered names of a kind, in order.

    Raises:
        KeyError: there is no such kind.

    Example:
        >>> names("model")[0]
        'rae'
    """
    return tuple(_TABLE[kind])


def known(kind: str, but: str | None = None) -> str:
    """The registered names of a kind, all but one perhaps, for a help text that cannot drift from them."""
    *most, last = (name for name in names(kind) if name != but)
    return f"{', '.join(most)} or {last}"


def check(kind: str, name: str) -> str:
    """Return `name` if it is registered, else raise a `UsageError` that lists the registered names.

    Example:
        >>> check("density", "gmm")
        'gmm'
    """
    if name not in _TABLE[kind]:
        near = [_SYNONYMS[name]] if _SYNONYMS.get(name) in _TABLE[kind] else []
        near = near or difflib.get_close_matches(name, names(kind), 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"unknown {kind} {name!r}", f"{hint}known: {', '.join(names(kind))}")
    return name


def resolve(kind: str, name: str) -> Any:
    """Import and return the class, function or row registered as `name`.

    Raises:
        UsageError: the name is not registered.

    Example:
        >>> resolve("density", "gaussian").__name__
        'Gaussian'
    """
    module, _, attribute = _TABLE[kind][check(kind, name)].partition(":")
    return getattr(importlib.import_module(module), attribute)


def register(kind: str, name: str, path: str) -> None:
    """Register a component of your own, `package.module:attribute`, in this process.

    Checkpoints store the name only, so register the component also before opening a checkpoint that uses it.
    """
    _TABLE[kind][name] = path
