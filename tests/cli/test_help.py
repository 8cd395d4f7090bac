"""What the commands say of themselves, and where their options come from."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.cli import ESCAPE, Cli, assert_clear_error, executable, plain_words

import raectl
from raectl.cli import main

COMMANDS = tuple(main._COMMANDS)
README = Path(__file__).parents[2] / "README.md"
HEAVY = ("torch", "sklearn", "scipy", "numpy", "PIL")


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


def test_names_of_the_package() -> None:
    assert set(raectl.__all__) <= set(dir(raectl))
    for name in raectl.__all__:
        assert getattr(raectl, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = raectl.nothing


# -- where options come from ------------------------------------------------------------------------------------------


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
    assert (default["width"], default["batch_size"], default["lr"], default["plateau"]) == (16, 16, 1e-3, "relative")


def test_a_file_takes_every_option_of_the_command(cli: Cli, original: Any, tmp_path: Path) -> None:
    def config(text: str, *typed: str) -> dict[str, Any]:
        (tmp_path / "options.toml").write_text(text)
        return cli("train", "--dry-run", "--data", original.data, "--config", tmp_path / "options.toml", *typed).json[
            "config"
        ]

    found = config('preset = "mnist/rae-sn"\nepochs = 3\n')
    assert (found["width"], found["epochs"]) == (128, 3)
    assert found["reg"] == {"spectral-norm": {"view": "released", "encoder": False}}
    assert config('preset = "mnist/rae-sn"\n', "--preset", "mnist/ae")["model"] == "ae", "typed wins"
    released = 'reg = "gradient-penalty,form=released"\n'
    assert config(released)["reg"]["gradient-penalty"]["form"] == "released"
    assert config(released, "--reg", "gradient-penalty,form=exact")["reg"]["gradient-penalty"]["form"] == "exact", (
        "typed wins"
    )
    found = config('[reg.spectral-norm]\nview = "released"\nencoder = true\n')
    assert found["reg"] == {"spectral-norm": {"view": "released", "encoder": True}}
    found = config('plateau = "absolute"\nplateau-gain = 0.5\nbn_momentum = 0.25\n')
    assert (found["plateau"], found["plateau_gain"], found["bn_momentum"]) == ("absolute", 0.5, 0.25)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bn_momentum = 5", "bn_momentum 5 is out of range"),
        ('plateau = "soon"', "plateau 'soon' is none of relative, absolute"),
        ("plateau-gain = -1", "plateau_gain -1 is out of range"),
        ("preset = 5", "preset = 5 is no text"),
        ('reg = "gradient-penalty,form=other"', "--reg gradient-penalty,form='other' is none of exact, released"),
        ("[reg.gradient-penalty]\npart = 2", "--reg gradient-penalty,part=2 is out of range: above 0, up to 1"),
        ('gp_form = "exact"', "unknown option 'gp_form'"),
        ('preset = "mnist/gan"', "unknown --preset 'mnist/gan'"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_as_it_is_typed(cli: Cli, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "options.toml").write_text(text)
    result = cli.run("train", "--config", tmp_path / "options.toml", "--out", tmp_path / "out")
    assert_clear_error(result, 2, said)
    assert not any(f"--{name}" in result.err for name in ("bn", "plateau"))
    assert not (tmp_path / "out").exists()
