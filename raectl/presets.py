"""Training settings of the paper's Table 1 (Ghosh et al. 2020), with the FIDs that it reports.

Values are from the paper's code, with weights converted from means to sums (see `raectl.model.loss`): beta =
2 D/d beta_code, lam = D lam_code, and for VAEs the number of channels times the weight. An absolute plateau gain of
1e-4 in the code's loss becomes 1e-4 D (for VAEs 1e-4 times the channels). 2sVAE is the VAE with a second-stage VAE as
density, whose `beta` is not converted.

docs/paper.md says where the paper and its code differ, what each preset follows, and what is not reproduced; the
settings of `expressions/...` are the Grammar VAE's.
"""

from typing import Any, NamedTuple

from raectl import registry
from raectl.errors import UsageError


class Preset(NamedTuple):
    """Options, and the paper's FID of reconstructions, samples from N and GMM, and interpolations.

    `beta2` is the weight of the KL term of a second-stage VAE, for models with one.
    """

    model: str
    beta: float
    reg: dict[str, dict[str, Any]]
    epochs: int
    lr: float
    fid: tuple[float | None, ...] | None
    beta2: float | None = None

    @property
    def density(self) -> dict[str, dict[str, Any]]:
        """The density that belongs to the model, in the form of `reg`; empty if there is none."""
        return {"vae": {"beta": self.beta2}} if self.beta2 else {}


# (channels, D); for expressions the loss needs no conversion
_VALUES = {"mnist": (1, 1024), "cifar10": (3, 3 * 1024), "celeba": (3, 3 * 4096), "expressions": (1, 1)}
_DATA: dict[str, dict[str, Any]] = {
    "mnist": {
        "arch": "conv32",
        "image_size": 32,
        "fit": "pad",
        "background": "black",
        "latent_dim": 16,
        "val_fraction": 1 / 6,
    },
    # 10,000 held out, as for MNIST
    "cifar10": {"arch": "conv32", "image_size": 32, "latent_dim": 128, "val_fraction": 0.2},
    # The paper first crops the middle 140 x 140 pixels.
    "celeba": {"arch": "conv64", "image_size": 64, "latent_dim": 64},
    "expressions": {
        "latent_dim": 25,
        "width": 32,
        "batch_size": 600,
        "plateau_factor": 0.2,
        "plateau_patience": 1,
        "min_lr": 1e-4,
    },
}
_SUMMED = ("vae", "cv-vae")  # models whose loss in the paper's code is a sum over pixels and a mean over channels
_UNITS = {"celeba/wae": 20.0}  # its loss in the paper's code is 0.05 times a sum over all values
_COMMON: dict[str, Any] = {
    "width": 128,
    "batch_size": 100,
    "bn_momentum": 0.01,
    "plateau": "absolute",
    "optimizer": "adam",
    "average": 0.0,
    "augment": "off",
    "patience": 0,
    "plateau_patience": 5,
}
OTHER: dict[str, dict[str, Any]] = {
    "celeba/vae-released": {"batch_size": 1000},
    "celeba/cv-vae-released": {"width": 64},
    "expressions/gvae": {"sigma": 0.01},
}


def _l2(lam: float) -> dict[str, dict[str, Any]]:
    return {"tikhonov": {"weight": lam}}


def _gp(lam: float) -> dict[str, dict[str, Any]]:
    return {"gradient-penalty": {"weight": lam, "form": "released"}}


_FROBENIUS: dict[str, dict[str, Any]] = {"gradient-penalty": {"form": "exact"}}
_SN: dict[str, dict[str, Any]] = {"spectral-norm": {"view": "released"}}
_SN_BOTH: dict[str, dict[str, Any]] = {"spectral-norm": {"view": "released", "encoder": True}}

# fmt: off
PRESETS: dict[str, Preset] = {
    #                                    model  beta    regularizer     epochs  lr    FID: rec, N, GMM, interp; beta2
    "mnist/vae":                Preset("vae", 0.312,   {},              100, 1e-4, (18.26, 19.21, 17.66, 18.21)),
    "mnist/cv-vae":             Preset("cv-vae", 0.039, {},             100, 1e-4, (15.15, 33.79, 17.87, 25.12)),
    "mnist/wae":                Preset("wae", 30.72,   {},              100, 1e-3, (10.03, 20.42, 9.39, 14.34)),
    "mnist/2svae":              Preset("vae", 0.312,   {},              100, 1e-4, (20.31, 18.81, None, 18.35), 1.5e-3),
    "mnist/rae-gp":             Preset("rae", 0.0128,  _gp(5.12e-5),    100, 5e-4, (14.04, 22.21, 11.54, 15.32)),
    "mnist/rae-gp-frobenius":   Preset("rae", 0.0128,  _FROBENIUS,      100, 5e-4, None),
    "mnist/rae-l2":             Preset("rae", 0.0128,  _l2(1.024e-4),   100, 5e-4, (10.53, 22.22, 8.69, 14.54)),
    "mnist/rae-sn":             Preset("rae", 1.152,   _SN,             100, 5e-4, (15.65, 19.67, 11.74, 15.15)),
    "mnist/rae-sn-released":    Preset("rae", 1.152,   _SN_BOTH,        100, 5e-4, (15.65, 19.67, 11.74, 15.15)),
    "mnist/rae":                Preset("rae", 0.064,   {},              100, 5e-4, (11.67, 23.92, 9.81, 14.67)),
    "mnist/ae":                 Preset("ae",  0.0,     {},              100, 5e-4, (12.95, 58.73, 10.66, 17.12)),
    "mnist/ae-l2":              Preset("ae",  0.0,     _l2(1.024e-4),   100, 5e-4, None),
    "cifar10/vae":              Preset("vae", 0.072,   {},              100, 1e-4, (57.94, 106.37, 103.78, 88.62)),
    "cifar10/cv-vae":           Preset("cv-vae", 0.0027, {},             70, 1e-4, (37.74, 94.75, 86.64, 69.71)),
    "cifar10/wae":              Preset("wae", 18.432,  {},               70, 1e-3, (35.97, 117.44, 93.53, 76.89)),
    "cifar10/2svae":            Preset("vae", 0.072,   {},              100, 1e-4, (62.54, 109.77, None, 89.06), 1e-3),
    "cifar10/rae-gp":           Preset("rae", 0.0432,  _gp(0.0),         70, 5e-4, (32.17, 83.05, 76.33, 64.08)),
    "cifar10/rae-gp-frobenius": Preset("rae", 0.0432,  _FROBENIUS,       70, 5e-4, None),
    "cifar10/rae-l2":           Preset("rae", 0.048,   _l2(3.072e-3),   100, 5e-4, (32.24, 80.80, 74.16, 62.54)),
    "cifar10/rae-sn":           Preset("rae", 1.44,    _SN,             100, 5e-4, (27.61, 84.25, 75.30, 63.62)),
    "cifar10/rae-sn-released":  Preset("rae", 1.44,    _SN_BOTH,        100, 5e-4, (27.61, 84.25, 75.30, 63.62)),
    "cifar10/rae":              Preset("rae", 0.48,    {},              100, 5e-4, (29.05, 83.87, 76.28, 63.27)),
    "cifar10/ae":               Preset("ae",  0.0,     {},              100, 5e-4, (30.52, 84.74, 76.47, 61.57)),
    "cifar10/ae-l2":            Preset("ae",  0.0,     _l2(3.072e-3),   100, 5e-4, None),
    "celeba/vae":               Preset("vae", 0.27072, {},               70, 1e-4, (39.12, 48.12, 45.52, 44.49)),
    "celeba/vae-released":      Preset("vae", 0.27072, {},               70, 1e-4, (39.12, 48.12, 45.52, 44.49)),
    "celeba/cv-vae":            Preset("cv-vae", 0.03, {},               70, 1e-4, (40.41, 48.87, 49.30, 44.96)),
    "celeba/cv-vae-released":   Preset("cv-vae", 0.03, {},               70, 1e-4, (40.41, 48.87, 49.30, 44.96)),
    "celeba/wae":               Preset("wae", 2000.0,  {},               70, 1e-3, (34.81, 53.67, 42.73, 40.93)),
    "celeba/2svae":             Preset("vae", 0.27072, {},               70, 1e-4, (42.04, 49.70, None, 47.54), 2e-3),
    "celeba/rae-gp":            Preset("rae", 0.0384,  _gp(1.2288e-3),   70, 1e-3, (39.71, 116.30, 45.63, 47.00)),
    "celeba/rae-gp-frobenius":  Preset("rae", 0.0384,  _FROBENIUS,       70, 1e-3, None),
    "celeba/rae-l2":            Preset("rae", 0.0384,  _l2(1.2288e-3),   70, 1e-3, (43.52, 51.13, 47.97, 45.98)),
    "celeba/rae-sn":            Preset("rae", 0.9216,  _SN,              70, 1e-3, (36.01, 44.74, 40.95, 39.53)),
    "celeba/rae-sn-released":   Preset("rae", 0.9216,  _SN_BOTH,         70, 1e-3, (36.01, 44.74, 40.95, 39.53)),
    "celeba/rae":               Preset("rae", 0.0384,  {},               70, 1e-3, (40.18, 48.20, 44.68, 43.67)),
    "celeba/ae":                Preset("ae",  0.0,     {},               70, 1e-3, (40.79, 127.85, 45.10, 50.94)),
    "celeba/ae-l2":             Preset("ae",  0.0,     _l2(1.2288e-2),  100, 1e-3, None),
    "expressions/grae":         Preset("rae", 0.04,    {},               50, 1e-3, None),
    "expressions/gvae":         Preset("cv-vae", 0.04, {},               50, 1e-3, None),
}
# fmt: on


def options(name: str) -> dict[str, Any]:
    """The options of a preset, by their names in `Config`.

    Raises:
        UsageError: there is no such preset; the hint lists those of the data set, or all.

    Example:
        >>> options("mnist/rae-l2")["latent_dim"]
        16
    """
    if name not in PRESETS:
        family, slash, _ = name.partition("/")
        near = [known for known in PRESETS if known.startswith(family + slash)] if slash else []
        raise UsageError(f"unknown --preset {name!r}", f"known: {', '.join(near or PRESETS)}")
    row, family = PRESETS[name], name.partition("/")[0]
    channels, data_dim = _VALUES[family]
    units = channels if row.model in _SUMMED else data_dim  # ratio of the loss to that of the paper's code
    gain = 1e-4 * _UNITS.get(name, units)
    own = {"model": row.model, "beta": row.beta, "reg": row.reg, "epochs": row.epochs, "lr": row.lr}
    return {**_COMMON, **OTHER.get(name, {}), **_DATA[family], **own, "plateau_gain": gain}


def source(name: str) -> str:
    """The built-in data of a preset.

    Raises:
        UsageError: the preset's data are not built in, so the user must name a source.

    Example:
        >>> source("expressions/grae")
        'expressions'
    """
    family = name.partition("/")[0]
    if family not in registry.names("source"):
        raise UsageError(f"--preset {name} needs data: it is for {family}", "--data SOURCE")
    return family


def matching(start: str) -> list[str]:
    """Names of the presets that begin with `start`.

    Raises:
        UsageError: there are none; the hint lists the presets of the data set, or the data sets.

    Example:
        >>> matching("mnist/rae-l")
        ['mnist/rae-l2']
    """
    found = [name for name in PRESETS if name.startswith(start)]
    if not found:
        family = start.partition("/")[0]
        known = matching(family) if family in _DATA else _DATA
        raise UsageError(f"no preset begins with {start!r}", f"known: {', '.join(known)}")
    return found
