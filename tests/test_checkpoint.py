"""The checkpoint directory: damage is noticed, a kill leaves it whole, and the training loop's promises hold."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_helpers import Cli, assert_clear_error, assert_same_run, no_leftovers, tree, write_pictures

import raectl
from raectl import files, registry, store
from raectl.checkpoint import Checkpoint
from raectl.data import open_dataset, split
from raectl.directory import Directory
from raectl.errors import RaectlError, UsageError
from raectl.schedule import plateau
from raectl.state import Position, TrainingState
from raectl.trainer import Run, train

SMALL: dict[str, Any] = {"image_size": 12, "width": 2, "latent_dim": 4, "batch_size": 16, "device": "cpu"}


class KilledError(BaseException):
    """Not an Exception, so nothing handles it: the process ends here."""


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("checkpoint") / "images", 60)


# -- damage ----------------------------------------------------------------------------------------------------------

USES = {  # file: the command that reads it
    "model.safetensors": "sample {} -o {}.npz",
    "training.safetensors": "train --resume --out {} --epochs 3",
    "densities/gmm-2/density.safetensors": "sample {} -o {}.npz",
}


def cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


def flip_value(content: bytes) -> bytes:
    return content[:-5] + bytes([content[-5] ^ 4]) + content[-4:]


def flip_header(content: bytes) -> bytes:
    place = content.index(b'"F')  # within a type's name
    return content[: place + 1] + b"X" + content[place + 2 :]


def huge_header(content: bytes) -> bytes:
    return (2**60).to_bytes(8, "little") + content[8:]


DAMAGE = {"cut": cut, "flipped": flip_value, "header": flip_header, "huge": huge_header, "empty": lambda _: b""}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("file", USES)
def test_a_damaged_file_is_refused(cli: Cli, trained: Any, tmp_path: Path, file: str, damage: Any) -> None:
    path = trained.path / file
    path.write_bytes(damage(path.read_bytes()))
    before = tree(tmp_path)
    result = cli.run(*USES[file].format(trained.path, tmp_path / "out").split())
    assert_clear_error(result, 1, str(path))
    assert tree(tmp_path) == before


@pytest.mark.parametrize("file", USES)
def test_a_missing_file_is_named(cli: Cli, trained: Any, tmp_path: Path, file: str) -> None:
    (trained.path / file).unlink()
    result = cli.run(*USES[file].format(trained.path, tmp_path / "out").split())
    assert_clear_error(result, 1, str(trained.path / file), "cannot read")


def test_values_that_are_not_finite_are_refused(trained: Any) -> None:
    arrays, metadata = files.read_arrays(trained.path / "model.safetensors")
    name = next(name for name in arrays if arrays[name].ndim > 1)
    arrays[name].flat[0] = np.nan
    refit(trained.path, arrays, metadata)
    with pytest.raises(RaectlError, match="not finite"):
        raectl.load(trained.path)


@pytest.mark.parametrize("change", ["shape", "dtype", "missing", "extra"])
def test_weights_of_another_model_are_refused(trained: Any, change: str) -> None:
    arrays, metadata = files.read_arrays(trained.path / "model.safetensors")
    name = next(name for name in arrays if arrays[name].ndim > 1)
    if change == "shape":
        arrays[name] = arrays[name][:-1]
    elif change == "dtype":
        arrays[name] = arrays[name].astype(np.float64)
    elif change == "missing":
        del arrays[name]
    else:
        arrays["something.else"] = np.zeros(3, np.float32)
    refit(trained.path, arrays, metadata)
    with pytest.raises(RaectlError, match="does not hold this model's weights"):
        raectl.load(trained.path)


def refit(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Write weights whose digest config.json knows, so that only their content can be at fault."""
    files.write_arrays(path / "model.safetensors", arrays, metadata)
    edit(
        path / "config.json",
        lambda record: record["weights"].update(sha256=files.file_digest(path / "model.safetensors")),
    )


def edit(path: Path, change: Any) -> None:
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


EDITS: dict[str, tuple[Any, str]] = {
    "no model field": (lambda r: r.pop("config"), "damaged"),
    "no data": (lambda r: r.pop("data"), "damaged"),
    "no weights": (lambda r: r.pop("weights"), "digests differ"),
    "unknown option": (lambda r: r["config"].update(colour=3), "colour"),
    "unknown data field": (lambda r: r["data"].update(colour=3), "exactly the fields"),
    "missing data field": (lambda r: r["data"].pop("shape"), "exactly the fields"),
    "unknown data option": (lambda r: r["data"]["options"].update(colour=3), "damaged"),
    "newer": (lambda r: r.update(schema=2), "update raectl"),
    "no schema": (lambda r: r.pop("schema"), "not written by raectl"),
    "schema of another type": (lambda r: r.update(schema="1"), "not written by raectl"),
    "path for a model": (lambda r: r["config"].update(model="os:system"), "unknown model 'os:system'"),
    "path for an architecture": (lambda r: r["config"].update(arch="os:system"), "unknown architecture"),
    "path for a regularizer": (lambda r: r["config"].update(reg={"os:system": {}}), "unknown regularizer"),
    "path for a modality": (lambda r: r["data"].update(modality="os:system"), "unknown modality"),
    "huge width": (lambda r: r["config"].update(width=10**9), "--width"),
    "huge shape": (lambda r: r["data"].update(shape=[10**6, 10**6, 3]), "out of range"),
    "odd shape": (lambda r: r["data"].update(shape=[16, "16", 3]), "out of range"),
    "two axes": (lambda r: r["data"].update(shape=[16, 16]), ""),
    "other channels": (lambda r: r["data"].update(shape=[16, 16, 1]), ""),
    "unresolved latent_dim": (lambda r: r["config"].update(latent_dim=None), ""),
    "unresolved arch": (lambda r: r["config"].update(arch=None), ""),
    "other width": (lambda r: r["config"].update(width=3), "does not hold this model's weights"),
    "other weights": (lambda r: r["weights"].update(sha256="0" * 64), "digests differ"),
    "unknown regularizer option": (lambda r: r["config"]["reg"]["tikhonov"].update(depth=3), ""),
}  # fmt: skip


@pytest.mark.parametrize(("change", "match"), EDITS.values(), ids=EDITS)
def test_a_configuration_that_was_tampered_with_is_refused(
    cli: Cli, trained: Any, tmp_path: Path, change: Any, match: str
) -> None:
    edit(trained.path / "config.json", change)
    result = cli.run("sample", trained.path, "-o", tmp_path / "out.npz")
    assert_clear_error(result, result.code, match)
    assert result.code in (1, 2)
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"schema": NaN}', "\x00"])
def test_a_configuration_that_is_no_record_is_refused(cli: Cli, trained: Any, text: str) -> None:
    (trained.path / "config.json").write_text(text)
    assert_clear_error(cli.run("info", trained.path), 1, "config.json")


def test_a_configuration_is_never_read_without_bound(trained: Any) -> None:
    with open(trained.path / "config.json", "ab") as file:
        file.truncate(20 * 2**20)
    with pytest.raises(RaectlError, match="too large"):
        raectl.load(trained.path)


DENSITY_EDITS: dict[str, tuple[Any, str]] = {
    "no kind": (lambda r: r.pop("kind"), "damaged"),
    "path for a kind": (lambda r: r.update(kind="os:system"), "unknown density"),
    "unknown field": (lambda r: r.update(colour=3), "damaged"),
    "order as text": (lambda r: r.update(order="2"), "damaged"),
    "options as a list": (lambda r: r.update(options=[]), "damaged"),
    "unknown option": (lambda r: r["options"].update(colour=3), "colour"),
    "other option": (lambda r: r["options"].update(components=7), ""),
    "other covariance": (lambda r: r["options"].update(covariance="diag"), ""),
    "other digest": (lambda r: r.update(arrays="0" * 64), "digest"),
    "other weights": (lambda r: r.update(weights="0" * 64), "other weights"),
    "other kind": (lambda r: r.update(kind="gaussian"), ""),
}


@pytest.mark.parametrize(("change", "match"), DENSITY_EDITS.values(), ids=DENSITY_EDITS)
def test_a_density_that_was_tampered_with_is_refused(
    cli: Cli, trained: Any, tmp_path: Path, change: Any, match: str
) -> None:
    edit(trained.path / "densities" / "gmm-2" / "density.json", change)
    result = cli.run("sample", trained.path, "--density", "gmm-2", "-o", tmp_path / "out.npz")
    assert_clear_error(result, result.code, match)
    assert result.code in (1, 2)
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("text", ["", "[]", "null", "3"])
def test_a_density_that_is_no_record_is_refused(cli: Cli, trained: Any, tmp_path: Path, text: str) -> None:
    (trained.path / "densities" / "gmm-2" / "density.json").write_text(text)
    assert_clear_error(cli.run("sample", trained.path, "-o", tmp_path / "out.npz"), 1, "density.json")


def test_no_file_is_a_pickle_and_no_path_is_recorded_in_the_card(trained: Any) -> None:
    for path in trained.path.rglob("*"):
        if path.is_file():
            assert path.suffix in (".json", ".jsonl", ".safetensors", ".png", ".md"), path
    assert str(trained.data) not in (trained.path / "README.md").read_text()
    assert "import" not in (trained.path / "config.json").read_text()


# -- killed at any moment --------------------------------------------------------------------------------------------


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


@pytest.fixture(scope="session")
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


def train_settings(path: Path, epochs: int) -> raectl.Config:
    from raectl.trainer import checked_for_resume

    return checked_for_resume(Directory(path), {"epochs": epochs})


def test_a_kill_between_the_two_files_of_a_publication(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = Directory(trained.path)
    before = raectl.load(trained.path, "cpu")
    config, summary, record = directory.read_config()
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
    assert torch.equal(between.sample(3), before.sample(3)), "its densities are still those of its weights"
    monkeypatch.undo()
    directory.publish(config, summary, arrays, 9, 2)
    assert raectl.load(trained.path, "cpu").epoch == 9


def test_an_interrupted_exchange_of_directories_is_put_right(cli: Cli, trained: Any, tmp_path: Path) -> None:
    densities = trained.path / "densities"
    (densities / "gmm-2").rename(densities / ".tmp-old-gmm-2")
    (densities / ".tmp-half").mkdir()
    (densities / ".tmp-half" / "density.json").write_text("{")
    assert raectl.load(trained.path, "cpu").densities() == ("gaussian",), "what is half-written is no density"
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
    files.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gone", "kept", "there"]


def test_a_density_replaces_its_former_self_or_nothing(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(trained.path)
    monkeypatch.setattr(store.files, "write_json", lambda *_: (_ for _ in ()).throw(OSError(28, "No space")))
    with pytest.raises(RaectlError, match="cannot write"):
        raectl.load(trained.path, "cpu").fit_density("gmm", components=2, seed=5)
    assert tree(trained.path) == before


# -- latents, log, split ---------------------------------------------------------------------------------------------


def test_latents_are_encoded_once(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(trained.path / "latents")
    counted: list[int] = []
    usual = Checkpoint.encode_blocks

    def counting(self: Checkpoint, items: Any) -> Any:
        counted.append(len(items))
        return usual(self, items)

    monkeypatch.setattr(Checkpoint, "encode_blocks", counting)
    checkpoint = raectl.load(trained.path, "cpu")
    first = checkpoint.fit_density("gaussian", name="first")
    assert counted == [60]
    again = raectl.load(trained.path, "cpu").fit_density("gaussian", name="again")
    assert counted == [60], "the second fit finds them"
    assert again.latents == first.latents
    (cache,) = (trained.path / "latents").iterdir()
    cache.write_bytes(flip_value(cache.read_bytes()))
    repaired = checkpoint.fit_density("gaussian", name="repaired")
    assert counted == [60, 60], "damaged, so encoded again"
    assert repaired.latents == first.latents
    arrays, metadata = files.read_arrays(cache)
    files.write_arrays(cache, {"z": arrays["z"] + 1}, {**metadata, "weights": "0" * 64})
    other = checkpoint.fit_density("gaussian", name="other")
    assert counted == [60, 60, 60], "of other weights, so encoded again"
    assert other.latents == first.latents


def test_latents_of_former_weights_are_forgotten(trained: Any) -> None:
    (before,) = (trained.path / "latents").iterdir()
    checkpoint = train(train_settings(trained.path, 6), trained.data, trained.path, resume=True)
    assert checkpoint.epoch > 2
    checkpoint.fit_density("gaussian")
    (after,) = (trained.path / "latents").iterdir()
    assert before.name != after.name


def test_the_log_is_cut_back_to_the_state(data: Path, three_epochs: tuple[Path, Path], tmp_path: Path) -> None:
    whole, one = three_epochs
    out = Path(shutil.copytree(one, tmp_path / "out"))
    line = json.loads((out / "log.jsonl").read_text())
    with open(out / "log.jsonl", "a") as file:  # a kill after the log was written and before the state was
        file.write(json.dumps({**line, "epoch": 2, "train": {"loss": -1.0}}) + "\n" + '{"epoch": 3, "tra')
    assert len(Directory(out).read_log()) == 2, "a half line is no line"
    train(train_settings(out, 3), data, out, resume=True)
    assert_same_run(whole, out)


@pytest.mark.parametrize("n", [2, 3, 10, 60, 1797])
@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.1, 0.5, 0.9])
def test_validation_items_are_no_training_items(n: int, fraction: float) -> None:
    for seed in (0, 1):
        train_rows, val_rows = split(n, fraction, seed)
        assert sorted([*train_rows, *val_rows]) == list(range(n)), "each item is in exactly one of them"
        assert len(train_rows) >= 1
        assert (len(val_rows) > 0) == (fraction > 0)


def test_only_training_items_are_trained_on(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained_on: set[int] = set()
    validated_on: list[int] = []
    usual = Run._terms

    def watching(self: Run, rows: np.ndarray, generator: Any) -> Any:
        if self.model.training:
            trained_on.update(rows.tolist())
        else:
            validated_on.extend(rows.tolist())
        return usual(self, rows, generator)

    monkeypatch.setattr(Run, "_terms", watching)
    checkpoint = train(raectl.Config(**SMALL, epochs=4), data, tmp_path / "out")
    expected_train, expected_val = split(60, 0.1, 0)
    assert trained_on <= set(expected_train.tolist())
    assert len(trained_on) > 48, "the dropped batch is another one at every epoch"
    assert validated_on == expected_val.tolist() * 4
    fit = checkpoint.fit_density("gaussian")
    assert (fit.n_train, fit.n_held_out) == (54, 6), "a density is judged on the items that training has not seen"


def test_an_epoch_visits_an_item_at_most_once(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    visited: list[int] = []
    usual = Run._step

    def watching(self: Run, rows: np.ndarray) -> None:
        visited.extend(rows.tolist())
        usual(self, rows)

    monkeypatch.setattr(Run, "_step", watching)
    config = raectl.Config(**{**SMALL, "batch_size": 9}, epochs=2)
    train(config, data, tmp_path / "out")
    first, second = visited[:54], visited[54:]
    assert sorted(first) == sorted(second) == split(60, 0.1, 0)[0].tolist()
    assert first != second, "in another order"


def test_without_a_validation_share_the_training_loss_decides(data: Path, tmp_path: Path) -> None:
    checkpoint = train(raectl.Config(**SMALL, epochs=2, val_fraction=0.0), data, tmp_path / "out")
    log = checkpoint.directory.read_log()
    assert [line["validation"] for line in log] == [None, None]
    assert checkpoint.epoch == min(log, key=lambda line: line["train"]["loss"])["epoch"]
    assert checkpoint.fit_density("gaussian").held_out is None


def test_every_term_is_in_the_log_and_adds_up(data: Path, tmp_path: Path) -> None:
    config = raectl.Config(**SMALL, epochs=1, beta=0.5, reg={"tikhonov": 0.25, "gradient-penalty": 0.125})
    (line,) = train(config, data, tmp_path / "out").directory.read_log()
    for terms in (line["train"], line["validation"]):
        assert {"loss", "reconstruction", "latent", "tikhonov", "gradient-penalty"} == set(terms)
        total = (
            terms["reconstruction"]
            + 0.5 * terms["latent"]
            + 0.25 * terms["tikhonov"]
            + 0.125 * terms["gradient-penalty"]
        )
        assert terms["loss"] == pytest.approx(total, rel=1e-4)
    assert line["train"]["gradient-penalty"] > 0


# -- the best and the last -------------------------------------------------------------------------------------------


def test_the_best_weights_stay_what_they_were(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training goes on in place; the weights kept for use must not go with it."""
    usual = Run._validate
    monkeypatch.setattr(Run, "_validate", lambda self: {**usual(self), "loss": float(self.position.epoch)})
    config = raectl.Config(**SMALL, epochs=1)
    first = train(config, data, tmp_path / "one")
    later = train(config.replace(epochs=3), data, tmp_path / "three")
    assert first.epoch == later.epoch == 1
    one, three = (files.read_arrays(path / "model.safetensors")[0] for path in (tmp_path / "one", tmp_path / "three"))
    assert [name for name in one if not np.array_equal(one[name], three[name])] == []
    state = TrainingState.read(tmp_path / "three" / "training.safetensors")
    assert all(not np.array_equal(state.last[n], state.best[n]) for n in state.last if state.last[n].ndim > 1)


# -- the schedule ----------------------------------------------------------------------------------------------------

#   losses, and the rate after each of them, in units of the first
SCHEDULES: dict[str, tuple[str, list[float], list[float]]] = {
    "gains": ("relative", [10, 9, 8, 7, 6, 5, 4, 3], [1] * 8),
    "five epochs": ("relative", [10, 10, 10, 10, 10, 10, 10], [1, 1, 1, 1, 1, 0.5, 0.5]),
    "halved twice": ("relative", [10] * 11, [1] * 5 + [0.5] * 5 + [0.25]),
    "a gain starts the count again": ("relative", [10, 11, 11, 11, 11, 9, 9, 9, 9, 9, 9], [1] * 10 + [0.5]),
    "a gain too small": ("relative", [10, 9.9995, 9.9994, 9.9993, 9.9992, 9.9991], [1] * 5 + [0.5]),
    "small gains that add up": ("relative", [10, 9.9995, 9.9989, 9.9989, 9.9989, 9.9989], [1] * 6),
    "relative to a large loss": ("relative", [1000, 999.95, 999.94, 999.93, 999.92, 999.91], [1] * 5 + [0.5]),
    "absolute on a large loss": ("absolute", [1000, 999.95, 999.94, 999.93, 999.92, 999.91], [1] * 6),
    "absolute on a small loss": ("absolute", [1e-3, 9.5e-4, 9.4e-4, 9.3e-4, 9.2e-4, 9.1e-4], [1] * 5 + [0.5]),
    "relative on a small loss": ("relative", [1e-3, 9.5e-4, 9.4e-4, 9.3e-4, 9.2e-4, 9.1e-4], [1] * 6),
    "a negative loss": ("relative", [-10, -10.0005, -10.0005, -10.0005, -10.0005, -10.0005], [1] * 5 + [0.5]),
}  # fmt: skip


@pytest.mark.parametrize(("mode", "losses", "rates"), SCHEDULES.values(), ids=SCHEDULES)
def test_plateau(mode: str, losses: list[float], rates: list[float]) -> None:
    position, seen = Position(lr=1.0), []
    for loss in losses:
        plateau(position, loss, mode)
        seen.append(position.lr)
    assert seen == rates


def test_the_rate_has_a_floor() -> None:
    position = Position(lr=1.0)
    for _ in range(1000):
        plateau(position, 1.0, "relative")
    assert position.lr == 1e-8


def test_the_optimizer_gets_the_rate(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    usual = Run._step

    def watching(self: Run, rows: np.ndarray) -> None:
        rates.append(self.optimizer.param_groups[0]["lr"])
        usual(self, rows)

    monkeypatch.setattr(Run, "_step", watching)
    validate = Run._validate
    monkeypatch.setattr(Run, "_validate", lambda self: {**validate(self), "loss": 1.0})
    train(raectl.Config(**SMALL, epochs=7), data, tmp_path / "out")
    assert rates == [1e-3] * 18 + [5e-4] * 3


# -- divergence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run(
    cli: Cli, trained: Any, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    whole = Path(shutil.copytree(trained.path, trained.path.parent / "whole"))
    cli("train", "--resume", "--out", whole, "--epochs", 5)
    usual = Run._terms

    def diverging(self: Run, rows: np.ndarray, generator: Any) -> Any:
        terms = usual(self, rows, generator)
        return terms * value if self.position.epoch == 3 else terms

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_terms", diverging)
        result = cli.run("train", "--resume", "--out", trained.path, "--epochs", 5)
    assert_clear_error(result, 1, "no longer finite at epoch 4", str(trained.path), "lower --lr")
    checkpoint = raectl.load(trained.path, "cpu")
    assert bool(checkpoint.decode(torch.zeros(1, 4)).isfinite().all())
    assert len(checkpoint.directory.read_log()) == 3
    cli("train", "--resume", "--out", trained.path)
    assert_same_run(whole, trained.path)


def test_a_rate_far_too_high_diverges_clearly(cli: Cli, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = (
        "--image-size",
        12,
        "--width",
        2,
        "--batch-size",
        16,
        "--epochs",
        6,
        "--precision",
        "fp32",
        "--beta",
        1e6,
    )
    result = cli.run("train", "--data", data, "--out", out, *options, "--lr", 10, "--model", "vae")
    if result.code:  # whether it does is up to the machine; that the state is good is not
        assert_clear_error(result, 1, "finite", "--lr")
    assert bool(raectl.load(out, "cpu").decode(torch.zeros(1, 64)).isfinite().all())
    for line in Directory(out).read_log():
        assert np.isfinite([*line["train"].values(), *line["validation"].values()]).all()


# -- replacing and refusing ------------------------------------------------------------------------------------------


def test_overwriting_puts_a_new_run_in_the_place_of_the_old(cli: Cli, trained: Any) -> None:
    options = ("--image-size", 12, "--width", 2, "--latent-dim", 3, "--batch-size", 16, "--epochs", 1)
    cli("train", "--data", trained.data, "--out", trained.path, "--overwrite", *options)
    checkpoint = raectl.load(trained.path, "cpu")
    assert checkpoint.latent_dim == 3
    assert checkpoint.densities() == ()
    assert len(checkpoint.directory.read_log()) == 1
    no_leftovers(trained.path.parent)


def test_the_api_refuses_as_the_command_does(trained: Any, tmp_path: Path) -> None:
    config = raectl.Config(**SMALL, epochs=1)
    with pytest.raises(UsageError, match="exists"):
        train(config, trained.data, trained.path)
    with pytest.raises(UsageError, match="exclude each other"):
        train(config, trained.data, trained.path, resume=True, overwrite=True)
    with pytest.raises(RaectlError, match="does not exist"):
        train(config, trained.data, tmp_path / "a" / "b")


def test_a_directory_that_vanishes_is_noticed(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Run._step

    def vanishing(self: Run, rows: np.ndarray) -> None:
        usual(self, rows)
        if self.position.step == 4:
            shutil.rmtree(self.directory.path)

    monkeypatch.setattr(Run, "_step", vanishing)
    with pytest.raises(RaectlError, match=r"vanished|cannot write"):
        train(raectl.Config(**SMALL, epochs=3), data, tmp_path / "out")
    assert tree(tmp_path) == {}


def test_arrays_in_memory_train_too_but_are_not_found_again(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (40, 12, 12, 1), dtype=np.uint8)
    checkpoint = train(raectl.Config(**SMALL, epochs=1), x, tmp_path / "out")
    with pytest.raises(RaectlError, match="--data"):
        checkpoint.fit_density("gaussian")
    assert checkpoint.fit_density("gaussian", x).n_train == 36


@pytest.mark.parametrize("model", registry.names("model"))
def test_every_model_goes_the_whole_way(data: Path, tmp_path: Path, model: str) -> None:
    checkpoint = train(raectl.Config(**SMALL, model=model, epochs=1), data, tmp_path / "out")
    items = open_dataset(data, checkpoint.data.options).items
    assert checkpoint.encode(items).shape == (60, 4)
    x_hat = checkpoint.reconstruct(items[:3])
    assert x_hat.shape == (3, 3, 12, 12)
    assert 0 <= x_hat.min() <= x_hat.max() <= 1
    checkpoint.fit_density("gmm", components=2)
    assert checkpoint.sample(5).shape == (5, 3, 12, 12)
    assert checkpoint.log_prob(items).shape == (60,)
