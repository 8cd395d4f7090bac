"""Constant, equal, repeated and far latents: what a density makes of them, and what it says."""

import numpy as np
import pytest
import torch
from support.cli import assert_clear_error
from support.densities import CASES, every_fitted, fitted

from raectl.checkpoint.densities import fit_latents
from raectl.densities import GMM, Gaussian
from raectl.densities.fitting import fit
from raectl.densities.latents.oddities import count_distinct, find_far
from raectl.densities.mixtures.bayesian_gmm import BayesianGMM
from raectl.densities.second_stage import SecondStageVAE
from raectl.errors import RaectlError, UsageError

# A single Gaussian has the latents' covariance, networks see the far ones, and the prior of a Bayesian mixture draws
# the far component's mean to the others, which share its covariance if it is tied.
ROBUST = [
    case
    for case in CASES
    if case.values[0] in ("gmm", "student-t", "kde", "bayesian-gmm") and case.id != "bayesian-gmm-3-tied"
]


def normal(n=300, d=6, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@every_fitted
@pytest.mark.parametrize("constant", [3.25, 0.1, -1e6, 0.0])
def test_a_constant_dimension_stays_constant(name, options, constant):
    z = normal()
    z[:, 2] = constant
    density = fitted(name, options, z)
    samples = density.sample(300).numpy()
    np.testing.assert_allclose(samples[:, 2], z[0, 2], rtol=1e-5, atol=0)
    assert (samples.std(axis=0)[[0, 1, 3, 4, 5]] > 0.5).all() or name == "vae", "which has hardly been trained"
    assert density.log_prob(z).isfinite().all() and density.log_prob(samples).isfinite().all()
    assert "1 latent dimension is constant (2)" in density.notices[0]


@every_fitted
@pytest.mark.parametrize("z", [np.full((50, 3), 3.25), np.full((50, 3), [1e-3, 7.0, -2e5])], ids=["one", "three"])
def test_constant_latents_give_constant_samples(name, options, z):
    density = fitted(name, options, z)
    np.testing.assert_allclose(density.sample(100), z[:1].repeat(100, axis=0), rtol=1e-5)
    assert density.log_prob(z).isfinite().all()


@every_fitted
@pytest.mark.parametrize(("slope", "shift"), [(1.0, 0.0), (-2.5, 3.0), (1e-3, 40.0)])
def test_two_equal_dimensions_fit_and_stay_equal(name, options, slope, shift):
    z = normal()
    z[:, 4] = slope * z[:, 1] + shift
    density = fitted(name, options, z)
    samples = density.sample(300).numpy()
    np.testing.assert_allclose(samples[:, 4], slope * samples[:, 1] + shift, rtol=1e-5, atol=1e-5)
    assert density.log_prob(z).isfinite().all()
    assert "4 as 1" in density.notices[0]
    apart = z.copy()
    apart[:, 4] += 0.1 * abs(slope)
    assert (density.log_prob(apart) < density.log_prob(z) - 1000).all(), "latents that deviate are unlikely"


@every_fitted
def test_left_out_dimensions_are_stored_and_checked(name, options):
    z = normal()
    z[:, 4], z[:, 2] = z[:, 1], 3.25
    density = fitted(name, options, z)
    arrays, stored = density.to_arrays(), density.settings
    again = type(density).from_arrays(arrays, **stored)
    assert again.dim == 6
    assert torch.equal(again.sample(50), density.sample(50)) and torch.equal(again.log_prob(z), density.log_prob(z))
    source = arrays["dependent.source"]
    assert source.tolist() == [0, 1, -1, 3, 1, 5]
    hostile = {
        "dependent.source": [source + 0.5, source - 1, np.arange(6.0), np.full(6, -1.0), source * np.nan, source[:5]],
        "dependent.narrow": [np.zeros(6), -arrays["dependent.narrow"]],
        "dependent.slope": [np.ones(6), np.full(6, np.inf)],
        "dependent.centre": [np.full(6, np.nan), arrays["dependent.centre"].astype(np.float32)],
    }
    for key, values in hostile.items():
        for value in values:
            with pytest.raises(RaectlError, match=f"no {name} density"):
                type(density).from_arrays({**arrays, key: value}, **stored)
        with pytest.raises(RaectlError, match="missing"):
            type(density).from_arrays({k: a for k, a in arrays.items() if k != key}, **stored)


def test_dimensions_that_only_resemble_each_other_are_free():
    z = normal()
    z[:, 4] = z[:, 1] + 1e-3 * z[:, 0]
    assert GMM(components=1).fit(z).notices == []
    assert GMM(components=1).fit(normal(2, 3)).dim == 3, "two latents lie on a line by necessity"


@pytest.mark.parametrize("seed", range(20))
def test_bayesian_mixtures_survive_dependent_dimensions(seed):
    z = normal(500)
    z[:, 4] = z[:, 1]
    assert BayesianGMM().fit(z, seed).sample(20).isfinite().all()
    z[:, 4] = z[:, 1] + z[:, 2]  # no pair is equal
    density = BayesianGMM(max_iter=5).fit(z, seed)
    assert float((density.sample(500)[:, [1, 2, 4]] @ torch.tensor([1.0, 1.0, -1.0])).abs().max()) < 0.1


@every_fitted
@pytest.mark.parametrize(
    ("z", "said"),
    [
        (np.zeros((50, 4)), "all 4 latent dimensions are constant: "),
        (np.full((50, 4), [0.1, 0.2, -1e6, 0.0]), "all 4 latent dimensions are constant: "),
        (np.full((50, 1), 3.25), "the only latent dimension is constant: "),
    ],
)
def test_latents_that_are_all_the_same_are_said_to_be(name, options, z, said):
    notices = fitted(name, options, z).notices
    assert notices[0].startswith(said)
    assert not any("dimensions are constant (" in notice for notice in notices)
    assert "only 1 of 50 latents is distinct" in notices[1]


def test_equal_images_have_constant_latents(cli, tmp_path):
    np.save(tmp_path / "equal.npy", np.tile(np.arange(256, dtype=np.uint8).reshape(1, 16, 16), (50, 1, 1)))
    brief = ("--latent-dim", 4, "--width", 8, "--epochs", 1, "--device", "cpu")
    cli("train", tmp_path / "equal.npy", "--out", tmp_path / "ckpt", *brief)
    assert "all 4 latent dimensions are constant" in cli("fit-density", tmp_path / "ckpt").err


def test_few_distinct_latents_are_said_and_bound_the_choice():
    z = normal(6, 3)[np.random.default_rng(0).integers(0, 6, 1000)]
    result = fit("gmm", z[:900], z[900:], components="auto")
    assert result.density.components <= 6 and max(row["components"] for row in result.tried) <= 6
    assert "only 6 of 900 latents are distinct" in result.density.notices[0]
    assert "only 6 of 1,000" in GMM(components=10).fit(z).notices[0]


def test_distinct_rows_are_counted():
    z = torch.from_numpy(normal(1000, 3))
    for rows in (z, z.double()):
        assert count_distinct(rows) == 1000
        assert count_distinct(rows[torch.arange(5000) % 7]) == 7
        assert count_distinct(torch.cat([rows, rows.flip(1)])) == 2000


@every_fitted
def test_latents_far_away_are_counted(name, options):
    z = normal(2000, 4)
    z[5] = 1e5
    notices = fitted(name, options, z).notices
    assert any("1 of 2,000 latents is more than 30 times the usual spread away" in notice for notice in notices)


@pytest.mark.parametrize(("name", "options"), ROBUST)
def test_one_latent_far_away_does_not_widen_the_others(name, options):
    z = normal(2000, 4)
    z[5] = 1e5
    options = {**options, "components": 5} if "components" in options else options
    samples = fitted(name, options, z).sample(4000).numpy()
    usual = np.median(np.abs(samples), axis=0) / 0.6745
    assert (usual < 1.25).all() and (usual > 1 / 1.25).all()


def test_clusters_and_heavy_tails_are_not_far_away():
    rng = np.random.default_rng(0)
    heavy = torch.from_numpy(rng.standard_t(5, size=(20_000, 4)))
    clusters = torch.from_numpy(normal(1000, 2) + np.repeat([[0.0, 0.0], [900.0, 0.0]], [700, 300], axis=0))
    assert not find_far(heavy).any()
    assert not any("spread away" in notice for notice in GMM(components=2).fit(clusters).notices)


def test_a_second_stage_of_few_latents_makes_steps_not_epochs():
    z = normal(222, 8)
    vae = SecondStageVAE(hidden=128, lr=5e-4).fit(z[:200])
    ratio = vae.sample(2000).numpy().std(axis=0) / z.std(axis=0)
    assert 1 / 1.25 < np.sqrt((ratio**2).mean()) < 1.25
    assert vae.notices == []
    assert not vae.underfits
    brief = SecondStageVAE(hidden=128, epochs=1).fit(z[:200])
    assert brief.underfits
    assert "the density underfits; try more epochs" in brief.notices[-1]


@pytest.mark.parametrize("density", [GMM(components=2), Gaussian()], ids=["gmm", "gaussian"])
def test_the_reported_likelihood_is_that_of_all_dimensions(density):
    z = normal()
    z[:, 4], z[:, 2] = z[:, 1], 3.25
    density.fit(z)
    log_prob, stats = density.log_prob(z), density.stats
    assert stats["log_likelihood"] == pytest.approx(float(log_prob.mean()), rel=1e-5)
    assert stats["bic"] == pytest.approx(stats["parameters"] * np.log(300) - 2 * float(log_prob.sum()), rel=1e-5)


def test_a_likelihood_above_0_is_explained(cli, tmp_path):
    np.save(tmp_path / "narrow.npy", normal(2000, 4) * 1e-3)
    np.save(tmp_path / "wide.npy", normal(2000, 4))
    for name, explained in (("narrow", True), ("wide", False)):
        out = cli("fit-density", tmp_path / name, "--latents", tmp_path / f"{name}.npy", "--components", 1).out
        assert ("a density exceeds 1 where latents are close together" in " ".join(out.split())) is explained


@pytest.mark.parametrize("name", ["real", "reconstruction", "interpolation", "prior"])
def test_a_density_cannot_be_named_like_another_row(cli, tmp_path, name):
    np.save(tmp_path / "z.npy", normal())
    result = cli.run("fit-density", tmp_path / "d", "--latents", tmp_path / "z.npy", "--name", name)
    assert_clear_error(result, 2, f"--name '{name}'", f"--name my-{name}")
    assert not (tmp_path / "d").exists()
    with pytest.raises(UsageError, match=name):
        fit_latents(tmp_path / "d", tmp_path / "z.npy", "gaussian", name=name)


@every_fitted
def test_latents_that_are_fewer_than_dimensions_are_said(name, options):
    said = " ".join(fitted(name, options, normal(12, 20)).notices)
    wanted = ("12 latents are few", "12 latents do not fix")
    assert any(words in said for words in wanted) is (options.get("covariance", "full") == "full")


def test_the_advice_fits_the_density():
    z = normal(40, 8)
    (notice,) = fit("kde", z[:20], z[20:] + 5, bandwidth=0.1).density.notices
    assert "overfits; try a larger --density kde,bandwidth=..., --density gaussian" in notice
    for kind, options in (("gaussian", {}), ("gmm", {"components": 1}), ("student-t", {"components": 1})):
        assert "--density gaussian" not in " ".join(fit(kind, z[:20], z[20:] + 9, **options).density.notices)
    (notice,) = GMM(components=6).fit(z).notices
    assert notice.endswith("try fewer --components or --covariance diag or more data")
    (notice,) = fitted("student-t", {"components": 6}, z).notices
    assert notice.endswith("try fewer --components or more data")


@pytest.mark.parametrize(
    ("kind", "options"), [("bayesian-gmm", {}), ("gmm", {"components": 10}), ("vae", {"components": 10})]
)
def test_too_many_components_are_counted_whether_or_not_they_were_typed(kind, options):
    z = normal(5, 2)
    with pytest.raises(RaectlError, match="10 components are more than the 4 latents") as caught:
        fit(kind, z[:4], z[4:], **options)
    assert caught.value.hint == "use --components 4 or fewer"


@pytest.mark.parametrize("kind", ["gmm", "bayesian-gmm", "kde", "vae"])
def test_one_latent_is_too_few_to_fit_to(kind):
    z = normal(2, 2)
    with pytest.raises(RaectlError, match="1 latent to fit to, too few for a density") as caught:
        fit(kind, z[:1], z[1:])
    assert "2 are needed, besides those held out" in str(caught.value.hint)
