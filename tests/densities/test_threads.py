"""A fit is the same bit for bit with many threads, and the search for components hands its options on."""

import os
import subprocess
import sys

import numpy as np
import pytest

from raectl.densities import choose_components
from raectl.densities.mixtures.bayesian_gmm import BayesianGMM
from raectl.errors import UsageError

REPEATED = """
import hashlib
import numpy as np, torch
torch.set_num_threads(8)
from raectl import registry
rng = np.random.default_rng(0)
z = (rng.normal(size=(12, 16))[rng.integers(0, 12, 12000)] + rng.normal(size=(12000, 16))).astype(np.float32)
for _ in range(4):
    arrays = registry.resolve("density", "{kind}")(components=10, max_iter=5).fit(z, seed=1).to_arrays()
    print(hashlib.sha256(b"".join(arrays[name].tobytes() for name in sorted(arrays))).hexdigest())
"""

SAMPLED = """
import hashlib
import numpy as np, torch
from raectl import registry
rng = np.random.default_rng(0)
for d in (16, 128):
    k = 10
    arrays = {"weights": np.full(k, 1 / k), "means": rng.normal(size=(k, d)), "covariances": np.empty((k, d, d))}
    arrays["covariances"][:] = [(lambda a: a @ a.T / d + np.eye(d))(rng.normal(size=(d, d))) for _ in range(k)]
    for kind, more in (("gmm", {}), ("student-t", {"freedom": np.full(k, 6.0)})):
        density = registry.resolve("density", kind).from_arrays(arrays | more, components=k)
        print(hashlib.sha256(density.sample(3000, seed=1).numpy().tobytes()).hexdigest())
"""


@pytest.mark.parametrize("kind", ["gmm", "bayesian-gmm"])
def test_a_fit_with_many_threads_is_repeated_bit_for_bit(kind):
    environment = {**os.environ, "OMP_NUM_THREADS": "8", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", REPEATED.replace("{kind}", kind)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    digests = done.stdout.split()
    assert done.returncode == 0 and len(digests) == 4, done.stderr
    assert len(set(digests)) == 1, digests


def test_samples_are_the_same_bit_for_bit_with_any_number_of_threads():
    said = set()
    for threads in ("1", "2", "8"):
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        done = subprocess.run(
            [sys.executable, "-c", SAMPLED], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 and len(done.stdout.split()) == 4, done.stderr
        said.add(done.stdout)
    assert len(said) == 1


def test_the_search_for_components_hands_its_options_on():
    z = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    chosen, tried = choose_components(z[:150], z[150:], 3, (1, 2), covariance="diag", max_iter=7, reg_covar=1e-3)
    assert chosen.settings == {
        "components": chosen.components, "covariance": "diag", "max_iter": 7, "tol": 1e-3, "reg_covar": 1e-3,
        "starts": 1, "shrinkage": 0.0,
    }  # fmt: skip
    assert [row["components"] for row in tried] == [1, 2]
    alone = type(chosen)(**chosen.settings).fit(z[:150], seed=3)
    assert all(
        np.array_equal(a, b) for a, b in zip(alone.to_arrays().values(), chosen.to_arrays().values(), strict=True)
    )
    other, _ = choose_components(z[:150], z[150:], candidates=(2,), kind=BayesianGMM, covariance="spherical")
    assert isinstance(other, BayesianGMM) and other.settings["covariance"] == "spherical"
    with pytest.raises(UsageError, match="'depth'"):
        choose_components(z[:150], z[150:], depth=3)
