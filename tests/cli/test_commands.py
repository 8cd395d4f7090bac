"""The whole way: train, fit, sample, reconstruct, demo; in JSON, for people, and from Python."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.utils import Bunch
from support.cli import ESCAPE, SMALL, Cli, assert_clear_error, tree, write_pictures

import raectl
from raectl.cli.commands import demo


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
    assert {"bic", "iterations", "converged"} <= set(fit["stats"])
    auto = cli("fit-density", out, "--components", "auto", "--name", "auto", "--json").json
    assert [*dict.fromkeys(row["components"] for row in auto["tried"])][:3] == [1, 2, 5]
    best = max(auto["tried"], key=lambda row: row["heldout"])
    assert auto["options"]["components"] == best["components"]
    assert auto["nats_per_dimension"]["held_out"] == pytest.approx(best["heldout"])
    for density in ("gaussian", "standard-normal"):
        assert cli("fit-density", out, "--density", density, "--json").json["density"] == density
    sampled = cli("sample", out, "-n", 5, "-o", tmp_path / "s.png", "--json").json
    assert sampled == {
        "out": str(tmp_path / "s.png"),
        "n": 5,
        "density": "standard-normal",
        "decoder": "plain",
        "draws": None,
        "seed": 0,
    }
    pairs = cli("reconstruct", out, "--data", original.data, "-o", tmp_path / "p.png", "--json").json
    assert (pairs["n"], pairs["written"], pairs["source"]) == (60, 60, str(original.data))
    assert {"mse", "psnr", "ssim"} <= set(pairs)
    info = cli("info", out, "--json").json
    assert [d["nats_per_dimension"] for d in info["densities"][:2]] == [f["nats_per_dimension"] for f in (fit, auto)]
    assert [d["name"] for d in info["densities"]] == ["gmm-2", "auto", "gaussian", "standard-normal"]
    assert (info["config"]["model"], info["epochs_done"], info["best"]["epoch"]) == ("rae", 1, 1)
    assert info["data"]["n"] == 60


def test_dry_run_resolves_and_creates_nothing(cli: Cli, original: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for flags in ((), ("--json",)):
        values = cli("train", "--data", original.data, "--out", out, "--dry-run", "--reg", "tikhonov", *flags).json
        config = values["config"]
        assert (config["image_size"], config["latent_dim"], config["arch"]) == (64, 64, "linear-conv")
        data_dim = 3 * 64 * 64
        assert config["reg"]["tikhonov"]["weight"] == pytest.approx(1e-7 * data_dim)
        assert config["beta"] == pytest.approx(2e-4 * data_dim / 64)
        assert config["precision"] in ("fp32", "bf16") and config["device"] != "auto"
        assert values["data"]["n"] == 60
        assert tree(tmp_path) == {}
    assert raectl.Config.from_dict(config).to_dict() == config


def test_demo(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = load_digits()
    few = Bunch(**{**digits, "images": digits.images[:300], "target": digits.target[:300]})
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda: few)
    monkeypatch.setattr(demo, "EPOCHS", 6)
    monkeypatch.setattr("raectl.device.has_bf16", lambda device: False)  # fast on every machine
    out = tmp_path / "demo"
    out.mkdir()  # empty: nothing is lost
    result = cli("demo", "--out", out, "--json")
    values = result.json
    for name in ("samples", "reconstructions"):
        with Image.open(values[name]) as image:
            assert min(image.size) > 64
            assert len(np.unique(np.asarray(image))) > 10
    assert values["mse"] < 0.2
    assert "raectl train --data digits" in result.err and "raectl fit-density" in result.err
    assert ESCAPE not in result.out + result.err
    (density,) = raectl.load(out, "cpu").densities()
    assert density.startswith("gmm-") and "raectl fit-density" in result.err
    (out / "mark").touch()
    cli("demo", "--out", out, "--seed", 1)
    assert not (out / "mark").exists(), "a former demo is replaced"
    assert raectl.load(out, "cpu").config.seed == 1


def test_demo_replaces_nothing_else(cli: Cli, trained: Any, tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.json").write_text("{}")
    before = tree(tmp_path)
    for out in (trained.path, tmp_path / "foreign"):
        assert_clear_error(cli.run("demo", "--out", out), 2, f"{out} exists", "another --out")
        assert tree(tmp_path) == before


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


# -- Python -----------------------------------------------------------------------------------------------------------


def test_ten_lines_of_python(original: Any, tmp_path: Path) -> None:
    config = raectl.Config(reg="tikhonov", width=2, epochs=1, batch_size=16, image_size=12, latent_dim=4)
    checkpoint = raectl.train(config, original.data, tmp_path / "ckpt")
    fit = checkpoint.fit_density("gmm", components=2)
    x = checkpoint.sample(9, seed=0)
    checkpoint.write(x, tmp_path / "samples.png")
    items = raectl.open_dataset(original.data, checkpoint.data.options).items
    odd = checkpoint.log_prob(items)
    assert x.shape == (9, 12, 12, 3) and x.dtype == np.uint8
    assert (tmp_path / "samples.png").stat().st_size > 100
    whole = x
    forms = (x, [x[:4], x[4:]], whole, torch.from_numpy(whole), [whole[:4], whole[4:]])
    for number, same in enumerate(forms):
        checkpoint.write(same, tmp_path / f"{number}.npz")
        assert np.array_equal(np.load(tmp_path / f"{number}.npz")["images"], whole)
    with pytest.raises(raectl.RaectlError, match="no items"):
        checkpoint.write([], tmp_path / "none.png")
    assert odd.shape == (60,) and bool(odd.isfinite().all())
    rows, _ = raectl.data.split(60, 0.1, 0)
    assert fit.train == pytest.approx(float(odd[rows].mean()) / 4, rel=1e-6)
    assert raectl.load(tmp_path / "ckpt").densities() == ("gmm-2",)
    with pytest.raises(raectl.RaectlError):
        raectl.load(tmp_path)
