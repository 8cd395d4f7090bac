"""What a resumed run may be asked for: its own options again, more epochs, another device, and nothing else."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from support.cli import Cli, assert_clear_error, assert_same_run, no_leftovers, tree, write_pictures

import raectl
from raectl.training.run import Run

SMALL = ("--image-size", "12", "--width", "2", "--latent-dim", "4", "--batch-size", "16", "--precision", "fp32")
REGULARIZERS = {
    "exact": ("--reg", "gradient-penalty,form=exact"),
    "two": ("--reg", "tikhonov", "--reg", "gradient-penalty=0.01"),
    "preset": ("--preset", "mnist/rae-gp-frobenius"),
    "released": ("--preset", "mnist/rae-gp"),
    "spectral": ("--reg", "spectral-norm,view=torch"),
}

PENALIZED = "gradient-penalty=0.5,form=exact,part=0.5"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("resume") / "images", 40)


def test_a_dry_run_of_resuming_changes_no_byte(cli: Cli, trained: Any) -> None:
    before = tree(trained.path)
    resume = ("train", "--resume", "--dry-run", "--out", trained.path)
    values = cli(*resume, "--epochs", 7).json
    stored = json.loads((trained.path / "config.json").read_text())
    assert values["config"] == {**stored["config"], "epochs": 7}
    assert values["data"] == stored["data"]
    assert values["out"] == str(trained.path)
    assert cli(*resume).json["config"] == stored["config"]
    assert_clear_error(cli.run(*resume, "--width", 3), 2, "--width differs from the 2")
    assert_clear_error(cli.run(*resume, "--overwrite"), 2, "exclude each other")
    assert tree(trained.path) == before


@pytest.mark.parametrize("options", REGULARIZERS.values(), ids=REGULARIZERS)
def test_the_same_command_resumes(cli: Cli, data: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    command = ("train", "--data", data, "--out", tmp_path / "out", *options, *SMALL)
    cli(*command, "--epochs", 1)
    cli(*command, "--epochs", 2, "--resume")
    assert raectl.load(tmp_path / "out", "cpu").config.epochs == 2
    assert len((tmp_path / "out" / "log.jsonl").read_text().splitlines()) == 2
    no_leftovers(tmp_path)
    before = tree(tmp_path)
    name = "tikhonov" if "preset" not in options[0] and "tikhonov" in options else "gradient-penalty"
    for other in (("--reg", f"{name}=77"), ("--reg", "none")):
        result = cli.run("train", "--out", tmp_path / "out", *SMALL, "--resume", "--epochs", 3, *other)
        assert_clear_error(result, 2, "--reg differs from the", "only --epochs, --patience, --device")
    assert tree(tmp_path) == before


@pytest.fixture(scope="module")
def penalized(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A run of one epoch with the gradient penalty on half of each batch; not to be changed."""
    reg = {"gradient-penalty": {"weight": 0.5, "part": 0.5}}
    config = raectl.Config(
        reg=reg, image_size=12, width=2, latent_dim=4, batch_size=16, epochs=1, device="cpu", precision="fp32"
    )
    return raectl.train(config, data, tmp_path_factory.mktemp("penalized") / "out").directory.path


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--reg", "gradient-penalty,form=exact"),
        ("--reg", "gradient-penalty"),
        ("--reg", "gradient-penalty,part=0.5"),
        ("--reg", "gradient-penalty=0.5"),
    ],
    ids=" ".join,
)
def test_options_of_a_regularizer_that_are_not_given_stay(cli: Cli, penalized: Path, options: tuple[str, ...]) -> None:
    config = cli("train", "--resume", "--out", penalized, "--epochs", 2, "--dry-run", *options).json["config"]
    assert config["reg"] == {"gradient-penalty": {"weight": 0.5, "form": "exact", "part": 0.5}}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--reg", "gradient-penalty,part=0.25"), f"--reg differs from the {PENALIZED} with which"),
        (("--reg", "gradient-penalty,form=released"), f"--reg differs from the {PENALIZED} with which"),
        (("--reg", "gradient-penalty=0.4"), f"--reg differs from the {PENALIZED} with which"),
        (("--reg", "tikhonov"), f"--reg differs from the {PENALIZED} with which"),
        (("--reg", "gradient-penalty", "--reg", "tikhonov"), f"--reg differs from the {PENALIZED} with which"),
    ],
)
def test_what_differs_of_a_regularizer_is_named(cli: Cli, penalized: Path, options: tuple[str, ...], said: str) -> None:
    before = tree(penalized)
    result = cli.run("train", "--resume", "--out", penalized, "--epochs", 2, *options)
    assert_clear_error(result, 2, said)
    assert tree(penalized) == before


def test_a_run_that_stored_no_defaults_goes_on_with_todays(cli: Cli, penalized: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(penalized, tmp_path / "copy"))
    record = json.loads((copy / "config.json").read_text())
    record["config"]["reg"] = {"gradient-penalty": {"weight": 0.5}}
    (copy / "config.json").write_text(json.dumps(record))
    resume = ("train", "--resume", "--out", copy, "--epochs", 2, "--dry-run")
    cli(*resume, "--reg", "gradient-penalty,part=0.25")
    result = cli.run(*resume, "--reg", "gradient-penalty,part=0.5")
    assert_clear_error(result, 2, "--reg differs from the gradient-penalty=0.5,form=exact,part=0.25")


@pytest.mark.parametrize("epochs", [50, 3])
def test_any_number_of_epochs_can_be_asked_for(
    cli: Cli, trained: Any, monkeypatch: pytest.MonkeyPatch, epochs: int
) -> None:
    asked = []
    monkeypatch.setattr(Run, "go", lambda self: asked.append(self.config.epochs))
    cli("train", "--resume", "--out", trained.path, "--epochs", epochs)
    raectl.train(raectl.Config(epochs=epochs), out=trained.path, resume=True)
    assert asked == [epochs, epochs], "also the number that a new run has by default"


def test_resuming_on_another_device(cli: Cli, trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = trained.path / "config.json"
    text = config.read_text().replace('"device": "cpu"', '"device": "cuda"')
    assert '"cuda"' in text
    resume = ("train", "--resume", "--out", trained.path, "--epochs", 3)
    for device in ("cpu", "auto"):
        config.write_text(text)
        assert cli(*resume, "--device", device, "--dry-run").json["config"]["device"] != "cuda"
    before = tree(trained.path)
    assert_clear_error(cli.run(*resume), 2, "--device cuda is not available on this machine", "--device auto")
    assert tree(trained.path) == before
    cli(*resume, "--device", "cpu")
    assert json.loads(config.read_text())["config"]["device"] == "cpu", "and it stays there"
    config.write_text(config.read_text().replace('"device": "cpu"', '"device": "cuda"'))
    cli("train", "--resume", "--out", trained.path, "--epochs", 4, "--device", "auto")
    assert raectl.load(trained.path, "cpu").directory.read_config().resolved.device != "cuda"


def test_resuming_with_another_number_of_threads_is_said(cli: Cli, trained: Any) -> None:
    threads = torch.get_num_threads()
    config = trained.path / "config.json"
    assert "threads" not in cli("train", "--resume", "--out", trained.path, "--epochs", 3).err
    config.write_text(config.read_text().replace(f'"threads": {threads}', f'"threads": {threads + 3}'))
    said = cli("train", "--resume", "--out", trained.path, "--epochs", 4).err
    assert f"trained with {threads + 3} threads, now there are {threads}" in said
    assert f"OMP_NUM_THREADS={threads + 3}" in said


def test_resuming_from_python(cli: Cli, trained: Any, original: Any, tmp_path: Path) -> None:
    raectl.train(raectl.Config(epochs=3), resume=True, out=trained.path)
    other = tmp_path / "other"
    options = ("--image-size", 16, "--width", 2, "--latent-dim", 4, "--batch-size", 16, "--reg", "tikhonov")
    cli("train", "--data", original.data, "--out", other, *options, "--device", "cpu", "--precision", "fp32",
        "--epochs", 3)  # fmt: skip
    assert_same_run(trained.path, other)
    before = tree(trained.path)
    for config, said in (
        (raectl.Config(epochs=4, width=3), "--width differs from the 2"),
        (raectl.Config(epochs=4, reg={"tikhonov": 5.0}), "--reg differs from the"),
        (raectl.Config(epochs=4, plateau="absolute"), "plateau differs from the 'relative'"),
    ):
        with pytest.raises(raectl.RaectlError, match=said):
            raectl.train(config, resume=True, out=trained.path)
    with pytest.raises(raectl.RaectlError, match="exclude each other"):
        raectl.train(raectl.Config(epochs=4), resume=True, overwrite=True, out=trained.path)
    assert tree(trained.path) == before
