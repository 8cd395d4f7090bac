"""What a number says of how it was measured: its protocol, what was trained on, direction, unit, and a baseline."""

import json
import shutil

import numpy as np
import pytest
from support.checkpoints import SMALL
from support.cli import plain_words, write_pictures

import raectl
from raectl.data import split
from raectl.evaluation.evaluation import Evaluation, Measurement
from raectl.evaluation.verdict import verdict
from raectl.metrics.reference import LOWER_IS_BETTER, TARGETS, Measured

PIXELS = ("--features", "pixels")


def sorted_by_class(n):
    """The first half dark, the second bright, as a folder of a folder for each class is."""
    noise = np.random.default_rng(n).integers(0, 8, (n, 8, 8, 1))
    return (noise + np.where(np.arange(n) < n // 2, 10, 240)[:, None, None, None]).astype(np.uint8)


@pytest.fixture(scope="module")
def of_sorted(tmp_path_factory):
    """A model of sorted images, all of which were trained on."""
    options = {**SMALL, "image_size": 8, "latent_dim": 2, "epochs": 1, "val_fraction": 0.0}
    return raectl.train(raectl.Config(**options), sorted_by_class(120), tmp_path_factory.mktemp("sorted") / "ckpt")


def lines_of(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


# -- which items -----------------------------------------------------------------------------------------------------


def share_of_dark(items):
    return float((items.mean(axis=(1, 2, 3)) < 128).mean())


def test_items_of_a_sorted_source_are_of_every_class(of_sorted, tmp_path):
    evaluation = Evaluation(of_sorted, sorted_by_class(80), n=40, features="pixels")
    for items in (evaluation.real.items, evaluation.training_sample.items):
        assert 0.25 < share_of_dark(items) < 0.75
    results = {result.of: result for result in evaluation}
    real, error = results["real"].measured["kernel"]
    assert abs(real) < 3 * error, "one class only would be far from both"


def test_so_are_those_that_are_written_and_shown(cli, of_sorted, tmp_path):
    source, path = tmp_path / "data.npy", of_sorted.directory.path
    np.save(source, sorted_by_class(100))
    shown = []
    for seed in (0, 1):
        out = tmp_path / f"{seed}.npz"
        cli("reconstruct", path, "--data", source, "-n", 20, "--seed", seed, "-o", out)
        with np.load(out) as arrays:
            shown.append(arrays["originals"])
    assert all(0.25 < share_of_dark(items) < 0.75 for items in shown) and not np.array_equal(*shown)


def test_the_picture_of_compare_shows_every_class(of_sorted, tmp_path, monkeypatch):
    from raectl.evaluation import comparing

    shown = []
    monkeypatch.setattr(type(of_sorted.modality.writer), "write_rows", lambda _, out, names, rows: shown.extend(rows))
    of_sorted.fit_density("gaussian")
    comparing.write_picture([of_sorted], of_sorted.open_data(sorted_by_class(100)), tmp_path / "x.png", 20, seed=0)
    assert 0.25 < share_of_dark(shown[0]) < 0.75


# -- one table, one protocol -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(original, tmp_path_factory):
    """A checkpoint, 40 new images, and 24 of them."""
    home = tmp_path_factory.mktemp("measured")
    return shutil.copytree(original.path, home / "ckpt"), write_pictures(home / "new", 40, sizes=(15,))


@pytest.fixture
def ckpt(measured, tmp_path):
    return shutil.copytree(measured[0], tmp_path / "ckpt")


def test_records_say_which_way_is_better_the_unit_and_how_it_was_measured(cli, ckpt, measured):
    told = cli("evaluate", ckpt, "--data", measured[1], *PIXELS, "--kind", "linear", "--seed", 3, "--json").json
    cli("reconstruct", ckpt, "--data", measured[1], "-o", ckpt.parent / "pairs.npz")
    lines = lines_of(ckpt)
    assert lines[: len(told["numbers"])] == told["numbers"]
    for line in lines:
        better = {True: "lower", False: "higher"}.get(LOWER_IS_BETTER.get(line["metric"]))
        assert line["direction"] == TARGETS.get(line["metric"], better) is not None
        assert isinstance(line["unit"], str) and line["trained_on"] == line["held_out"] == 0
    assert all(line["seed"] == 3 and "draws" in line for line in told["numbers"])
    assert {line["of"] for line in told["numbers"] if line["kind"] == "linear"} == {"interpolation"}


def test_every_metric_has_a_direction_and_a_unit():
    from raectl.metrics.reference import direction_and_unit

    for metric in {*LOWER_IS_BETTER, *TARGETS}:
        assert None not in direction_and_unit(metric).values()


@pytest.mark.parametrize(
    ("options", "differs"),
    [(("--seed", 1), {"seed": 1}), (("-n", 30), {"n": 30, "n_real": 30}), (("--kind", "linear"), {"kind": "linear"})],
)
def test_compare_shows_one_protocol_and_says_what_it_leaves_out(cli, ckpt, measured, tmp_path, options, differs):
    other = shutil.copytree(ckpt, tmp_path / "other")
    cli("evaluate", ckpt, "--data", measured[1], *PIXELS)
    cli("evaluate", other, "--data", measured[1], *PIXELS)
    cli("evaluate", other, "--data", measured[1], *PIXELS, *options)
    told = cli("compare", ckpt, other, "--json").json
    assert (told["protocol"]["seed"], told["protocol"]["n"], told["protocol"]["kind"]) == (0, 40, "spherical")
    first, second = told["checkpoints"].values()
    values = [
        {line["of"]: (line["value"], line["seed"], line["n"], line["kind"]) for line in of} for of in (first, second)
    ]
    assert values[0] == values[1], "the newer lines were measured otherwise"
    (left_out,) = told["left_out"][str(other)]
    assert told["left_out"][str(ckpt)] == [] and {**differs, "of": left_out["of"]} == left_out
    shown = cli("compare", ckpt, other)
    (note,) = shown.lines("note: of other, measured otherwise and so not in this table: ")
    name, value = next(iter(differs.items()))
    assert f"{name} {value} ({', '.join(left_out['of'])})" in note
    assert cli("compare", other, ckpt, "--json").json["protocol"] != told["protocol"]


def test_samples_of_other_draws_are_left_out(cli, ckpt, measured, tmp_path):
    cli("evaluate", ckpt, "--data", measured[1], *PIXELS)
    other = shutil.copytree(ckpt, tmp_path / "other")
    drawn = [line | {"draws": 5} if line["density"] else line for line in lines_of(other)]
    (other / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in drawn))
    told = cli("compare", ckpt, other, "--json").json
    assert told["left_out"] == {str(ckpt): [], str(other): [{"draws": 5, "of": ["gaussian", "gmm-2"]}]}
    assert {line["of"] for line in told["checkpoints"][str(other)]} == {"real", "reconstruction", "N", "interpolation"}
    assert "5 draws (gaussian, gmm-2)" in cli("compare", ckpt, other).err


def test_interpolate_tells_its_kind_and_seed(cli, ckpt, measured, tmp_path):
    options = ("--data", measured[1], "--kind", "spherical", "--seed", 4, "-o", tmp_path / "w.png", "--json")
    told = cli("interpolate", ckpt, *options).json
    assert (told["kind"], told["seed"]) == ("spherical", 4)
    assert cli("interpolate", ckpt, *options, "--between", 0, 1).json["seed"] is None


# -- what was trained on ---------------------------------------------------------------------------------------------


def test_training_images_among_others_are_counted_said_and_recorded(cli, of_sorted, tmp_path):
    path = shutil.copytree(of_sorted.directory.path, tmp_path / "ckpt")
    known, new = sorted_by_class(120)[30:90], sorted_by_class(40)
    np.save(tmp_path / "mixed.npy", np.concatenate([new, known])[::-1])
    evaluated = cli("evaluate", path, "--data", tmp_path / "mixed.npy", *PIXELS)
    assert "60 of 100 items were trained on" in evaluated.err
    told = cli("evaluate", path, "--data", tmp_path / "mixed.npy", *PIXELS, "--json").json
    assert any("60 of 100 items were trained on" in sentence for sentence in told["verdict"])
    assert {(line["split"], line["trained_on"], line["held_out"]) for line in told["numbers"]} == {("mixed", 60, 0)}
    pairs = ("reconstruct", path, "--data", tmp_path / "mixed.npy", "-o", tmp_path / "x.npz")
    assert "60 of 100 items were trained on" in cli(*pairs).err
    assert cli(*pairs, "--json").json["trained_on"] == 60
    compared = cli("compare", path)
    assert "*" in compared.out and "* of ckpt: 60 of 100 items were trained on" in compared.err


def test_training_images_are_known_by_other_names_and_in_another_order(cli, trained, tmp_path):
    (tmp_path / "renamed").mkdir()
    for number, file in enumerate(sorted(trained.data.iterdir())):
        shutil.copy(file, tmp_path / "renamed" / f"{100 - number:03}.png")
    evaluation = Evaluation(raectl.load(trained.path), tmp_path / "renamed", features="pixels")
    assert evaluation.seen == (60, 54, 6) and evaluation.on_training_data
    assert next(iter(evaluation)).protocol["split"] == "training"
    result = cli("evaluate", trained.path, "--data", tmp_path / "renamed", *PIXELS)
    assert "60 of 60 items were trained on, or, 6 of them, held out for validation" in result.err
    assert "warning: these are the data the model was trained on" in result.err


def test_held_out_items_were_not_trained_on(trained):
    checkpoint = raectl.load(trained.path)
    items = checkpoint.open_data().items
    _, held_out = split(60, 0.1, 0)
    seen = checkpoint.seen(items[held_out])
    assert seen == (6, 0, 6) and seen.sentence == "6 of 6 items were held out for validation in training"
    checkpoint.directory.items.unlink()
    assert checkpoint.seen(items) is None
    (trained.path / "items.safetensors").write_bytes(b"rubbish")
    assert checkpoint.seen(items) is None


# -- baselines -------------------------------------------------------------------------------------------------------


def test_the_mean_images_error_stands_beside_the_models(cli, of_sorted, tmp_path):
    path = shutil.copytree(of_sorted.directory.path, tmp_path / "ckpt")
    np.save(tmp_path / "train.npy", sorted_by_class(120))
    np.save(tmp_path / "new.npy", sorted_by_class(80))
    x = sorted_by_class(80) / 255
    means = {"items trained on": sorted_by_class(120) / 255, "these items": x}
    pairs = ("reconstruct", path, "--data", tmp_path / "new.npy", "-o", tmp_path / "x.npz")
    for source, (of, other) in zip(("train.npy", "gone.npy"), means.items(), strict=True):
        config = json.loads((path / "config.json").read_text())
        config["data"]["source"] = str(tmp_path / source)
        (path / "config.json").write_text(json.dumps(config))
        told = cli(*pairs, "--json").json
        expected = ((x - other.mean(axis=0)) ** 2).mean()
        assert told["baseline"]["mse"] == pytest.approx(expected, rel=1e-5) and of in told["baseline"]["of"]
        shown = cli(*pairs)
        assert f"mse, mean image {expected:.6f}" in plain_words(shown.out) and of in shown.err
        numbers = cli("evaluate", path, "--data", tmp_path / "new.npy", *PIXELS, "--json").json["numbers"]
        (line,) = [line for line in numbers if (line["of"], line["metric"]) == ("mean image", "mse")]
        assert line["value"] == pytest.approx(expected, rel=1e-5)


def test_a_verdict_says_that_a_model_is_hardly_better_than_the_mean():
    def row(of, mse, kernel=0.5):
        return Measurement(of, None, {"kernel": Measured(kernel, 0.01), "mse": Measured(mse)}, {})

    real, mean = Measurement("real", None, {"kernel": Measured(0.0, 0.01)}, {}), row("mean image", 0.05)
    del mean.measured["kernel"]
    (_, said) = verdict([real, mean, row("reconstruction", 0.049)], "kernel")
    assert said == "reconstructions are hardly better than the mean image: mse 0.049 and 0.05; train longer"
    assert len(verdict([real, mean, row("reconstruction", 0.01)], "kernel")) == 1


def test_a_kernel_distance_below_its_error_is_no_difference_found():
    def row(of, value, se=0.001, density=None):
        return Measurement(of, density, {"kernel": Measured(value, se)}, {})

    rows = [row("real", 0.0), row("reconstruction", -0.0068), row("gmm-10", 0.9, density="gmm-10"), row("N", 0.0005)]
    said = verdict(rows, "kernel")
    assert "no difference found in reconstruction, N: kernel is below its error" in said
    assert "no difference found" in verdict(rows[:2], "kernel")[0]
