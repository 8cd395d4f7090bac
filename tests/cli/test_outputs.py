"""What the commands write: that it lies where it was asked for, and that the numbers are the right ones."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.cli import (
    SMALL,
    Cli,
    assert_clear_error,
    contains,
    no_leftovers,
    picture,
    plain_words,
    tree,
    write_pictures,
)

import raectl
from raectl import rng
from raectl.cli.output import number

# -- sample -----------------------------------------------------------------------------------------------------------


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
    assert all(contains(grid, image) for image in images)
    assert np.array_equal(np.load(outs[".npy"]), images)
    cli("sample", original.path, "-n", 10, "-o", outs[".npy"], "--latents", "--density", "gmm-2", "--seed", 4)
    z = np.load(outs[".npy"])
    assert (z.shape, z.dtype) == ((10, 4), np.float32)
    checkpoint = raectl.load(original.path, "cpu")
    assert np.array_equal(checkpoint.modality.to_items(checkpoint.decode(z)), images), "the same draws, decoded"


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
    assert cli("sample", out, "-n", 2000, "--latents", "-o", tmp_path / "z.npy", "--json").json["density"] == "prior"
    z = np.load(tmp_path / "z.npy")
    assert abs(z.mean()) < 4 / np.sqrt(z.size)
    assert abs(z.std() - 1) < 4 / np.sqrt(2 * z.size)


# -- fit-density ------------------------------------------------------------------------------------------------------


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
    assert [*dict.fromkeys(int(row[0]) for row in table)][:3] == [1, 2, 5]
    assert all(len(row) == 5 for row in table)
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


# -- reconstruct ------------------------------------------------------------------------------------------------------


def test_reconstructions_and_their_numbers(cli: Cli, trained: Any, tmp_path: Path) -> None:
    reconstruct = ("reconstruct", trained.path, "--data", trained.data, "--json", "-o")
    values = cli(*reconstruct, tmp_path / "all.npz").json
    with np.load(tmp_path / "all.npz") as arrays:
        x, x_hat = arrays["originals"] / 255, arrays["images"] / 255
        assert arrays["images"].shape == (60, 16, 16, 3)
    mse = ((x - x_hat) ** 2).mean(axis=(1, 2, 3))
    # Rounding to bytes moves a value by half a byte at most.
    assert values["mse"] == pytest.approx(mse.mean(), abs=2 * np.abs(x - x_hat).mean() * 0.5 / 255 + 1e-5)
    assert values["psnr"] == pytest.approx((-10 * np.log10(mse)).mean(), abs=0.05)
    assert 0 < values["ssim"] < 1
    checkpoint = raectl.load(trained.path, "cpu")
    items = checkpoint.open_data(trained.data).items
    exact = (
        items / 255 - checkpoint.decode(checkpoint.encode(items)).permute(0, 2, 3, 1).numpy().astype(np.float64)
    ) ** 2
    assert values["mse"] == pytest.approx(exact.mean(), rel=1e-4)
    few = cli(*reconstruct, tmp_path / "few.npz", "-n", 7).json
    assert (values["written"], few["written"]) == (60, 7)
    assert {**few, "out": "", "written": 60} == {**values, "out": ""}, "the numbers are over all, whatever is written"
    with np.load(tmp_path / "few.npz") as arrays:
        assert np.array_equal(arrays["images"] / 255, x_hat[rng.choose(0, "reconstructed items", 60, 7)])
    cli(*reconstruct, tmp_path / "folder")
    assert sorted(p.name for p in (tmp_path / "folder").iterdir()) == sorted(p.name for p in trained.data.iterdir())
    assert np.array_equal(np.asarray(Image.open(tmp_path / "folder" / "0003.png")) / 255, x_hat[3])
    cli(*reconstruct, tmp_path / "grid.png", "-n", 4)
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    rows = rng.choose(0, "reconstructed items", 60, 4)
    for image in (*x[rows], *x_hat[rows]):
        assert contains(grid, np.rint(image * 255).astype(np.uint8))


NAMES = ("mse", "psnr", "ssim")


def test_every_measure_is_recorded_with_how_it_was_measured(cli: Cli, trained: Any, tmp_path: Path) -> None:
    reconstruct = ("reconstruct", trained.path, "--data", trained.data, "-o", tmp_path / "x.npz", "-n", 3)
    values = cli(*reconstruct, "--json").json
    words = plain_words(cli(*reconstruct).out)
    assert f"pairs {tmp_path / 'x.npz'}" in words and "written 3" in words
    lines = [json.loads(line) for line in (trained.path / "metrics.jsonl").read_text().splitlines()]
    mean = [line for line in lines if line["of"] == "mean image"]
    assert {line["metric"]: line["value"] for line in mean} == {n: values["baseline"][n] for n in NAMES}
    lines = [line for line in lines if line not in mean]
    assert {line["metric"]: line["value"] for line in lines} == {n: values[n] for n in NAMES}
    assert len(lines) == len(mean) == 6, "a line a measure, each time"
    config = json.loads((trained.path / "config.json").read_text())
    for line in lines:
        assert (line["of"], line["n"], line["source"]) == ("reconstruction", 60, str(trained.data))
        assert (line["data"], line["weights"]) == (config["data"]["fingerprint"], config["weights"]["sha256"])
        assert line["version"] == raectl.__version__


@pytest.mark.parametrize("name", ["out.v2", "v1.0"])
def test_a_suffix_that_is_no_file_type_names_a_directory(cli: Cli, trained: Any, tmp_path: Path, name: str) -> None:
    out = f"{tmp_path}/{name}"
    cli("sample", trained.path, "-n", 2, "-o", out)
    assert [path.name for path in sorted(Path(out).iterdir())] == ["000000.png", "000001.png"]
    cli("reconstruct", trained.path, "--data", trained.data, "-n", 2, "-o", f"{tmp_path}/pairs-{name}")
    assert len(list((tmp_path / f"pairs-{name}").iterdir())) == 2


def test_missing_parents_are_made_for_a_run_and_for_densities(cli: Cli, trained: Any, tmp_path: Path) -> None:
    cli("train", "--data", trained.data, "--out", tmp_path / "a" / "b" / "ckpt", *SMALL)
    assert raectl.load(tmp_path / "a" / "b" / "ckpt", "cpu").epoch == 1
    np.save(tmp_path / "z.npy", np.random.default_rng(0).normal(size=(30, 2)))
    cli("fit-density", tmp_path / "c" / "d", "--latents", tmp_path / "z.npy", "--density", "gaussian")
    assert cli("info", tmp_path / "c" / "d", "--json").json["densities"][0]["name"] == "gaussian"
    no_leftovers(tmp_path)


def test_commands_in_hints_are_ones_that_a_shell_understands(cli: Cli, trained: Any, tmp_path: Path) -> None:
    out = tmp_path / "it's my ckpt"
    result = cli("train", "--data", trained.data, "--out", out, *SMALL)
    (following,) = result.lines("next: ")
    result = cli.run("sample", out, "-o", tmp_path / "x.png")
    (hint,) = result.lines("hint: ")
    for line in (following, hint):
        assert shlex.split(line)[1:] == ["raectl", "fit-density", str(out)]
    result = cli("fit-density", out, "--components", 2)
    (following,) = result.lines("next: ")
    assert shlex.split(following)[:4] == ["next:", "raectl", "sample", str(out)]
    (hint,) = cli.run("sample", out, "-o", tmp_path / "no such" / "x.png").lines("hint: ")
    assert shlex.split(hint) == ["hint:", "mkdir", "-p", str(tmp_path / "no such")]


def test_reconstruct_says_if_the_data_are_those_of_the_training(cli: Cli, trained: Any, tmp_path: Path) -> None:
    note = "data the model was trained on"
    assert note in cli("reconstruct", trained.path, "--data", trained.data, "-o", tmp_path / "a.png").err
    other = write_pictures(tmp_path / "other", 3, sizes=(16,))
    Image.fromarray(picture(77, 16)).save(other / "0000.png")
    assert note not in cli("reconstruct", trained.path, "--data", other, "-o", tmp_path / "b.png").err


# -- info, and what lies in the directory -----------------------------------------------------------------------------


def test_info_for_people(cli: Cli, original: Any) -> None:
    words = plain_words(cli("info", original.path).out)
    for expected in ("rae, beta", "tikhonov", "width 2, 4 latent dimensions", "60 items of 16 x 16 x 3",
                     str(original.data), "2 of 2 epochs, fp32 on cpu, seed 0", "validation loss", "SHA-256",
                     "gaussian, gmm-2"):  # fmt: skip
        assert expected in words, expected


def test_info_shows_what_each_density_is_worth(cli: Cli, original: Any) -> None:
    words = plain_words(cli("info", original.path).out)
    assert "train, nats per dimension" in words and "held out" in words
    assert "log-likelihood" not in words
    for name in ("gaussian", "gmm-2"):
        nats = json.loads((original.path / "densities" / name / "density.json").read_text())["nats_per_dimension"]
        assert list(nats) == ["train", "held_out"]
        assert f"{name.partition('-')[0]} 0 {number(nats['train'])} {number(nats['held_out'])}" in words


def test_what_lies_in_the_directory(original: Any) -> None:
    names = {name.split("/")[0] for name in tree(original.path)}
    expected = {
        "config.json",
        "model.safetensors",
        "training.safetensors",
        "items.safetensors",
        "log.jsonl",
        "README.md",
    }
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


def test_nothing_is_written_into_the_data(cli: Cli, trained: Any) -> None:
    before = tree(trained.data)
    photograph = next(trained.data.rglob("*.png"))
    for out in (photograph, trained.data / "new.png"):
        result = cli.run("reconstruct", trained.path, "--data", trained.data, "-o", out)
        assert_clear_error(result, 1, "lies in the data", "choose another --out")
    assert tree(trained.data) == before


def test_a_short_run_and_an_overfitted_density_are_pointed_out(cli: Cli, trained: Any, tmp_path: Path) -> None:
    result = cli("train", "--data", trained.data, "--width", 2, "--epochs", 1, "--out", tmp_path / "short")
    assert "4 steps in all" in result.err
    latents = np.random.default_rng(0).normal(size=(60, 30)).astype(np.float32)
    np.save(tmp_path / "z.npy", latents)
    result = cli("fit-density", tmp_path / "densities", "--latents", tmp_path / "z.npy", "--components", 5)
    assert "overfits" in result.err


def test_the_hint_for_a_stale_density_fits_the_same_one(cli: Cli, trained: Any, tmp_path: Path) -> None:
    cli("train", "--resume", "--out", trained.path, "--epochs", 4)
    result = cli.run("sample", trained.path, "--density", "gmm-2", "-o", tmp_path / "x.png")
    assert_clear_error(result, 1, "other weights", "--components=2", "--covariance=full", "--name gmm-2")
    assert "False" in cli("info", trained.path).out


def test_weights_are_rounded_for_people_only(cli: Cli, trained: Any) -> None:
    config = json.loads((trained.path / "config.json").read_text())
    config["config"]["reg"] = {"tikhonov": {"weight": 0.00047999999999999996}, "spectral-norm": {}}
    (trained.path / "config.json").write_text(json.dumps(config))
    assert "tikhonov 0.00048, spectral-norm" in plain_words(cli("info", trained.path).out)
    assert cli("info", trained.path, "--json").json["config"]["reg"]["tikhonov"]["weight"] == 0.00047999999999999996


def test_without_held_out_items_the_loss_is_the_trainings(cli: Cli, original: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    trained = cli("train", original.data, *SMALL, "--val-fraction", 0, "--out", out)
    (line,) = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    loss = f"{line['train']['loss']:.4f}"
    for text in (trained.out, cli("info", out).out, (out / "README.md").read_text()):
        assert f"training loss {loss}" in plain_words(text) and "validation loss" not in text
