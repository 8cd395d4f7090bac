"""Bayesian optimization: the surrogate against gpytorch's, batches, and whole runs of a tiny model."""

import json
import shutil
import warnings
from dataclasses import replace
from typing import Any

import gpytorch
import numpy as np
import pytest
import torch
from botorch.exceptions.warnings import OptimizationWarning
from support.cli import Cli, assert_clear_error, tree
from support.strings import GRAMMAR, lines, write_lines

import raectl
from raectl.errors import RaectlError
from raectl.grammars.parser import parser_of
from raectl.objectives.expressions import Expressions
from raectl.optimization import run as optimizing
from raectl.optimization.result import OptimizationResult
from raectl.optimization.run import optimize
from raectl.optimization.settings import Settings
from raectl.optimization.surrogate import SparseGP, propose
from raectl.storage.arrays import read_arrays, write_arrays

SMALL = {"rounds": 2, "batch": 4, "points": 60, "inducing": 10}
FILES = {"state.safetensors", "trace.jsonl", "best.txt", "plot.png"}
TYPED = [word for name, value in SMALL.items() for word in (f"--{name}", value)]


# -- the surrogate -------------------------------------------------------------------------------------------------


def toy(n: int = 120, d: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of the unit cube, and a hill at 0.7 in the first of its dimensions, with a little noise."""
    rng = np.random.default_rng(0)
    z = rng.random((n, d))
    y = -((z[:, 0] - 0.7) ** 2) * 8 + 0.05 * rng.normal(size=n)
    return torch.from_numpy(z), torch.from_numpy((y - y.mean()) / y.std())


@pytest.fixture(scope="module")
def surrogate() -> SparseGP:
    return SparseGP(*toy(), inducing=15)


def prior(model: SparseGP, z: torch.Tensor) -> torch.Tensor:
    kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel(ard_num_dims=z.shape[1])).double()
    kernel.outputscale = (2 * model.log_scale).exp()
    kernel.base_kernel.lengthscale = model.log_length.exp()
    return kernel(z).to_dense().detach()


def dense(model: SparseGP, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """K over the data and z; Q over the same, and the noise's variance; the data and z."""
    every = torch.cat([model.inducing, model.z, z])
    k, m = prior(model, every), len(model.inducing)
    jitter = 1e-6 * (2 * model.log_scale).exp() * torch.eye(m).double()
    q = k[:, :m] @ torch.cholesky_solve(k[:m], torch.linalg.cholesky(k[:m, :m] + jitter))
    return k[m:, m:], q[m:, m:], (2 * model.log_sigma).exp(), every[m:]


def test_the_bound_is_the_formula_with_gpytorch_s_kernel(surrogate):
    k, q, variance, _ = dense(surrogate, surrogate.z[:0])
    normal = torch.distributions.MultivariateNormal(torch.zeros(len(q)).double(), q + variance * torch.eye(len(q)))
    expected = normal.log_prob(surrogate.y) - (k - q).trace() / (2 * variance)
    assert float(surrogate.bound()) == pytest.approx(float(expected), rel=1e-9)


def test_the_posterior_is_that_of_the_formula(surrogate):
    z = torch.rand(6, 3, generator=torch.Generator().manual_seed(1)).double()
    k, q, variance, _ = dense(surrogate, z)
    n = len(surrogate.y)
    gain = q[n:, :n] @ torch.linalg.inv(q[:n, :n] + variance * torch.eye(n))
    found = surrogate.posterior(z[:, None])
    torch.testing.assert_close(found.mean[:, 0, 0], gain @ surrogate.y, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(surrogate.mean(z), gain @ surrogate.y, rtol=1e-6, atol=1e-6)
    expected = (k[n:, n:] - gain @ q[:n, n:]).diagonal()
    torch.testing.assert_close(found.variance[:, 0, 0], expected, rtol=1e-5, atol=1e-6)


def test_pending_points_are_taken_for_seen_at_their_mean(surrogate):
    z = torch.rand(5, 3, generator=torch.Generator().manual_seed(2)).double()
    k, q, variance, _ = dense(surrogate, z)
    n = len(surrogate.y)
    joint = k[n:, n:] - q[n:, :n] @ torch.linalg.inv(q[:n, :n] + variance * torch.eye(n)) @ q[:n, n:]
    among = torch.linalg.inv(joint[3:, 3:] + variance * torch.eye(2))
    expected = (joint[:3, :3] - joint[:3, 3:] @ among @ joint[3:, :3]).diagonal()
    before = surrogate.posterior(z[:3, None])
    surrogate.pending = z[3:]
    after = surrogate.posterior(z[:3, None])
    surrogate.pending = z[:0]
    torch.testing.assert_close(after.variance[:, 0, 0], expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(after.mean, before.mean) and (after.variance < before.variance).all()


def test_the_fit_finds_what_matters(surrogate):
    length = surrogate.log_length.exp()
    assert length[0] < length[1:].min() / 2, "only the first dimension says something"
    z, y = toy(60)
    assert float((surrogate.mean(z) - y).square().mean().sqrt()) < 0.3


def test_a_batch_goes_to_the_hill_and_spreads():
    model = SparseGP(*toy(), inducing=15)
    found = propose(model, 4, seed=0, start=0)
    assert found.shape == (4, 3) and ((found >= 0) & (found <= 1)).all()
    assert (found[:, 0] - 0.7).abs().max() < 0.25
    assert (found[:, None] - found[None]).norm(dim=2).fill_diagonal_(1).min() > 1e-3


def test_a_search_that_ends_early_is_no_news(monkeypatch, capsys):
    def ending_early(first, *_, **__):
        with warnings.catch_warnings():
            warnings.simplefilter("always", OptimizationWarning)  # as botorch does, whatever its caller set
            warnings.warn("ABNORMAL", OptimizationWarning, stacklevel=1)
        return first, None

    monkeypatch.setattr("raectl.optimization.surrogate.gen_candidates_scipy", ending_early)
    assert propose(SparseGP(*toy(), inducing=15), 2, seed=0, start=0).shape == (2, 3)
    assert capsys.readouterr().err == ""


# -- whole runs ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of 60 expressions in a text file."""
    folder = tmp_path_factory.mktemp("optimize")
    config = raectl.Config(grammar="expressions", width=4, latent_dim=4, batch_size=10, epochs=3, seed=1, lr=0.01)
    raectl.train(config, write_lines(folder / "lines.txt", 60), folder / "ckpt")
    return folder / "ckpt"


@pytest.fixture(scope="module")
def whole(trained, tmp_path_factory):
    """A copy of it with 2 rounds of 4 points."""
    ckpt = tmp_path_factory.mktemp("whole") / "ckpt"
    shutil.copytree(trained, ckpt)
    return optimize(raectl.load(ckpt), Settings("expressions", **SMALL))


@pytest.fixture
def copied(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "ckpt")


def test_what_is_found(whole, trained):
    assert whole.z.shape == (8, 4) and len(whole.strings) == len(whole.scores) == 8
    for text in filter(None, whole.strings):
        parser_of(GRAMMAR).derivation(text)
    assert np.array_equal(whole.scores, Expressions()(whole.strings), equal_nan=True)
    scores = [score for score, _ in whole.best()]
    assert scores == sorted(scores) and len(set(whole.best())) == len({*filter(None, whole.strings)})
    z = raectl.load(trained).encode(raectl.load(trained).open_data().items).double().numpy()
    assert (whole.z >= z.min(0) - 1e-9).all() and (whole.z <= z.max(0) + 1e-9).all()
    assert whole.data_best == min(Expressions()(lines(60)))


def test_the_figures(whole):
    counted = [whole.worst if np.isnan(score) else score for score in whole.scores]
    assert whole.mean == pytest.approx(np.mean(counted)) and whole.valid == np.mean(
        [text != "" for text in whole.strings]
    )
    assert whole.mean_of_others == pytest.approx(np.mean([score for score in counted if score != whole.worst]))
    assert [*whole.best_so_far] == [min(counted[: index + 1]) for index in range(8)]
    assert replace(whole, data_best=10.0).beats_the_data and not replace(whole, data_best=0.0).beats_the_data


def test_the_files(whole):
    assert {path.name for path in whole.path.iterdir()} == FILES
    trace = [json.loads(line) for line in (whole.path / "trace.jsonl").read_text().splitlines()]
    assert [line["round"] for line in trace] == [1] * 4 + [2] * 4
    assert [line["string"] for line in trace] == whole.strings
    assert [line["valid"] for line in trace] == [line["score"] is not None for line in trace]
    first = (whole.path / "best.txt").read_text().splitlines()[0].split("\t")
    assert (float(first[0]), first[1]) == (pytest.approx(whole.best()[0][0], abs=1e-6), whole.best()[0][1])
    assert (whole.path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("kind", "where"), [(optimizing._Run, "_round"), (OptimizationResult, "write_files")])
def test_a_stopped_run_goes_on_to_the_same_bytes(whole, copied, monkeypatch, kind, where):
    usual, calls = getattr(kind, where), []

    def stopping(self, *arguments):
        calls.append(where)
        if len(calls) == (2 if where == "_round" else 1):
            raise KeyboardInterrupt
        usual(self, *arguments)

    checkpoint, settings = raectl.load(copied), Settings("expressions", **SMALL)
    monkeypatch.setattr(kind, where, stopping)
    with pytest.raises(KeyboardInterrupt):
        optimize(checkpoint, settings)
    monkeypatch.setattr(kind, where, usual)
    found = copied / "optimize" / "expressions-0"
    assert (found / "state.safetensors").exists() and (found / "best.txt").exists() == (where == "_round")
    again = optimize(checkpoint, settings)
    assert tree(again.path) == tree(whole.path)


def test_more_rounds_begin_with_the_same(whole, copied):
    checkpoint = raectl.load(copied)
    few = optimize(checkpoint, Settings("expressions", **{**SMALL, "rounds": 1}))
    assert few.strings == whole.strings[:4]
    many = optimize(checkpoint, Settings("expressions", **SMALL))
    assert np.array_equal(many.z, whole.z)


def test_another_seed_is_another_run(whole, copied):
    other = optimize(raectl.load(copied), Settings("expressions", **SMALL, seed=1))
    assert other.path.name == "expressions-1" and not np.array_equal(other.z, whole.z)


def test_the_random_state_of_torch_is_as_it_was(copied):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    optimize(raectl.load(copied), Settings("expressions", **{**SMALL, "rounds": 1}))
    assert torch.equal(before, torch.random.get_rng_state())


# -- the command ---------------------------------------------------------------------------------------------------


def test_the_command(cli: Cli, copied, whole):
    told = cli("optimize", copied, "--objective", "expressions", *TYPED, "--json").json
    assert (told["n"], told["rounds"], told["valid"]) == (8, 2, whole.valid)
    assert [(line["score"], line["string"]) for line in told["best"]] == whole.best()[:10]
    assert tree(copied / "optimize" / "expressions-0") == tree(whole.path)
    result = cli("optimize", copied, "--objective", "expressions", *TYPED)
    assert ("none is better than the best of the data" in result.err) != whole.beats_the_data
    assert "going on after round 2 of 2" in result.err and whole.best()[0][1] in result.out
    cli("info", copied)
    cli("train", "--resume", "--out", copied, "--epochs", 4)
    assert (copied / "optimize" / "expressions-0" / "best.txt").exists()


def test_other_options_or_weights_do_not_go_on(cli: Cli, copied):
    cli("optimize", copied, "--objective", "expressions", *TYPED)
    changed = [*TYPED[:-1], 11]
    result = cli.run("optimize", copied, "--objective", "expressions", *changed)
    assert_clear_error(result, 2, "begun with other settings", "--overwrite")
    cli("optimize", copied, "--objective", "expressions", *changed, "--overwrite")
    state = copied / "optimize" / "expressions-0" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-3])
    damaged = cli.run("optimize", copied, "--objective", "expressions", *changed)
    assert_clear_error(damaged, 1, "state.safetensors", "begin again: --overwrite")


@pytest.mark.parametrize(
    "change",
    [
        {"scores": np.array([np.inf] * 4)},
        {"scores": np.zeros(3)},
        {"scores": np.zeros((4, 1))},
        {"z": np.full((4, 4), np.nan)},
        {"strings": np.frombuffer(b'{"a": 1, "b": 2, "c": 3, "d": 4}', np.uint8)},
        {"strings": np.frombuffer(b"[1, 2, 3, 4]", np.uint8)},
    ],
)
def test_a_state_that_makes_no_sense_is_refused(copied, change):
    checkpoint, settings = raectl.load(copied), Settings("expressions", **{**SMALL, "rounds": 1})
    state = optimize(checkpoint, settings).path / "state.safetensors"
    arrays, metadata = read_arrays(state, Any)
    write_arrays(state, {**arrays, **change}, metadata)
    with pytest.raises(RaectlError, match=r"is damaged: .*begin again: --overwrite"):
        optimize(checkpoint, settings)


def test_overwrite_leaves_nothing_of_another_run(copied, monkeypatch):
    checkpoint, settings = raectl.load(copied), Settings("expressions", **{**SMALL, "rounds": 1})
    path = optimize(checkpoint, settings).path
    before = tree(path)
    monkeypatch.setattr(optimizing._Run, "_round", lambda *_: pytest.fail("stop"))
    monkeypatch.setattr(optimizing._Run, "score_the_data", lambda *_: (_ for _ in ()).throw(RaectlError("no data")))
    with pytest.raises(RaectlError, match="no data"):
        optimize(checkpoint, settings, overwrite=True)
    assert tree(path) == before, "nothing is lost before there is something new"
    monkeypatch.setattr(optimizing._Run, "score_the_data", lambda *_: None)
    with pytest.raises(pytest.fail.Exception):
        optimize(checkpoint, settings, overwrite=True)
    assert tree(path) == {}


def test_latents_that_are_all_alike_are_refused(tmp_path):
    (tmp_path / "lines.txt").write_text("x+1\n" * 30)
    config = raectl.Config(grammar="expressions", width=2, latent_dim=2, batch_size=10, epochs=1)
    checkpoint = raectl.train(config, tmp_path / "lines.txt", tmp_path / "ckpt")
    with pytest.raises(RaectlError, match="encodes all these strings alike"):
        optimize(checkpoint, Settings("expressions", **SMALL))
    assert not (tmp_path / "ckpt" / "optimize").exists()


@pytest.mark.parametrize(
    ("words", "code", "fragment"),
    [
        (["--objective", "beauty"], 2, "known: expressions"),
        (["--objective", "expressions", "--rounds", 0], 2, "--rounds 0 is out of range"),
        (["--objective", "expressions", "--batch", -1], 2, "--batch -1 is out of range"),
        (["--objective", "expressions", "--points", 19], 2, "--points 19 is out of range"),
        (["--objective", "expressions", "--inducing", 1], 2, "--inducing 1 is out of range"),
        (["--objective", "penalized-logp"], 1, "0 of 60 strings of the data have a score"),
    ],
)
def test_errors(cli: Cli, trained, words, code, fragment):
    assert_clear_error(cli.run("optimize", trained, *words), code, fragment)


def test_images_are_refused(cli: Cli, tmp_path):
    config = raectl.Config(width=2, latent_dim=4, epochs=1)
    raectl.train(
        config, np.zeros((20, 8, 8, 1), np.uint8) + np.arange(20, dtype=np.uint8)[:, None, None, None], tmp_path / "c"
    )
    result = cli.run("optimize", tmp_path / "c", "--objective", "expressions")
    assert_clear_error(result, 1, "only strings can be optimized")


@pytest.mark.parametrize("name", optimizing._NEEDED)
def test_what_is_not_installed_is_named(cli: Cli, trained, monkeypatch, name):
    monkeypatch.setattr(optimizing, "find_spec", lambda asked: None if asked == name else object())
    result = cli.run("optimize", trained, "--objective", "expressions")
    assert_clear_error(result, 1, f"optimize needs {name}", "pip install 'raectl[optimize]'")


def test_a_link_out_of_the_directory_is_refused(cli: Cli, copied, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (copied / "optimize").symlink_to(tmp_path / "elsewhere")
    assert_clear_error(cli.run("optimize", copied, "--objective", "expressions", *TYPED), 1, "is a link out of")
    (copied / "optimize").unlink()
    (copied / "optimize" / "expressions-0").mkdir(parents=True)
    (copied / "optimize" / "expressions-0" / "best.txt").symlink_to(tmp_path / "mine.txt")
    assert_clear_error(cli.run("optimize", copied, "--objective", "expressions", *TYPED), 1, "is a link out of")
