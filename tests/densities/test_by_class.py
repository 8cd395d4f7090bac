"""A density for each class: their mixture, its samples, and the shrinkage of classes with few latents."""

import math

import numpy as np
import pytest
import torch

from raectl.densities.by_class.density import ByClass, arrays_of, of_classes
from raectl.densities.by_class.fitting import fit_by_class
from raectl.densities.gaussian import Gaussian
from raectl.errors import RaectlError, UsageError
from raectl.registry import resolve

D = 6


def latents(counts: list[int], seed: int = 0, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Classes that are Gaussians about means of their own: (N, D), and the class of each."""
    rng = np.random.default_rng(seed)
    means = 4 * np.random.default_rng(99).normal(size=(len(counts), D))
    z = [means[index] + spread * rng.normal(size=(count, D)) for index, count in enumerate(counts)]
    return np.concatenate(z).astype(np.float32), np.repeat(np.arange(len(counts)), counts)


NONE = (np.empty((0, D), np.float32), np.empty(0, np.int64))


def test_log_density_is_that_of_the_mixture_of_classes() -> None:
    z, labels = latents([300, 100])
    found = fit_by_class("gaussian", (z, labels), NONE, ["a", "b"]).density
    own = [Gaussian().fit(z[labels == index]) for index in (0, 1)]
    expected = torch.logsumexp(
        torch.stack([own[0].log_prob(z) + math.log(0.75), own[1].log_prob(z) + math.log(0.25)]), 0
    )
    torch.testing.assert_close(found.log_prob(z), expected)
    # By Monte Carlo, which knows nothing of the formula: the density integrates to 1 over what a wide one samples.
    wide = Gaussian().fit(z.mean(axis=0) + 1.5 * (z - z.mean(axis=0)))
    draws = wide.sample(200_000, seed=1)
    weights = (found.log_prob(draws) - wide.log_prob(draws)).exp()
    assert float(weights.mean()) == pytest.approx(1, abs=5 * float(weights.std()) / math.sqrt(200_000))


def test_samples_keep_the_shares_and_are_those_of_their_class() -> None:
    z, labels = latents([500, 300, 200])
    density = fit_by_class("gmm", (z, labels), NONE, ["a", "b", "c"], components=2).density
    assert isinstance(density, ByClass)
    drawn, samples = density.classes_of(20_000, seed=3), density.sample(20_000, seed=3)
    shares = np.bincount(drawn) / 20_000
    np.testing.assert_allclose(shares, [0.5, 0.3, 0.2], atol=4 * math.sqrt(0.25 / 20_000))
    for index, name in enumerate("abc"):
        mine = drawn == index
        alone = density.only([name]).sample(20_000, seed=3)
        assert torch.equal(samples[mine], alone[mine])
        np.testing.assert_allclose(samples[mine].mean(dim=0), z[labels == index].mean(axis=0), atol=0.2)
    assert density.only(["c", "a"]).classes == ("a", "c")
    np.testing.assert_allclose(density.only(["c", "a"]).shares, [5 / 7, 2 / 7])


@pytest.mark.parametrize("kind", ["gmm", "gaussian", "kde", "student-t"])
def test_any_kind_has_prefixes_and_survives_its_arrays(kind: str) -> None:
    z, labels = latents([90, 40])
    density = fit_by_class(kind, (z, labels), NONE, ["a", "b"], seed=1).density
    assert isinstance(density, ByClass)
    whole = density.sample(70, seed=5)
    assert torch.equal(whole[13:40], density.sample(27, seed=5, start=13))
    parts = {
        name: resolve("density", kind).from_arrays(arrays, **part.settings)
        for (name, part), arrays in zip(density.parts.items(), arrays_of(density.to_arrays(), 2), strict=True)
    }
    again = ByClass(parts, density.counts.tolist())
    assert torch.equal(again.sample(70, seed=5), whole)
    assert torch.equal(again.log_prob(z), density.log_prob(z))


def test_few_latents_are_shrunk_towards_the_pooled_spread() -> None:
    """The covariance is Friedman's, (n S + nu P) / (n + nu), up to the chance of which deviations are drawn."""
    z, labels = latents([4000, 4000, 8])
    found = fit_by_class("gaussian", (z, labels), NONE, ["a", "b", "few"])
    assert isinstance(found.density, ByClass)
    few = found.classes[2]
    assert (few["n"], few["shrinkage"], found.classes[0]["shrinkage"]) == (8, 2 * D, 0)
    own = z[labels == 2]
    covariance = found.density.parts["few"].to_arrays()["covariance"]
    scatter = (own - own.mean(axis=0)).T @ (own - own.mean(axis=0))
    expected = (np.trace(scatter) + 2 * D * D) / (8 + 2 * D)  # P is the unit matrix
    assert np.trace(covariance) == pytest.approx(expected, rel=0.35)
    assert np.linalg.cond(covariance) < np.linalg.cond(scatter / 8) / 3
    assert any("1 class has few latents (fewest: few, 8)" in notice for notice in found.density.notices)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ([1] * 120 + [60] * 3, "the spread of all classes"),  # a class of one has no deviation from its mean
        ([2] * 120, "the spread of all classes"),  # one of two half of the variance
        ([1] * 120, "that of all latents, as no class has two"),
    ],
    ids=["ones", "twos", "only ones"],
)
def test_the_pooled_spread_is_that_within_classes(counts: list[int], said: str) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(counts)), counts)
    z = (5 * rng.normal(size=(len(counts), D))[labels] + rng.normal(size=(len(labels), D))).astype(np.float32)
    found = fit_by_class("gaussian", (z, labels), NONE, [str(index) for index in range(len(counts))])
    assert isinstance(found.density, ByClass)
    spreads = [part.to_arrays()["covariance"].trace() / D for part in [*found.density.parts.values()][:120]]
    own = max(counts[0] - 1, 0) / counts[0]  # of the class's own latents, on average
    pooled = 26.0 if "as no class" in said else 1.0
    n, nu = counts[0], 2 * D
    assert np.mean(spreads) == pytest.approx((n * own + nu * pooled) / (n + nu), rel=0.2)
    assert said in found.density.notices[0]


def test_held_out_latents_choose_the_shrinkage() -> None:
    """Classes of one spread want much of it; classes whose spreads differ by far want none."""
    alike, labels = latents([900, 900, 12, 12])
    held = latents([20, 20, 20, 20], seed=1)
    much = fit_by_class("gaussian", (alike, labels), held, list("abcd")).classes[2]["shrinkage"]
    narrow = np.concatenate([latents([900, 900, 40, 40], spread=s)[0][[slice(0, 1800), slice(1800, None)][i]]
                             for i, s in enumerate((1.0, 0.05))])  # fmt: skip
    tight = latents([20, 20, 20, 20], seed=1, spread=0.05)
    labels = latents([900, 900, 40, 40])[1]
    none = fit_by_class("gaussian", (narrow, labels), tight, list("abcd")).classes[2]["shrinkage"]
    assert much >= 8 * D and none == 0


def test_one_latent_is_enough_for_a_class() -> None:
    z, labels = latents([200, 1])
    found = fit_by_class("gmm", (z, labels), NONE, ["many", "one"])
    assert [row["n"] for row in found.classes] == [200, 1]
    mean = found.density.only(["one"]).sample(4000).mean(dim=0)  # type: ignore[attr-defined]
    np.testing.assert_allclose(mean, z[-1], atol=1.5)


def test_components_suit_the_class() -> None:
    z, labels = latents([400, 70, 12])
    held_out = latents([40, 12, 2], seed=1)
    chosen = fit_by_class("gmm", (z, labels), held_out, list("abc")).classes
    assert chosen[2]["components"] == 1  # two held-out latents choose nothing
    given = fit_by_class("gmm", (z, labels), held_out, list("abc"), components=10).classes
    assert [row["components"] for row in given] == [10, 7, 1]


def test_a_class_without_training_latents_is_left_out() -> None:
    z, labels = latents([80, 80])
    found = fit_by_class("gaussian", (z, 2 * labels), NONE, ["a", "none", "c"])
    assert [row["class"] for row in found.classes] == ["a", "c"]


def test_unknown_classes_are_refused_with_the_known_ones(tmp_path: object) -> None:
    z, labels = latents([80, 80])
    density = fit_by_class("gaussian", (z, labels), NONE, ["cat", "dog"]).density
    assert isinstance(density, ByClass)
    with pytest.raises(UsageError, match="'bird' is no class") as caught:
        density.only(["bird"])
    assert caught.value.hint == "its classes: cat, dog"
    with pytest.raises(UsageError, match="is not by class"):
        of_classes(Gaussian().fit(z), ["cat"], tmp_path)  # type: ignore[arg-type]
    with pytest.raises(RaectlError, match="needs the classes"):
        density.fit(z)
    with pytest.raises(RaectlError, match=r"unexpected array '7\.means'"):
        arrays_of({"7.means": z}, 2)


def test_seeds_and_notices() -> None:
    z, labels = latents([60, 60])
    one, same, other = (
        fit_by_class("gmm", (z, labels), NONE, ["a", "b"], seed=s, components=3).density for s in (0, 0, 1)
    )
    assert torch.equal(one.sample(50), same.sample(50)) and not torch.equal(one.sample(50), other.sample(50))
    z[:, 0] = labels  # constant within a class
    notices = fit_by_class("gaussian", (z, labels), NONE, ["a", "b"]).density.notices
    assert any(notice.startswith("classes a, b: ") for notice in notices)
