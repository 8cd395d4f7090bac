"""The commands: what they print, what they write, and that the numbers are the right ones."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_helpers import ESCAPE, Cli, executable, picture, plain_words, tree, write_pictures
from PIL import Image

import raectl
from raectl.cli import demo, main

SMALL = ["--image-size", "12", "--width", "2", "--latent-dim", "4", "--batch-size", "16", "--epochs", "1"]
COMMANDS = tuple(main._COMMANDS)
README = Path(__file__).parent.parent / "README.md"
HEAVY = ("torch", "sklearn", "scipy", "numpy", "PIL")


# -- help ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_has_a_sentence_and_an_example(cli: Cli, command: str) -> None:
    result = cli(*command.split(), "--help")
    words = plain_words(result.out)
    assert f"Usage: raectl {command}".strip() in words
    assert re.search(r"[A-Z][^.]{20,}\.", words), "a sentence"
    assert f"Example: raectl {command} " in f"{words} " if command else "raectl demo" in words
    assert ESCAPE not in result.out
    assert result.err == ""
    if not command:
        assert all(name in words for name in COMMANDS)
    else:
        assert "--json" in words and "--debug" in words
        options = set(re.findall(r"--[a-z-]+", result.out)) - {"--help"}
        assert len(options) >= 2


def test_help_imports_nothing_heavy() -> None:
    script = f"""
import contextlib, io, sys
from raectl.cli import main
for command in {["", *COMMANDS]!r}:
    sys.argv = ["raectl", *command.split(), "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main._run() == 0
    assert "Usage" in out.getvalue()
import raectl
dir(raectl)
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_program_itself() -> None:
    done = subprocess.run([executable(), "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"raectl {raectl.__version__}\n"
    done = subprocess.run([executable(), "info", "/nowhere"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: /nowhere: no such directory\nhint: ")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_readme(command: str) -> None:
    assert f"raectl {command}" in README.read_text()


# -- every command with --json, and without --------------------------------------------------------------------------


def test_the_whole_way_in_json(cli: Cli, original: Any, tmp_path: Path) -> None:
    out = tmp_path / "ckpt"
    trained = cli("train", "--data", original.data, "--out", out, "--json", *SMALL)
    assert trained.json["checkpoint"] == str(out)
    assert (trained.json["epochs"], trained.json["best_epoch"]) == (1, 1)
    assert trained.json["train"].keys() == trained.json["validation"].keys() >= {"loss", "reconstruction", "latent"}
    assert "epoch 1/1" in trained.err, "talk goes to stderr"
    fit = cli("fit-density", out, "--components", 2, "--json").json
    assert (fit["density"], fit["kind"], fit["n"]) == ("gmm-2", "gmm", {"train": 54, "held_out": 6})
    assert set(fit["nats_per_dimension"]) == {"train", "held_out"}
    assert {"bic", "iterations", "converged"} <= set(fit["report"])
    auto = cli("fit-density", out, "--components", "auto", "--name", "auto", "--json").json
    assert [row["components"] for row in auto["tried"]][:3] == [1, 2, 5]
    best = max(auto["tried"], key=lambda row: row["heldout"])
    assert auto["options"]["components"] == best["components"]
    assert auto["nats_per_dimension"]["held_out"] == pytest.approx(best["heldout"])
    for density in ("gaussian", "standard-normal"):
        assert cli("fit-density", out, "--density", density, "--json").json["density"] == density
    sampled = cli("sample", out, "-n", 5, "-o", tmp_path / "s.png", "--json").json
    assert sampled == {"out": str(tmp_path / "s.png"), "n": 5, "density": "standard-normal", "seed": 0}
    pairs = cli("reconstruct", out, "--data", original.data, "-o", tmp_path / "p.png", "--json").json
    assert (pairs["n"], pairs["source"]) == (60, str(original.data))
    assert {"mse", "psnr", "ssim"} <= set(pairs)
    info = cli("info", out, "--json").json
    assert [d["name"] for d in info["densities"]] == ["gmm-2", "auto", "gaussian", "standard-normal"]
    assert (info["config"]["model"], info["epochs_done"], info["best"]["epoch"]) == ("rae", 1, 1)
    assert info["data"]["n"] == 60


def test_dry_run_resolves_and_creates_nothing(cli: Cli, original: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for flags in ((), ("--json",)):
        values = cli("train", "--data", original.data, "--out", out, "--dry-run", "--reg", "tikhonov", *flags).json
        config = values["config"]
        assert (config["image_size"], config["latent_dim"], config["arch"]) == (64, 64, "conv64")
        data_dim = 3 * 64 * 64
        assert config["reg"]["tikhonov"]["weight"] == pytest.approx(1e-7 * data_dim)
        assert config["beta"] == pytest.approx(2e-4 * data_dim / 64)
        assert config["precision"] in ("fp32", "bf16") and config["device"] != "auto"
        assert values["data"]["n"] == 60
        assert tree(tmp_path) == {}
    assert raectl.Config.from_dict(config).to_dict() == config


def test_demo(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "EPOCHS", 1)
    monkeypatch.setattr("raectl.build.has_bf16", lambda device: False)  # fast on every machine
    out = tmp_path / "demo"
    out.mkdir()
    (out / "config.json").write_text("{}")  # a former demo, as far as it can be told: it is replaced
    result = cli("demo", "--out", out, "--json")
    values = result.json
    for name in ("samples", "reconstructions"):
        with Image.open(values[name]) as image:
            assert min(image.size) > 64
            assert len(np.unique(np.asarray(image))) > 10
    assert values["mse"] < 0.2
    assert "raectl train --data digits" in result.err and "raectl fit-density" in result.err
    assert ESCAPE not in result.out + result.err
    assert raectl.load(out, "cpu").densities() == ("gmm-10",)


def test_talk_for_people_has_no_colours_in_a_pipe(cli: Cli, trained: Any, tmp_path: Path) -> None:
    path, out = trained.path, tmp_path / "out"
    for command in (
        ("info", path),
        ("fit-density", path, "--components", "auto"),
        ("sample", path, "-o", out.with_suffix(".png")),
        ("reconstruct", path, "--data", trained.data, "-o", out.with_suffix(".npz")),
        ("train", "--data", trained.data, "--out", out, *SMALL),
    ):
        result = cli(*command)
        assert result.out.strip()
        assert ESCAPE not in result.out + result.err
        assert "\r" not in result.out + result.err


def test_names_from_files_cannot_act_on_the_terminal(cli: Cli, tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "[bold]images\x1b[2J", 20)
    evil = data / "[red]x[red]\x1b[31m.png"
    evil.write_bytes(b"no image")
    out = tmp_path / "[blue]out\x1b[0m"
    for command in (
        ("train", "--data", data, "--out", out, *SMALL),
        ("fit-density", out, "--components", 2),
        ("info", out),
        ("info", out, "--json"),
        ("sample", out, "-o", tmp_path / "\x1b[1m.png"),
        ("reconstruct", out, "--data", data, "-o", tmp_path / "\x1b[1m.npz"),
    ):
        result = cli(*command)
        assert ESCAPE not in result.out + result.err, command
        if command[0] == "train":
            assert r"[red]x[red]\x1b[31m.png" in result.err
        if command == ("info", out):
            assert r"[blue]out\x1b[0m" in result.out
            assert r"[bold]images\x1b[2J" in result.out


# -- where options come from -----------------------------------------------------------------------------------------


def test_typed_options_win_over_the_file_over_the_preset(cli: Cli, original: Any, tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    file.write_text(
        f'data = "{original.data}"\nout = "{tmp_path / "run"}"\nwidth = 7\nbatch-size = 33\nreg = ["tikhonov=0.5"]\n'
    )
    dry = ("train", "--dry-run", "--preset", "mnist/rae-l2")
    preset = cli(*dry, "--data", original.data).json["config"]
    assert (preset["width"], preset["batch_size"], preset["lr"], preset["bn_momentum"]) == (128, 100, 5e-4, 0.01)
    assert preset["plateau"] == "absolute"
    assert preset["reg"] == {"tikhonov": {"weight": 1.024e-4}}
    values = cli(*dry, "--config", file).json
    config = values["config"]
    assert (config["width"], config["batch_size"], config["lr"]) == (7, 33, 5e-4)
    assert config["reg"] == {"tikhonov": {"weight": 0.5}}
    assert values["out"] == str(tmp_path / "run")
    assert values["data"]["source"] == str(original.data)
    config = cli(*dry, "--config", file, "--width", 9, "--reg", "none").json["config"]
    assert (config["width"], config["batch_size"], config["reg"]) == (9, 33, {})
    default = cli("train", "--dry-run", "--data", original.data).json["config"]
    assert (default["width"], default["batch_size"], default["lr"], default["plateau"]) == (32, 100, 1e-3, "relative")


# -- sample ----------------------------------------------------------------------------------------------------------


def test_samples_in_every_form(cli: Cli, original: Any, tmp_path: Path) -> None:
    outs = {suffix: tmp_path / f"out{suffix}" for suffix in (".png", ".npz", ".npy", "")}
    outs[".npz"].write_text("replaced")
    for out in outs.values():
        cli("sample", original.path, "-n", 10, "-o", out, "--density", "gmm-2", "--seed", 4)
    with np.load(outs[".npz"]) as arrays:
        assert arrays.files == ["images"]
        images = arrays["images"]
    assert (images.shape, images.dtype) == ((10, 16, 16, 3), np.uint8)
    names = sorted(path.name for path in outs[""].iterdir())
    assert names == [f"{index:06}.png" for index in range(10)]
    for name, image in zip(names, images, strict=True):
        assert np.array_equal(np.asarray(Image.open(outs[""] / name)), image)
    grid = np.asarray(Image.open(outs[".png"]))
    assert min(grid.shape[:2]) >= 2 * 64
    assert all(_contains(grid, image) for image in images)
    z = np.load(outs[".npy"])
    assert (z.shape, z.dtype) == ((10, 4), np.float32)
    checkpoint = raectl.load(original.path, "cpu")
    assert np.array_equal(checkpoint.modality.to_items(checkpoint.decode(z)), images), "the same draws, decoded"


def _contains(grid: np.ndarray, image: np.ndarray) -> bool:
    """Whether a picture holds an image, enlarged to 64 pixels as small ones are."""
    image = image.repeat(4, axis=0).repeat(4, axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(grid, image.shape)[:, :, 0]
    corner = np.argwhere((windows[:, :, 0, 0] == image[0, 0]).all(axis=-1))
    return any(np.array_equal(windows[y, x], image) for y, x in corner)


def test_the_last_fitted_density_is_the_default(cli: Cli, trained: Any, tmp_path: Path) -> None:
    def default() -> str:
        return cli("sample", trained.path, "-n", 1, "-o", tmp_path / "x.npy", "--json").json["density"]

    assert default() == "gmm-2"
    cli("fit-density", trained.path, "--density", "gaussian")
    assert default() == "gaussian", "fitted again, so it is the last"
    cli("fit-density", trained.path, "--components", 3, "--name", "a.b_c-1")
    assert default() == "a.b_c-1"
    assert raectl.load(trained.path).densities() == ("gmm-2", "gaussian", "a.b_c-1")
    orders = [d["order"] for d in cli("info", trained.path, "--json").json["densities"]]
    assert orders == sorted(set(orders))


def test_a_kind_names_a_density_if_only_one_has_it(cli: Cli, trained: Any, tmp_path: Path) -> None:
    sample = ("sample", trained.path, "-n", 1, "-o", tmp_path / "x.npy", "--density")
    assert cli(*sample, "gmm", "--json").json["density"] == "gmm-2"
    cli("fit-density", trained.path, "--components", 3)
    result = cli.run(*sample, "gmm")
    assert result.code == 2
    assert "more than one density of kind 'gmm'" in result.lines("error: ")[0]
    assert "gmm-2, gmm-3" in result.lines("hint: ")[0]
    cli("fit-density", trained.path, "--density", "gaussian", "--name", "gmm")
    assert cli(*sample, "gmm", "--json").json["density"] == "gmm", "a name comes before a kind"


def test_the_prior_of_a_vae_needs_no_fit(cli: Cli, original: Any, tmp_path: Path) -> None:
    out = tmp_path / "vae"
    cli("train", "--data", original.data, "--out", out, "--model", "vae", *SMALL)
    assert cli("sample", out, "-n", 2000, "-o", tmp_path / "z.npy", "--json").json["density"] == "prior"
    z = np.load(tmp_path / "z.npy")
    assert abs(z.mean()) < 4 / np.sqrt(z.size)
    assert abs(z.std() - 1) < 4 / np.sqrt(2 * z.size)


# -- fit-density -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_covariances(cli: Cli, trained: Any, tmp_path: Path, covariance: str) -> None:
    fit = cli(
        "fit-density", trained.path, "--components", 2, "--covariance", covariance, "--name", covariance, "--json"
    )
    assert fit.json["options"]["covariance"] == covariance
    checkpoint = raectl.load(trained.path, "cpu")
    train, _ = raectl.data.split(60, 0.1, 0)
    items = checkpoint.open_data().items[train]
    nats = float(checkpoint.log_prob(items, covariance).mean()) / 4
    assert fit.json["nats_per_dimension"]["train"] == pytest.approx(nats, rel=1e-6)
    cli("sample", trained.path, "-n", 3, "-o", tmp_path / "x.png")


def test_the_table_of_components(cli: Cli, trained: Any) -> None:
    result = cli("fit-density", trained.path, "--components", "auto")
    table = [line.split() for line in result.out.splitlines() if re.match(r"\s*\d+\s", line)]
    assert [int(row[0]) for row in table][:3] == [1, 2, 5]
    assert all(len(row) == 4 for row in table)
    for word in ("held out", "BIC", "nats per dimension", "converged"):
        assert word in result.out


def test_latents_of_anybody_s_encoder(cli: Cli, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(-3, 0.5, (300, 2)), rng.normal(3, 0.5, (300, 2))])
    np.save(tmp_path / "z.npy", z)
    out = tmp_path / "new"
    fit = cli("fit-density", out, "--latents", tmp_path / "z.npy", "--components", 2, "--json").json
    assert fit["n"] == {"train": 540, "held_out": 60}
    assert sorted(path.name for path in out.iterdir()) == ["densities"]
    result = cli("fit-density", out, "--latents", tmp_path / "z.npy", "--density", "gaussian")
    assert "raectl sample" in result.err and "latents.npy" in result.err
    cli("sample", out, "-n", 500, "--density", "gmm", "-o", tmp_path / "new.npy")
    drawn = np.load(tmp_path / "new.npy")
    assert (drawn.shape, drawn.dtype) == ((500, 2), np.float32)
    high = drawn[:, 0] > 0
    assert 0.4 < high.mean() < 0.6
    assert np.allclose(drawn[high].mean(axis=0), 3, atol=0.2)
    assert np.allclose(drawn[~high].std(axis=0), 0.5, atol=0.1)
    info = cli("info", out, "--json").json
    assert [d["name"] for d in info["densities"]] == ["gmm-2", "gaussian"]
    assert "gmm-2, gaussian" in cli("info", out).out


# -- reconstruct -----------------------------------------------------------------------------------------------------


def test_reconstructions_and_their_numbers(cli: Cli, original: Any, tmp_path: Path) -> None:
    reconstruct = ("reconstruct", original.path, "--data", original.data, "--json", "-o")
    values = cli(*reconstruct, tmp_path / "all.npz").json
    with np.load(tmp_path / "all.npz") as arrays:
        x, x_hat = arrays["originals"] / 255, arrays["images"] / 255
        assert arrays["images"].shape == (60, 16, 16, 3)
    mse = ((x - x_hat) ** 2).mean(axis=(1, 2, 3))
    # Rounding to bytes moves a value by half a byte at most.
    assert values["mse"] == pytest.approx(mse.mean(), abs=2 * np.abs(x - x_hat).mean() * 0.5 / 255 + 1e-5)
    assert values["psnr"] == pytest.approx((-10 * np.log10(mse)).mean(), abs=0.05)
    assert 0 < values["ssim"] < 1
    checkpoint = raectl.load(original.path, "cpu")
    items = checkpoint.open_data(original.data).items
    exact = (items / 255 - checkpoint.reconstruct(items).permute(0, 2, 3, 1).numpy().astype(np.float64)) ** 2
    assert values["mse"] == pytest.approx(exact.mean(), rel=1e-4)
    few = cli(*reconstruct, tmp_path / "few.npz", "-n", 7).json
    assert {**few, "out": ""} == {**values, "out": ""}, "the numbers are over all, whatever is written"
    with np.load(tmp_path / "few.npz") as arrays:
        assert np.array_equal(arrays["images"] / 255, x_hat[:7])
    cli(*reconstruct, tmp_path / "folder")
    assert sorted(p.name for p in (tmp_path / "folder").iterdir()) == sorted(p.name for p in original.data.iterdir())
    assert np.array_equal(np.asarray(Image.open(tmp_path / "folder" / "0003.png")) / 255, x_hat[3])
    cli(*reconstruct, tmp_path / "grid.png", "-n", 4)
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    for image in (*x[:4], *x_hat[:4]):
        assert _contains(grid, np.rint(image * 255).astype(np.uint8))


def test_reconstruct_says_if_the_data_are_those_of_the_training(cli: Cli, original: Any, tmp_path: Path) -> None:
    note = "data the model was trained on"
    assert note in cli("reconstruct", original.path, "--data", original.data, "-o", tmp_path / "a.png").err
    other = write_pictures(tmp_path / "other", 3, sizes=(16,))
    Image.fromarray(picture(77, 16)).save(other / "0000.png")
    assert note not in cli("reconstruct", original.path, "--data", other, "-o", tmp_path / "b.png").err


# -- info, and what lies in the directory ----------------------------------------------------------------------------


def test_info_for_people(cli: Cli, original: Any) -> None:
    words = plain_words(cli("info", original.path).out)
    for expected in ("rae, beta", "tikhonov", "width 2, 4 latent dimensions", "60 items of 16 x 16 x 3",
                     str(original.data), "2 of 2 epochs, fp32 on cpu, seed 0", "validation loss", "SHA-256",
                     "gaussian, gmm-2"):  # fmt: skip
        assert expected in words, expected


def test_what_lies_in_the_directory(original: Any) -> None:
    names = {name.split("/")[0] for name in tree(original.path)}
    expected = {"config.json", "model.safetensors", "training.safetensors", "log.jsonl", "README.md"}
    assert names == expected | {"latents", "densities", "samples"}
    assert len((original.path / "log.jsonl").read_text().splitlines()) == 2
    assert list((original.path / "samples").glob("*.png"))
    config = json.loads((original.path / "config.json").read_text())
    assert None not in (config["config"]["latent_dim"], config["config"]["beta"], config["config"]["arch"])
    assert (original.path / "model.safetensors").stat().st_mode & 0o444 == 0o444 & ~_umask()


def _umask() -> int:
    import os

    mask = os.umask(0)
    os.umask(mask)
    return mask


# -- Python ----------------------------------------------------------------------------------------------------------


def test_ten_lines_of_python(original: Any, tmp_path: Path) -> None:
    config = raectl.Config(reg="tikhonov", width=2, epochs=1, batch_size=16, image_size=12, latent_dim=4)
    checkpoint = raectl.train(config, original.data, tmp_path / "ckpt")
    fit = checkpoint.fit_density("gmm", components=2)
    x = checkpoint.sample(9, seed=0)
    checkpoint.write(x, tmp_path / "samples.png")
    items = raectl.open_dataset(original.data, checkpoint.data.options).items
    odd = checkpoint.log_prob(items)
    assert x.shape == (9, 3, 12, 12)
    assert (tmp_path / "samples.png").stat().st_size > 100
    assert odd.shape == (60,) and bool(odd.isfinite().all())
    rows, _ = raectl.data.split(60, 0.1, 0)
    assert fit.train == pytest.approx(float(odd[rows].mean()) / 4, rel=1e-6)
    assert raectl.load(tmp_path / "ckpt").densities() == ("gmm-2",)
    with pytest.raises(raectl.RaectlError):
        raectl.load(tmp_path)


def test_names_of_the_package() -> None:
    assert set(raectl.__all__) <= set(dir(raectl))
    for name in raectl.__all__:
        assert getattr(raectl, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = raectl.nothing
