"""The checkpoint directory: damage and tampering are noticed, and named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.checkpoints import edit, flip_value
from support.cli import Cli, assert_clear_error, tree

import raectl
from raectl.checkpoint.directory import Directory
from raectl.errors import RaectlError
from raectl.storage import records
from raectl.storage.arrays import file_digest, read_arrays, write_arrays

USES = {  # file: the command that reads it
    "model.safetensors": "sample {} -o {}.npz",
    "training.safetensors": "train --resume --out {} --epochs 3",
    "densities/gmm-2/density.safetensors": "sample {} -o {}.npz",
}


def cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


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
    arrays, metadata = read_arrays(trained.path / "model.safetensors", Any)
    name = next(name for name in arrays if arrays[name].ndim > 1)
    arrays[name].flat[0] = np.nan
    refit(trained.path, arrays, metadata)
    with pytest.raises(RaectlError, match="not finite"):
        raectl.load(trained.path)


@pytest.mark.parametrize("change", ["shape", "dtype", "missing", "extra"])
def test_weights_of_another_model_are_refused(trained: Any, change: str) -> None:
    arrays, metadata = read_arrays(trained.path / "model.safetensors", Any)
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
    with pytest.raises(RaectlError, match="holds other arrays than it should"):
        raectl.load(trained.path)


def refit(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Write weights whose digest config.json knows, so that only their content can be at fault."""
    write_arrays(path / "model.safetensors", arrays, metadata)
    edit(path / "config.json", lambda record: record["weights"].update(sha256=file_digest(path / "model.safetensors")))


EDITS: dict[str, tuple[Any, str]] = {
    "no model field": (lambda r: r.pop("config"), "damaged"),
    "no data": (lambda r: r.pop("data"), "damaged"),
    "no weights": (lambda r: r.pop("weights"), "missing required field `weights`"),
    "unknown option": (lambda r: r["config"].update(colour=3), "colour"),
    "unknown data field": (lambda r: r["data"].update(colour=3), "'colour' is unknown"),
    "missing data field": (lambda r: r["data"].pop("shape"), "missing required field `shape`"),
    "unknown data option": (lambda r: r["data"]["options"].update(colour=3), "damaged"),
    "newer": (lambda r: r.update(schema=99), "update raectl"),
    "of 0.1": (lambda r: r.update(schema=1), "raectl 0.1, which this version does not open: train it again"),
    "no schema": (lambda r: r.pop("schema"), "not written by raectl"),
    "schema of another type": (lambda r: r.update(schema="2"), "not written by raectl"),
    "path for a model": (lambda r: r["config"].update(model="os:system"), "unknown model 'os:system'"),
    "path for an architecture": (lambda r: r["config"].update(arch="os:system"), "unknown architecture"),
    "path for a regularizer": (lambda r: r["config"].update(reg={"os:system": {}}), "unknown regularizer"),
    "path for a modality": (lambda r: r["data"].update(modality="os:system"), "unknown modality"),
    "huge width": (lambda r: r["config"].update(width=10**9), "--width"),
    "huge shape": (lambda r: r["data"].update(shape=[10**6, 10**6, 3]), "out of range"),
    "one row more than the largest": (lambda r: r["data"].update(shape=[513, 512, 64]), "out of range"),
    "no rows": (lambda r: r["data"].update(shape=[0, 16, 3]), "out of range"),
    "odd shape": (lambda r: r["data"].update(shape=[16, "16", 3]), "got `str` - at `$.data.shape[1]`"),
    "two axes": (lambda r: r["data"].update(shape=[16, 16]), ""),
    "other channels": (lambda r: r["data"].update(shape=[16, 16, 1]), ""),
    "unresolved latent_dim": (lambda r: r["config"].update(latent_dim=None), ""),
    "unresolved batch_size": (lambda r: r["config"].update(batch_size=None), "an option without a value"),
    "another grammar": (lambda r: r["config"].update(grammar="S -> 'x'"), "not that of the data"),
    "unresolved arch": (lambda r: r["config"].update(arch=None), ""),
    "other width": (lambda r: r["config"].update(width=3), "holds other arrays than it should"),
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


def test_integers_of_64_bits_are_read_and_longer_ones_are_not() -> None:
    assert records.parse(f"[{2**64 - 1}, {-(2**63)}]", Any) == [2**64 - 1, -(2**63)]
    for text in (str(2**64), f"-{2**64}", "9" * 5000):
        with pytest.raises(ValueError, match="too large a number"):
            records.parse(text, Any)


@pytest.mark.parametrize("fails", [False, True])
def test_a_reader_that_met_a_replacement_reads_again(trained: Any, fails: bool) -> None:
    directory, read = Directory(trained.path), []

    def meet_it_once() -> str:
        read.append(directory.config.read_bytes())
        if len(read) == 1:
            (trained.path / "new").write_bytes(read[0])
            (trained.path / "new").replace(directory.config)
            if fails:
                raise RaectlError("half of it is new")
        return "old and new" if len(read) == 1 else "new"

    assert directory.read_consistently(meet_it_once) == "new"
    assert len(read) == 2


def test_damage_that_nobody_replaces_is_met_once(trained: Any) -> None:
    met = []

    def meet() -> None:
        met.append(1)
        raise RaectlError("damaged")

    with pytest.raises(RaectlError, match="damaged"):
        Directory(trained.path).read_consistently(meet)
    assert met == [1]


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
    "other weights": (lambda r: r.update(encoder="0" * 64), "other weights"),
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
    assert "raectl." not in (trained.path / "config.json").read_text()  # names of the registry, no paths to import


# -- what else may lie there -----------------------------------------------------------------------------------------


def test_what_a_file_manager_or_an_editor_hides_is_no_density(cli: Cli, trained: Any, tmp_path: Path) -> None:
    densities = trained.path / "densities"
    (densities / ".ipynb_checkpoints").mkdir()
    (densities / ".ipynb_checkpoints" / "density-checkpoint.json").write_text("{")
    (densities / ".DS_Store").write_bytes(b"\x00\x01Bud1")
    (trained.path / ".DS_Store").write_bytes(b"\x00\x01Bud1")
    assert raectl.load(trained.path, "cpu").densities() == ("gaussian", "gmm-2")
    assert len(cli("info", trained.path, "--json").json["densities"]) == 2
    cli("sample", trained.path, "-n", 2, "-o", tmp_path / "out.npz")
    cli("fit-density", trained.path, "--components", 3)
    cli("train", "--resume", "--out", trained.path, "--epochs", 3)
    assert (densities / ".DS_Store").exists() and (densities / ".ipynb_checkpoints").exists()


def test_hidden_entries_leave_a_directory_of_densities_one(cli: Cli, tmp_path: Path) -> None:
    latents, directory = tmp_path / "z.npy", tmp_path / "only"
    np.save(latents, np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32))
    cli("fit-density", directory, "--latents", latents, "--density", "gaussian")
    for place in (directory, directory / "densities"):
        (place / ".DS_Store").write_bytes(b"\x00")
        (place / ".ipynb_checkpoints").mkdir()
    assert Directory(directory).is_densities_only()
    cli("sample", directory, "-n", 2, "-o", tmp_path / "out.npy")
    cli("fit-density", directory, "--latents", latents, "--density", "gmm", "--components", 2)
    assert len(cli("info", directory, "--json").json["densities"]) == 2


NO_LINES = {
    "bytes": b"\xff\xfe",
    "a number": b"1\n",
    "both": b"\xff\xfe\n1\nnull\n[]\n{}\n",
    "deep": b"[" * 100_000 + b"\n",
    "other types": b'{"epoch": "2", "train": {}, "validation": null, "seconds": null}\n',
}


@pytest.mark.parametrize("line", NO_LINES.values(), ids=NO_LINES)
def test_a_damaged_log_breaks_nothing(cli: Cli, trained: Any, tmp_path: Path, line: bytes) -> None:
    log = trained.path / "log.jsonl"
    whole = log.read_bytes()
    log.write_bytes(line + b"\n" + whole)
    assert cli("info", trained.path, "--json").json["epochs_done"] == 2
    cli("sample", trained.path, "-n", 2, "-o", tmp_path / "out.npz")
    cli("train", "--resume", "--out", trained.path, "--epochs", 3, "--json")
    assert log.read_bytes().startswith(whole), "what is no line is gone"
    assert [entry["epoch"] for entry in Directory(trained.path).read_log()] == [1, 2, 3]


# -- what is not raectl's --------------------------------------------------------------------------------------------


def hugging_face(path: Path) -> None:
    (path / "config.json").write_text(json.dumps({"architectures": ["BertModel"], "model_type": "bert"}))
    (path / "model.safetensors").write_bytes(b"weights")
    (path / "tokenizer.json").write_text("{}")


def tables(path: Path) -> None:
    (path / "densities").mkdir()
    (path / "densities" / "cities.csv").write_text("Bern,2600")


def tables_in_folders(path: Path) -> None:
    (path / "densities" / "bern").mkdir(parents=True)
    (path / "densities" / "bern" / "cities.csv").write_text("Bern,2600")


def densities_and_notes(path: Path) -> None:
    (path / "densities" / "gmm").mkdir(parents=True)
    (path / "densities" / "gmm" / "density.json").write_text("{}")
    (path / "notes.txt").write_text("mine")


def hidden_alone(path: Path) -> None:
    (path / "densities" / ".git").mkdir(parents=True)
    (path / "densities" / ".git" / "HEAD").write_text("ref: refs/heads/main")


def text(path: Path) -> None:
    (path / "config.json").write_text("{")


def listing(path: Path) -> None:
    (path / "config.json").write_text('["schema", "raectl", "config", "data", "weights"]')


FOREIGN = [hugging_face, tables, tables_in_folders, densities_and_notes, hidden_alone, text, listing]


@pytest.mark.parametrize("fill", FOREIGN)
def test_what_raectl_did_not_make_is_never_removed(cli: Cli, trained: Any, tmp_path: Path, fill: Any) -> None:
    out = tmp_path / "foreign"
    out.mkdir()
    fill(out)
    before = tree(out)
    assert not Directory(out).is_recognised()
    for overwrite in ([], ["--overwrite"]):
        result = cli.run("train", "--data", trained.data, "--out", out, "--epochs", 1, *overwrite)
        assert_clear_error(result, 1 if overwrite else 2, str(out))
        assert tree(out) == before
    assert Directory(trained.path).is_recognised()


def test_an_unfinished_line_does_not_swallow_the_next(trained: Any) -> None:
    directory = Directory(trained.path)
    measured = [{"metric": name, "value": 0.5, "of": "samples"} for name in ("kernel", "frechet")]
    directory.append_metrics(measured)
    with open(directory.metrics, "a") as file:
        file.write('{"metric": "half')
    directory.append_metrics(measured)
    assert directory.read_metrics() == 2 * measured
