"""How mixtures get from a part of the latents to a fixed point of EM on all of them."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from raectl.densities.covariance import COVARIANCES
from raectl.densities.latents.standardizer import Standardizer
from raectl.densities.mixtures import em
from raectl.densities.mixtures.em import e_step, m_step, parts, run_em, some_rows
from raectl.densities.mixtures.gmm import GMM
from raectl.densities.mixtures.start import fit_mixture
from raectl.densities.mixtures.student_t import StudentT


def overlapping(n=10_000, d=4, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(6, d))[rng.integers(0, 6, n)] * 2 + rng.normal(size=(n, d)) @ rng.normal(size=(d, d))
    return torch.from_numpy(z.astype(np.float32))


def one_step(standardizer):
    def step(rows, mixture):
        sums = e_step(rows, standardizer, mixture)
        return sums.log_likelihood / len(rows), m_step(mixture, sums, 1e-6)

    return step


@pytest.mark.parametrize("rows", [1, 10, 250, 1000])
def test_some_rows_are_spread_over_all_and_belong_to_the_seed(rows):
    z = torch.arange(1000)
    chosen = some_rows(z, rows, 3)
    assert len(chosen) == rows and (chosen.diff() > 0).all()
    assert torch.equal(chosen * rows // 1000, torch.arange(rows))
    assert torch.equal(some_rows(z, rows, 3), chosen)
    assert rows == 1000 or not torch.equal(some_rows(z, rows, 4), chosen)


def test_parts_grow_fourfold_up_to_all_rows_and_are_never_large_copies(monkeypatch):
    z = torch.zeros(100_000, 4)
    assert [len(part) for part in parts(z, 40, 0)] == [4096, 16384, 100_000]
    assert [len(part) for part in parts(z, 1000, 0)] == [8000, 32000, 100_000]
    assert [len(part) for part in parts(z[:8192], 40, 0)] == [8192]
    monkeypatch.setattr(em, "_PART_NUMBERS", 20_000)
    assert [len(part) for part in parts(z, 40, 0)] == [4096, 100_000]


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_a_fit_by_parts_is_a_fixed_point_on_all_rows(covariance):
    z, kind = overlapping(), COVARIANCES[covariance]
    standardizer = Standardizer.fit(z).isotropic()
    result = fit_mixture(z, standardizer, kind, 6, seed=0, max_iter=200, tol=1e-3, ridge=1e-6)
    assert result.converged and result.on_parts > 0
    step = one_step(standardizer)
    before, following = step(z, result.state)
    assert before == pytest.approx(result.history[-1])
    assert 0 <= step(z, following)[0] - before < 1e-3


@pytest.mark.parametrize(
    ("tol", "max_iter", "iterations", "converged"), [(10, 9, 1, True), (0.3, 9, 3, True), (1e-9, 2, 2, False)]
)
def test_em_ends_with_the_first_iteration_that_gains_less_than_the_tolerance(tol, max_iter, iterations, converged):
    values = [0.0, 1.0, 1.5, 1.75, 1.8]
    result = run_em(torch.zeros(1, 1), lambda z, i: (values[i], i + 1), 0, max_iter=max_iter, tol=tol)
    assert (result.state, result.history) == (iterations, values[: iterations + 1])
    assert result.stats == {
        "iterations": iterations,
        "iterations_on_parts": 0,
        "converged": converged,
        "log_likelihood": values[iterations],
    }


def test_the_report_counts_the_iterations_on_parts():
    few, many = GMM(components=3).fit(overlapping(3000)), GMM(components=3).fit(overlapping())
    assert few.stats["iterations_on_parts"] == 0 < many.stats["iterations_on_parts"]
    many = StudentT(components=2).fit(overlapping())
    assert many.stats["converged"] and many.stats["iterations_on_parts"] > 0


def test_responsibilities_too_small_to_count_are_zeros():
    joint = torch.tensor([[0.0, -30.0, -39.0, -41.0, -90.0, -torch.inf]])
    expected = [[1.0, np.exp(-15), np.exp(-19.5), 0.0, 0.0, 0.0]]
    total, root = em.root_responsibilities(joint + 7)
    np.testing.assert_allclose(root, expected, rtol=1e-5)
    np.testing.assert_allclose(total, [7.0], rtol=1e-6)


def test_a_fit_does_not_import_scikit_learn():
    program = (
        "import sys, torch; from raectl.densities import GMM; GMM(components=2).fit(torch.arange(20.0)[:, None]);"
        "assert not {'sklearn', 'scipy'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
