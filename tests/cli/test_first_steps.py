"""What a new user meets, who has only the README and the help: each was met by one who tried."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.cli import SMALL, Cli, assert_clear_error, plain_words, write_pictures

import raectl
from raectl import registry
from raectl.config import Config
from raectl.data import open_dataset
from raectl.densities.fitting import fit
from raectl.errors import UsageError
from raectl.evaluation.evaluation import Measurement
from raectl.evaluation.verdict import verdict
from raectl.metrics.reference import Measured
from raectl.model.resolve import resolve

README = Path(__file__).parents[2] / "README.md"


# -- fit-density and sample ------------------------------------------------------------------------------------------


def test_the_number_of_components_is_chosen_unless_it_is_given(cli: Cli, trained: Any) -> None:
    told = cli("fit-density", trained.path, "--json").json
    assert told["tried"], "several numbers were tried"
    best = max(told["tried"], key=lambda row: row["heldout"])
    assert told["options"]["components"] == best["components"]
    assert told["density"] == f"gmm-{best['components']}"
    assert told["nats_per_dimension"]["held_out"] == pytest.approx(best["heldout"])
    few = np.random.default_rng(0).normal(size=(270, 64)).astype(np.float32)
    np.save(trained.path.parent / "few.npy", few)
    told = cli("fit-density", trained.path.parent / "few", "--latents", trained.path.parent / "few.npy", "--json").json
    assert told["nats_per_dimension"]["held_out"] > -10, "not -1556, as ten full Gaussians gave"


@pytest.mark.parametrize(("n", "most"), [(22, 2), (60, 5), (120, 10)])
@pytest.mark.parametrize("density", ["gmm", "student-t"])
def test_a_component_has_ten_latents_where_the_number_is_chosen(density: str, n: int, most: int) -> None:
    z = np.random.default_rng(0).standard_t(3, (n + 2, 64)).astype(np.float32)
    fitted = fit(density, z[:n], z[n:])
    assert max(row["components"] for row in fitted.tried) <= most
    (overfits,) = [text for text in fitted.density.notices if "overfits" in text] or [""]
    assert "--components auto" not in overfits, "which was just done"
    if fitted.density.settings["components"] == 1:
        assert "--density gaussian" not in overfits, "which one component is"


@pytest.mark.parametrize("density", ["gmm", "student-t"])
def test_python_chooses_as_the_command_does(trained: Any, density: str) -> None:
    assert raectl.load(trained.path, "cpu").fit_density(density).tried
    assert not raectl.load(trained.path, "cpu").fit_density(density, components=2).tried


def test_nothing_recommends_a_number_of_components(cli: Cli, trained: Any, tmp_path: Path) -> None:
    result = cli("train", trained.data, "--reg", "tikhonov", "--out", tmp_path / "new", *SMALL)
    (following,) = result.lines("next: ")
    assert following == f"next: raectl fit-density {tmp_path / 'new'}"
    assert "--components" not in (tmp_path / "new" / "README.md").read_text()


def test_sample_says_which_density_it_takes(cli: Cli, trained: Any, tmp_path: Path) -> None:
    said = "sampling from gmm-2, the last one fitted; --density takes another: gaussian"
    assert said in cli("sample", trained.path, "-n", 2, "-o", tmp_path / "a.png").err
    asked = cli("sample", trained.path, "-n", 2, "--density", "gaussian", "-o", tmp_path / "a.png")
    assert "sampling from" not in asked.err and "gaussian" in asked.out


# -- train -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "batch_size", "batches"), [(300, 16, 17), (1000, 45, 20), (5000, 100, 45), (5, 16, 1)])
def test_the_batch_size_suits_the_number_of_items(n: int, batch_size: int, batches: int, tmp_path: Path) -> None:
    dataset = open_dataset(np.zeros((n, 8, 8), np.uint8))
    assert resolve(Config(device="cpu"), dataset).batch_size == batch_size
    assert resolve(Config(device="cpu", batch_size=33), dataset).batch_size == 33
    from raectl.training.loop import Loop

    loop = Loop(resolve(Config(device="cpu", width=2), dataset), dataset, tmp_path)
    sizes = np.diff(loop.edges)
    assert len(sizes) == batches and sizes.sum() == len(loop.train_rows)
    assert sizes.max() - sizes.min() <= 1 and sizes.min() >= 2 and sizes.max() <= batch_size


def test_training_without_a_regularizer_is_said(cli: Cli, trained: Any, tmp_path: Path) -> None:
    result = cli("train", trained.data, "--out", tmp_path / "a", *SMALL)
    assert "no regularizer of the decoder: --reg tikhonov" in result.err
    for number, reg in enumerate(("none", "tikhonov")):
        result = cli("train", trained.data, "--out", tmp_path / f"b{number}", *SMALL, "--reg", reg)
        assert "no regularizer" not in result.err


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("l2", "tikhonov"), ("gp", "gradient-penalty"), ("sn", "spectral-norm"), ("tikonov", "tikhonov")],
)
def test_a_name_that_is_nearly_right_is_answered(cli: Cli, tmp_path: Path, typed: str, meant: str) -> None:
    result = cli.run("train", "--reg", typed, "--out", tmp_path / "new")
    assert_clear_error(result, 2, f"unknown regularizer '{typed}'", f"did you mean {meant}?")
    with pytest.raises(UsageError, match=f"did you mean {meant}"):
        registry.check("regularizer", typed)


def test_the_rule_of_latent_dimensions_is_in_the_help(cli: Cli) -> None:
    words = re.sub(r"[│\s]+", " ", cli("train", "--help").out)
    assert "16 for grey images, 64 for colour" in words


def test_the_terms_of_a_line_add_up_to_its_loss(cli: Cli, trained: Any, tmp_path: Path) -> None:
    reg = ("--reg", "tikhonov=0.01", "--reg", "gradient-penalty=0.1", "--beta", 2.5)
    result = cli("train", trained.data, "--out", tmp_path / "new", *SMALL, *reg)
    (line,) = result.lines("epoch 1/1")
    loss, *parts = map(float, re.findall(r"(?:loss|reconstruction|latent|tikhonov|gradient-penalty) ([\d.e+-]+)", line))
    assert len(parts) == 4 and sum(parts) == pytest.approx(loss, rel=2e-3)
    assert f"loss {loss:.4g} = reconstruction " in line
    (record,) = map(json.loads, (tmp_path / "new" / "log.jsonl").read_text().splitlines())
    weighted = sum(record["weights"][name] * value for name, value in record["train"].items() if name != "loss")
    assert weighted == pytest.approx(record["train"]["loss"], rel=1e-5)


def test_a_curve_of_the_loss_is_drawn(cli: Cli, trained: Any) -> None:
    image = Image.open(trained.path / "samples" / "loss.png").convert("RGB")
    colours = {colour for _, colour in image.getcolors(2**16)}
    assert {(0x1F, 0x77, 0xB4), (0xD6, 0x27, 0x28)} <= colours, "training and held-out items"
    cli("train", "--resume", "--out", trained.path, "--epochs", 3)
    assert np.any(np.asarray(image) != np.asarray(Image.open(trained.path / "samples" / "loss.png").convert("RGB")))


def test_a_folder_can_be_named_as_for_check(cli: Cli, trained: Any, tmp_path: Path) -> None:
    a, b = (("train", trained.data), ("train", "--data", trained.data))
    cli(*a, "--out", tmp_path / "a", *SMALL)
    cli(*b, "--out", tmp_path / "b", *SMALL)
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("empty", [("--data", ""), ("",)])
def test_an_empty_name_is_not_the_default(cli: Cli, tmp_path: Path, empty: tuple[str, ...]) -> None:
    """As `--data "$UNSET"` in a script is."""
    for more in ((), ("--dry-run",)):
        assert_clear_error(cli.run("train", *empty, *more, "--out", tmp_path / "new"), 1, "'' does not exist")


def test_resuming_with_other_data_says_how_they_differ(cli: Cli, trained: Any, tmp_path: Path) -> None:
    resume = ("train", "--resume", "--out", trained.path, "--epochs", 3)
    more = write_pictures(tmp_path / "more", 60, sizes=(16, 12, 8))
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(more / "0000.png")
    for name in ("0001.png", "0002.png"):
        (more / name).unlink()
    Image.fromarray(np.ones((16, 16, 3), np.uint8)).save(more / "new.png")
    result = cli.run(*resume, "--data", more)
    assert_clear_error(result, 1, f"{more} is not the data that", "1 items came, 2 went, 1 changed", "--out NEW")
    assert f"raectl train --data {more}" in result.err and str(trained.data) in result.err
    array = np.array(raectl.load(trained.path, "cpu").open_data().items)
    np.save(tmp_path / "a.npy", array[::-1])
    assert_clear_error(cli.run(*resume, "--data", tmp_path / "a.npy"), 1, "the same items in another order")
    np.save(tmp_path / "b.npy", np.concatenate([array[3:], array[3:4], 255 - array[:1]]))
    assert_clear_error(cli.run(*resume, "--data", tmp_path / "b.npy"), 1, "2 items came, 3 went, 0 changed")
    (trained.path / "items.safetensors").write_bytes(b"damaged")
    assert_clear_error(cli.run(*resume, "--data", tmp_path / "b.npy"), 1, "59 items, where there were 60")
    cli(*resume)


def test_data_that_have_moved_are_told_how_to_name(cli: Cli, tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "before", 30)
    cli("train", data, "--out", tmp_path / "run", *SMALL)
    moved = data.rename(tmp_path / "after")
    resume = ("train", "--resume", "--out", tmp_path / "run", "--epochs", 2)
    said = f"if they moved: raectl train --resume --out {tmp_path / 'run'} --data SOURCE"
    assert_clear_error(cli.run(*resume), 1, "cannot be opened", "before does not exist", said)
    cli(*resume, "--data", moved)


def test_a_folder_of_other_things_is_not_offered_to_be_replaced(cli: Cli, trained: Any) -> None:
    result = cli.run("train", trained.data, "--out", trained.data)
    assert_clear_error(result, 2, f"{trained.data} exists", "choose another --out")
    assert "--overwrite" not in result.err


def test_a_density_of_initial_weights_is_said_to_be_one(cli: Cli, trained: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(
        "raectl.training.run.Run._epoch", lambda self, signals: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    out = trained.path.parent / "early"
    assert cli.run("train", trained.data, "--out", out, *SMALL).code == 130
    assert "no whole epoch yet: these are the latents of initial weights" in cli("fit-density", out).err
    assert "initial weights" not in cli("fit-density", trained.path).err


@pytest.mark.parametrize(
    ("device", "said"),
    [("cuda:3", "is not available"), ("cuda:x", "is none of"), ("cpu:0", "is none of"), ("tpu", "is none of")],
)
def test_a_device_with_a_number(cli: Cli, trained: Any, monkeypatch: Any, device: str, said: str) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = cli.run("sample", trained.path, "--device", device, "-o", trained.path.parent / "x.png")
    assert_clear_error(result, 2, said)
    result = cli.run("train", trained.data, "--device", device, "--out", trained.path.parent / "new")
    assert_clear_error(result, 2, said)


def test_a_device_with_a_number_is_taken_where_it_is(monkeypatch: Any) -> None:
    from raectl.device import has_bf16, resolve_device

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: True)
    assert resolve_device("cuda:3") == "cuda:3" and has_bf16("cuda:3")
    assert Config(device="cuda:3").device == "cuda:3"
    with pytest.raises(UsageError, match="not available"):
        resolve_device("cuda:4")


# -- evaluate and compare --------------------------------------------------------------------------------------------


def column(of: str, value: float, se: float = 0.01, **others: float) -> Measurement:
    numbers = {name: Measured(number) for name, number in others.items()}
    density = None if of in ("real", "N", "reconstruction", "interpolation") else of
    return Measurement(of, density, {"kernel": Measured(value, se), **numbers}, {})


def test_a_verdict_names_the_farthest_and_what_to_try() -> None:
    real = column("real", 0.0)
    (said,) = verdict([real, column("reconstruction", 0.1), column("gmm-10", 0.9)], "kernel")
    assert "farthest from real: gmm-10, kernel 0.9 (real 0, 64 standard errors)" in said
    assert "most of it is the density's" in said and "--density" in said
    (said,) = verdict([real, column("reconstruction", 0.6), column("gmm-10", 0.9)], "kernel")
    assert "most of it is the autoencoder's" in said and "--epochs" in said
    (said,) = verdict([real, column("reconstruction", 0.01), column("gmm-10", 0.02)], "kernel")
    assert said == "verdict: no difference found: kernel is that of real items at this n; more --data would tell more"
    assert verdict([column("reconstruction", 0.6)], "kernel") == [], "nothing to compare with"
    rows = [column("real", 0.0, recall=0.9, coverage=0.7), column("reconstruction", 0.01, recall=0.1, coverage=0.6)]
    (said,) = verdict(rows, "kernel")
    assert (
        "no difference found: kernel is that of real items at this n, but recall of reconstruction is 0.1 (real 0.9)"
        in said
    )
    (said, *_) = verdict([real, column("reconstruction", 0.1), column("kde", 0.3), column("flow", 0.9)], "kernel")
    assert said.endswith("most of it is the density's: kde is nearer, at 0.3: raectl sample --density kde")
    (said,) = verdict([real, column("reconstruction", 0.1), column("N", 0.7), column("interpolation", 0.9)], "kernel")
    assert "farthest from real: N" in said
    (said,) = verdict([real, column("reconstruction", 0.1), column("N", 0.7), column("gmm-10", 0.2)], "kernel")
    assert "farthest from real: gmm-10" in said, "a density that was not fitted is not judged beside one that was"

    (said,) = verdict([real, column("reconstruction", 0.1), column("N, 3 draws", 0.7)], "kernel")
    assert "farthest from real: N, 3 draws" in said


def test_equal_rows_are_explained() -> None:
    rows = [column("real", 0.0), column("N", 0.5, recall=0.2), column("gaussian", 0.5001, recall=0.2)]
    (_, said) = verdict([*rows, column("gmm-1", 0.501, recall=0.2), column("gmm-5", 0.4, recall=0.2)], "kernel")
    assert said.startswith("N, gaussian and gmm-1 score alike") and "one Gaussian" in said
    others = [column("real", 0.0), column("reconstruction", 0.0), column("interpolation", 0.0)]
    assert len(verdict(others, "kernel")) == 1, "what is drawn from no density is not explained by one"


def test_evaluate_ends_with_a_verdict_and_compare_marks_training_data(cli: Cli, trained: Any, tmp_path: Path) -> None:
    cli("fit-density", trained.path, "--components", 1)
    result = cli("evaluate", trained.path, "--data", trained.data, "--features", "pixels")
    assert result.lines("verdict: farthest from real: ")
    (alike,) = [line for line in result.err.splitlines() if "score alike" in line]
    assert {"N", "gaussian", "gmm-1"} <= set(re.findall(r"[\w-]+", alike))
    compared = cli("compare", trained.path)
    cells = re.findall(r"[\d.]+ ± [\d.e-]+(\*?)", plain_words(compared.out))
    assert cells and all(mark == "*" for mark in cells)
    assert "* was measured on the data that the model was trained on" in compared.err
    others = write_pictures(tmp_path / "others", 20, sizes=(9,))
    cli("evaluate", trained.path, "--data", others, "--features", "pixels")
    assert "*" not in cli("compare", trained.path).out


# -- outputs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.xyz", "x.pngg", "x.heic", "x.safetensors"])
def test_a_suffix_that_cannot_be_written_is_refused(cli: Cli, trained: Any, tmp_path: Path, name: str) -> None:
    result = cli.run("sample", trained.path, "-n", 2, "-o", tmp_path / name)
    assert_clear_error(result, 2, f"cannot write items to '{tmp_path / name}'", ".png, .jpg", "without a suffix")
    assert not (tmp_path / name).exists()


def test_pictures_that_are_not_square_lose_a_share_that_is_told(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "wide"
    folder.mkdir()
    for number in range(12):
        Image.fromarray(np.full((100, 150, 3), 20 * number, np.uint8)).save(folder / f"{number}.png")
    result = cli("train", folder, "--out", tmp_path / "a", "--width", 2, "--epochs", 1)
    assert "images of 100x150 (height x width) became 64 x 64 by crop, which cuts off 33% of each" in result.err
    result = cli("train", folder, "--out", tmp_path / "b", "--width", 2, "--epochs", 1, "--image-size", 32)
    assert "which cuts off 33% of each; --fit pad keeps all of it" in result.err
    result = cli("train", folder, "--out", tmp_path / "c", "--width", 2, "--epochs", 1, "--fit", "pad")
    assert "cuts off" not in result.err


NO_TORCH = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
sys.meta_path.insert(0, Absent())
sys.argv = ["raectl", *sys.argv[1:]]
from raectl.cli.main import main
main()
"""


def test_without_torch_one_line_says_so(tmp_path: Path) -> None:
    arguments = ["sample", str(tmp_path), "-n", "2", "-o", str(tmp_path / "z.npy")]
    done = subprocess.run([sys.executable, "-c", NO_TORCH, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["error: this needs torch, which is not installed", "hint: pip install torch"]


@pytest.mark.parametrize(("module", "package"), [("sklearn", "scikit-learn"), ("PIL", "pillow"), ("zuko", "zuko")])
def test_a_missing_package_is_named_as_pip_has_it(cli: Cli, monkeypatch: Any, module: str, package: str) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ModuleNotFoundError(f"No module named '{module}'", name=module)

    monkeypatch.setattr("raectl.presets.matching", missing)
    assert_clear_error(cli.run("presets"), 1, f"this needs {module}", f"pip install {package}")


# -- the README ------------------------------------------------------------------------------------------------------


def test_the_readme_is_short_and_begins_with_a_picture_and_two_commands() -> None:
    text = README.read_text("utf-8")
    assert len(text.split()) <= 1300
    first = text[: text.index("\n## ")]
    assert first.index("![") < first.index(
        "```console\npip install . && raectl demo\npip install '.[test]' && pytest\n"
    )
    assert "Representation Autoencoders" in " ".join(text.split())
    for page in ("paper", "grammars", "molecules", "speed", "cli"):
        assert f"docs/{page}.md" in text and (README.parent / "docs" / f"{page}.md").is_file()
