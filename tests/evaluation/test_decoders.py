"""`evaluate` and `compare` of a model with two decoders."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cli import Cli, assert_clear_error

import raectl
from raectl.checkpoint.directory import Directory

MEASURE = ("--features", "pixels", "-n", "40", "--density", "gmm-2")


@pytest.fixture
def sharpened(trained: Any) -> Any:
    raectl.sharpen(trained.path, steps=30, weight=5, device="cpu")
    return trained


def numbers(result: Any, of: str, decoder: str) -> dict[str, float]:
    lines = [line for line in result.json["numbers"] if (line["of"], line["decoder"]) == (of, decoder)]
    return {line["metric"]: line["value"] for line in lines}


def test_items_are_the_sharp_decoders_and_faithfulness_is_the_plain_ones_too(cli: Cli, sharpened: Any) -> None:
    sharp = cli("evaluate", sharpened.path, "--data", sharpened.data, *MEASURE, "--json")
    plain = cli("evaluate", sharpened.path, "--data", sharpened.data, *MEASURE, "--decoder", "plain", "--json")
    assert {line["of"] for line in sharp.json["numbers"] if line["decoder"] == "plain"} == {"reconstruction"}
    assert {line["decoder"] for line in plain.json["numbers"]} == {"plain"}
    assert numbers(sharp, "gmm-2", "sharp")["kernel"] != numbers(plain, "gmm-2", "plain")["kernel"]
    assert numbers(sharp, "reconstruction", "sharp")["mse"] != numbers(plain, "reconstruction", "plain")["mse"]
    assert numbers(sharp, "reconstruction", "plain") == numbers(plain, "reconstruction", "plain")
    digest = raectl.load(sharpened.path).sharp_weights
    assert {(line["decoder"], line["sharpened"]) for line in sharp.json["numbers"]} == {
        ("sharp", digest),
        ("plain", None),
    }
    shown = cli("evaluate", sharpened.path, "--data", sharpened.data, *MEASURE)
    assert "reconstruction, plain decoder" in shown.out


def test_compare_has_a_row_for_each_decoder(cli: Cli, sharpened: Any) -> None:
    for decoder in ("plain", "sharp"):
        cli("evaluate", sharpened.path, "--data", sharpened.data, *MEASURE, "--decoder", decoder)
    shown = cli("compare", sharpened.path)
    assert "ckpt, sharpened" in shown.out
    assert sum(line.startswith("ckpt") for line in shown.out.splitlines()) == 2
    for metric in ("sharpness", "precision", "mse"):
        assert "ckpt, sharpened" in cli("compare", sharpened.path, "--metric", metric).out
    assert "sharpened" not in cli("compare", sharpened.path, "--decoder", "plain").out
    assert len(cli("compare", sharpened.path, sharpened.path, "--json").json["checkpoints"]) == 1
    cli("sharpen", sharpened.path, "--steps", 30, "--overwrite", "--seed", 3)
    assert "sharpened" not in cli("compare", sharpened.path).out, "those are of another sharpened decoder"


def test_pictures_take_the_decoder_that_is_asked_for(cli: Cli, sharpened: Any, tmp_path: Path) -> None:
    made = {}
    for command in (("interpolate", sharpened.path, "--pairs", 2), ("reconstruct", sharpened.path)):
        for decoder in ("plain", "sharp"):
            out = tmp_path / f"{command[0]}-{decoder}.npz"
            cli(*command, "--data", sharpened.data, "-o", out, "--decoder", decoder)
            with np.load(out) as arrays:
                made[decoder] = arrays["images"]
        assert not np.array_equal(made["plain"], made["sharp"])
    cli("evaluate", sharpened.path, "--data", sharpened.data, *MEASURE)
    cli("compare", sharpened.path, "--data", sharpened.data, "-n", 4, "-o", tmp_path / "compared.png")


def test_decoders_that_are_not_there(cli: Cli, trained: Any, tmp_path: Path) -> None:
    result = cli.run("sample", trained.path, "-n", 2, "-o", tmp_path / "x.npz", "--decoder", "sharp")
    assert_clear_error(result, 2, "no sharpened decoder", "hint: raectl sharpen")
    result = cli.run("sample", trained.path, "-n", 2, "-o", tmp_path / "x.npz", "--decoder", "blurred")
    assert_clear_error(result, 2, "none of plain, sharp")
    result = cli.run("sample", trained.path, "-n", 2, "-o", tmp_path / "x.npy", "--latents", "--decoder", "plain")
    assert_clear_error(result, 2, "takes latents", "omit --decoder")
    assert not any(tmp_path.glob("x.*"))


def test_lines_of_metrics_without_a_decoder_are_the_plain_ones(cli: Cli, trained: Any) -> None:
    cli("evaluate", trained.path, "--data", trained.data, *MEASURE)
    directory = Directory(trained.path)
    lines = [{k: v for k, v in line.items() if k not in ("decoder", "sharpened")} for line in directory.read_metrics()]
    directory.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "gmm-2" in cli("compare", trained.path).out
