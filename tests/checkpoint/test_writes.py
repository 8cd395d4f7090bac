"""The checkpoint directory is whole at any moment: killed at a rename, refused by the disk, exchanged half way."""

import errno
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.checkpoints import SMALL, KilledError, edit, train_settings
from support.cli import Cli, assert_clear_error, assert_same_run, no_leftovers, tree, write_pictures

import raectl
from raectl.checkpoint import densities as fitted
from raectl.checkpoint.directory import Directory
from raectl.errors import RaectlError
from raectl.storage import atomic
from raectl.storage.atomic import atomic_directory, recover, recover_all, remove_temporaries
from raectl.training.run import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("checkpoint") / "images", 60)


def renames(monkeypatch: pytest.MonkeyPatch, at: int, *, after: bool) -> list[Path]:
    """Let the process end at the `at`-th rename from now on, before or after it is done."""
    seen: list[Path] = []
    usual = Path.replace

    def replace(self: Path, target: Any) -> Path:
        seen.append(Path(target))
        if len(seen) == at + 1:
            if after:
                usual(self, target)
            raise KilledError
        return usual(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    return seen


@pytest.fixture(scope="module")
def three_epochs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of three epochs, and one of one epoch to be gone on with."""
    home = tmp_path_factory.mktemp("three")
    config = raectl.Config(**SMALL, reg="tikhonov", epochs=3, precision="fp32")
    whole = train(config, data, home / "whole").directory.path
    return whole, train(config.replace(epochs=1), data, home / "one").directory.path


@pytest.mark.parametrize("after", [False, True])
def test_a_kill_at_any_rename_leaves_a_whole_directory(
    data: Path, three_epochs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    whole, one = three_epochs
    config = raectl.Config(**SMALL, reg="tikhonov", epochs=3, precision="fp32")
    resumed = train_settings(one, 3)
    assert resumed.replace(epochs=3).lr == config.lr
    names: list[str] = []
    train(resumed, data, Path(shutil.copytree(one, tmp_path / "first")), resume=True)  # fills the cache of the data
    for at in range(20):
        out = Path(shutil.copytree(one, tmp_path / f"{at}"))
        with monkeypatch.context() as patch:
            seen = renames(patch, at, after=after)
            try:
                train(resumed, data, out, resume=True)
            except KilledError:
                names.append(seen[-1].name)
            else:
                break
        raectl.load(out, "cpu").decode(np.zeros((1, 4), np.float32))
        train(resumed, data, out, resume=True)
        assert_same_run(whole, out)
        no_leftovers(out)
    # Two epochs of the state, the configuration, the weights and the card; the log cut back once; a picture.
    assert {name for name in names if not name.endswith(".png")} == {
        "training.safetensors", "config.json", "model.safetensors", "README.md", "log.jsonl"
    }  # fmt: skip
    assert len(names) >= 10


def test_a_kill_between_the_two_files_of_a_publication(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = Directory(trained.path)
    before = raectl.load(trained.path, "cpu")
    record = directory.read_config()
    config, summary = record.resolved, record.data
    arrays, _, digest = directory.read_weights(record)
    arrays = {name: array + np.float32(1) if array.dtype == np.float32 else array for name, array in arrays.items()}
    usual = Directory.write_config

    def killed(self: Directory, *arguments: Any) -> None:
        usual(self, *arguments)
        raise KilledError

    monkeypatch.setattr(Directory, "write_config", killed)
    with pytest.raises(KilledError):
        directory.publish(config, summary, arrays, 9, 2)
    between = raectl.load(trained.path, "cpu")
    assert (between.weights, between.epoch) == (digest, before.epoch) == (before.weights, before.epoch)
    assert np.array_equal(between.sample(3), before.sample(3)), "its densities are still those of its weights"
    monkeypatch.undo()
    directory.publish(config, summary, arrays, 9, 2)
    assert raectl.load(trained.path, "cpu").epoch == 9


def test_an_interrupted_exchange_of_directories_is_put_right(cli: Cli, trained: Any, tmp_path: Path) -> None:
    densities = trained.path / "densities"
    (densities / "gmm-2").rename(densities / ".tmp-old-gmm-2")
    (densities / ".tmp-half").mkdir()
    (densities / ".tmp-half" / "density.json").write_text("{")
    assert raectl.load(trained.path, "cpu").densities() == ("gaussian", "gmm-2"), "and not what is half-written"
    cli("fit-density", trained.path, "--components", 3)
    assert raectl.load(trained.path, "cpu").densities() == ("gaussian", "gmm-2", "gmm-3")
    no_leftovers(trained.path)
    cli("sample", trained.path, "--density", "gmm-2", "-o", tmp_path / "out.npz")


def test_sweep(tmp_path: Path) -> None:
    (tmp_path / ".tmp-file").write_text("half")
    (tmp_path / ".tmp-old-gone").mkdir()
    (tmp_path / ".tmp-old-there").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "kept").write_text("whole")
    remove_temporaries(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gone", "kept", "there"]


def test_a_density_of_0_1_is_said_to_be_one(cli: Cli, trained: Any, tmp_path: Path) -> None:
    edit(trained.path / "densities" / "gmm-2" / "density.json", lambda r: r.update(report=r.pop("stats")))
    result = cli.run("sample", trained.path, "-n", 2, "-o", tmp_path / "x.png")
    assert_clear_error(result, 1, "gmm-2 was written by raectl 0.1, which this version does not open", "rm -r")


def test_a_density_replaces_its_former_self_or_nothing(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(trained.path)
    monkeypatch.setattr(fitted, "write_json", lambda *_: (_ for _ in ()).throw(OSError(28, "No space")))
    with pytest.raises(RaectlError, match="cannot write"):
        raectl.load(trained.path, "cpu").fit_density("gmm", components=2, covariance="diag")
    assert tree(trained.path) == before


# -- the exchange of directories -------------------------------------------------------------------------------------


class Disk:
    """Lets the rename that puts a filled temporary directory at `onto` fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, onto: Path, error: BaseException) -> None:
        self.failed = 0
        usual = Path.replace

        def replace(path: Path, target: Any) -> Path:
            if Path(target) == onto and path.is_dir() and not path.name.startswith(atomic._OLD):
                self.failed += 1
                assert not onto.exists(), "the former one is out of the way: this is the second rename"
                raise error
            return usual(path, target)

        monkeypatch.setattr(Path, "replace", replace)


ERRORS: dict[str, tuple[BaseException, type[BaseException]]] = {
    "disk full": (OSError(errno.ENOSPC, "No space left on device"), RaectlError),
    "interrupted": (KeyboardInterrupt(), KeyboardInterrupt),
}
both_errors = pytest.mark.parametrize(("error", "raised"), ERRORS.values(), ids=ERRORS)


@both_errors
def test_a_failed_exchange_keeps_the_former_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, raised: type[BaseException]
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "former").write_text("former")
    before = tree(tmp_path)
    disk = Disk(monkeypatch, target, error)
    with pytest.raises(raised), atomic_directory(target) as temporary:
        (temporary / "new").write_text("new")
    assert disk.failed == 1
    assert tree(tmp_path) == before


@both_errors
def test_a_failed_overwrite_keeps_the_former_run(
    cli: Cli,
    trained: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    raised: type[BaseException],
) -> None:
    before = tree(tmp_path)
    options = ("--image-size", 12, "--width", 2, "--latent-dim", 3, "--batch-size", 16, "--epochs", 1)
    with monkeypatch.context() as patch:
        disk = Disk(patch, trained.path, error)
        result = cli.run("train", "--data", trained.data, "--out", trained.path, "--overwrite", *options)
    assert disk.failed == 1
    if raised is RaectlError:
        assert_clear_error(result, 1, str(trained.path), "No space left", "unchanged")
    else:
        assert result.code == 130, result.err
    assert tree(tmp_path) == before
    cli("sample", trained.path, "-n", 2, "-o", tmp_path / "out.npz")


@both_errors
def test_a_failed_refit_keeps_the_former_density(
    trained: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException, raised: type[BaseException]
) -> None:
    before = tree(trained.path)
    samples = raectl.load(trained.path, "cpu").sample(3, density="gmm-2")
    with monkeypatch.context() as patch:
        disk = Disk(patch, trained.path / "densities" / "gmm-2", error)
        with pytest.raises(raised):
            raectl.load(trained.path, "cpu").fit_density("gmm", components=2, covariance="diag")
    assert disk.failed == 1
    assert tree(trained.path) == before
    checkpoint = raectl.load(trained.path, "cpu")
    assert np.array_equal(checkpoint.sample(3, density="gmm-2"), samples)
    checkpoint.fit_density("gmm", components=2, covariance="diag")
    assert not np.array_equal(checkpoint.sample(3, density="gmm-2"), samples)
    no_leftovers(trained.path)


KILL = """
import os, pathlib, sys
from raectl.storage import atomic
usual = pathlib.Path.replace
def replace(self, target):
    usual(self, target)
    os._exit(9)
pathlib.Path.replace = replace
with atomic.atomic_directory(pathlib.Path(sys.argv[1])) as temporary:
    (temporary / "density.json").write_text("{}")
"""


def kill_between_renames(path: Path) -> None:
    """A process of its own dies after it has moved `path` away."""
    done = subprocess.run([sys.executable, "-c", KILL, str(path)], check=False)
    assert done.returncode == 9
    assert not path.exists()
    assert (path.parent / f".tmp-old-{path.name}").is_dir()


COMMANDS = [
    "info {ckpt} --json",
    "sample {ckpt} -n 2 -o {out}.npz",
    "sample {ckpt} -n 2 --density gmm-2 -o {out}.npy",
    "reconstruct {ckpt} --data {data} -o {out}.npz",
    "interpolate {ckpt} --data {data} -o {out}.png",
    "fit-density {ckpt} --density gaussian --name other",
    "train --resume --out {ckpt} --epochs 3",
    "train --resume --out {ckpt} --dry-run",
]


@pytest.mark.parametrize("what", ["", "densities/gmm-2"], ids=["run", "density"])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.split()[0])
def test_after_a_kill_between_the_renames_any_command_uses_the_former(
    cli: Cli, trained: Any, tmp_path: Path, command: str, what: str
) -> None:
    before = tree(trained.path)
    kill_between_renames(trained.path / what)
    result = cli(*command.format(ckpt=trained.path, out=tmp_path / "out", data=trained.data).split())
    assert {"gaussian", "gmm-2"} <= {*raectl.load(trained.path, "cpu").densities()}
    if command.startswith("info"):
        assert [density["name"] for density in result.json["densities"]] == ["gaussian", "gmm-2"]
    after = tree(trained.path)
    for name in ("densities/gmm-2/density.safetensors", "densities/gmm-2/density.json"):
        assert after[name] == before[name]
    if not command.startswith(("fit-density", "train")):
        assert after["model.safetensors"] == before["model.safetensors"]


def test_after_a_kill_between_the_renames_a_new_run_is_refused_and_an_overwriting_one_is_not(
    cli: Cli, trained: Any, tmp_path: Path
) -> None:
    before = tree(trained.path)
    options = ("--image-size", 12, "--width", 2, "--latent-dim", 3, "--batch-size", 16, "--epochs", 1)
    kill_between_renames(trained.path)
    result = cli.run("train", "--data", trained.data, "--out", trained.path, *options)
    assert_clear_error(result, 2, f"{trained.path} exists", "--overwrite")
    assert tree(trained.path) == before
    kill_between_renames(trained.path)
    cli("train", "--data", trained.data, "--out", trained.path, "--overwrite", *options)
    assert raectl.load(trained.path, "cpu").latent_dim == 3
    assert not (tmp_path / ".tmp-old-ckpt").exists()


def test_after_a_kill_between_the_renames_densities_of_latents_alone_are_found(cli: Cli, tmp_path: Path) -> None:
    latents, directory = tmp_path / "z.npy", tmp_path / "only"
    np.save(latents, np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32))
    cli("fit-density", directory, "--latents", latents, "--density", "gaussian")
    kill_between_renames(directory / "densities" / "gaussian")
    assert cli("info", directory, "--json").json["densities"][0]["name"] == "gaussian"
    kill_between_renames(directory / "densities" / "gaussian")
    cli("sample", directory, "-n", 2, "-o", tmp_path / "out.npy")
    kill_between_renames(directory / "densities" / "gaussian")
    cli("fit-density", directory, "--latents", latents, "--density", "gaussian", "--name", "other")
    assert [entry.name for entry in fitted.list_fitted(Directory(directory))] == ["gaussian", "other"]
    no_leftovers(directory)


def test_recover_all_brings_back_only_what_is_missing(tmp_path: Path) -> None:
    for name in (".tmp-old-gone", ".tmp-old-there", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "of").write_text(name)
    recover_all(tmp_path)
    found = {path.name: (path / "of").read_text() for path in tmp_path.iterdir()}
    assert found == {"gone": ".tmp-old-gone", "there": "there", ".tmp-old-there": ".tmp-old-there"}
    recover(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
