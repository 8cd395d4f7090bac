"""Every density that is fitted to latents, with options that make a fit short."""

import pytest

from raectl import registry

OPTIONS = {
    "gmm": [{"components": 3, "covariance": kind} for kind in ("full", "tied", "diag", "spherical")],
    "bayesian-gmm": [{"components": 3, "covariance": kind} for kind in ("full", "tied", "diag", "spherical")],
    "student-t": [{"components": 3}],
    "vae": [{"components": k, "hidden": 16, "epochs": 1} for k in (None, 2)],
    "flow": [{"base": 2, "transforms": 2, "hidden": 8, "epochs": 1}],
}
FITTED = [name for name in registry.names("density") if name != "standard-normal"]  # which takes d alone from latents
CASES = [
    pytest.param(name, options, id="-".join([name, *map(str, options.values())]))
    for name in FITTED
    for options in OPTIONS.get(name, [{}])
]
every_fitted = pytest.mark.parametrize(("name", "options"), CASES)


def fitted(name, options, z):
    """The density of that name, fitted to z."""
    return registry.resolve("density", name)(**options).fit(z, seed=1)
