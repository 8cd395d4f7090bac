"""What is measured of images whatever the features: sharpness and copies, in `evaluate`, `compare` and the records."""

import json
import shutil

import numpy as np
import pytest
import torch
from support.cli import assert_clear_error, write_pictures

import raectl
from raectl import registry
from raectl.data import split
from raectl.evaluation.columns import Column
from raectl.evaluation.evaluation import Evaluation
from raectl.evaluation.features import extract, extract_all
from raectl.metrics.reference import Reference
from raectl.modalities.images import Images


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Pictures that the model has not seen."""
    path = write_pictures(tmp_path_factory.mktemp("others") / "images", 90, sizes=(16,))
    for number in range(60):
        (path / f"{number:04}.png").unlink()
    return path


def evaluated(path, data, features="efficientnet-lite0", **options):
    return {result.of: result for result in Evaluation(raectl.load(path), data, features=features, **options)}


def training_items(path):
    """What was trained on, without the held-out part."""
    checkpoint = raectl.load(path)
    items = checkpoint.open_data().items
    return items[split(len(items), checkpoint.config.val_fraction, checkpoint.config.seed)[0]]


class Decoding(Evaluation):
    """An evaluation of one given set of items, as if they were samples; counts how often they are made."""

    made = 0

    def measure(self, items):
        def batches():
            self.made += 1
            return iter(np.array_split(items, 3))

        self.columns = [Column("given", len(items), None, batches, is_generated=True)]
        return list(self)[-1].measured


def given(path, data, items, **options):
    return Decoding(raectl.load(path), data, features="pixels", **options).measure(np.array(items))


# -- evaluate ------------------------------------------------------------------------------------------------------


def test_the_numbers_are_the_same_whatever_the_features(trained, others):
    first, second = evaluated(trained.path, others), evaluated(trained.path, others, "pixels")
    for of, result in first.items():
        for metric in {"sharpness", "copied"} & set(result.measured):
            assert result.measured[metric] == second[of].measured[metric]
    assert "copied" in first["gmm-2"].measured and first["gmm-2"].measured["copied"].se > 0
    keys = {r["metric"]: r["extractor"].partition("-")[0] for r in first["gmm-2"].records}
    assert keys["kernel"] == "efficientnet" and keys["sharpness"] == "edges" and keys["copied"] == "pixels"


def test_a_set_is_made_once_and_pixels_are_computed_once(trained, others, monkeypatch, tmp_path):
    monkeypatch.setenv("RAECTL_CACHE", str(tmp_path / "cache"))
    pixels = registry.resolve("extractor", "pixels")
    measure, items = pixels.__call__, []
    monkeypatch.setattr(pixels, "__call__", lambda self, x: items.append(len(x)) or measure(self, x))
    evaluation = Decoding(raectl.load(trained.path), others, features="pixels")
    evaluation.measure(np.array(evaluation.real.items))
    # the real items, as many training items, and the set
    assert evaluation.made == 1 and sum(items) == 3 * 30


def test_real_items_are_sharp_and_flat_ones_are_not(trained, others):
    items = raectl.load(trained.path).open_data(others).items
    assert given(trained.path, others, items)["sharpness"].value == 1
    assert given(trained.path, others, items * 0)["sharpness"].value == 0
    grain = np.random.default_rng(0).integers(0, 256, items.shape, np.uint8)
    assert given(trained.path, others, grain)["sharpness"].value > 2
    flat = np.full((20, 16, 16, 3), 40, np.uint8)
    assert "sharpness" not in given(trained.path, flat, items)


def test_copies_of_what_was_trained_on_are_found(trained, others):
    fewer = training_items(trained.path)[:40]
    assert given(trained.path, others, np.concatenate([fewer] * 2))["copied"].value > 0.6
    assert given(trained.path, others, raectl.load(trained.path).open_data(others).items)["copied"].value == 0


def test_all_that_was_trained_on_is_in_the_sample_if_there_are_as_many_real_items(trained, tmp_path):
    known = training_items(trained.path)
    data = 255 - known  # as many others
    assert given(trained.path, data, known)["copied"].value == 1
    evaluation = Evaluation(raectl.load(trained.path), data, features="pixels")
    assert np.array_equal(evaluation.training_sample.items, known)
    again, other = (Evaluation(raectl.load(trained.path), data, features="pixels", n=20, seed=seed) for seed in (1, 2))
    chosen = [e.training_sample.items for e in (again, other)]
    assert len(chosen[0]) == len(chosen[1]) == 20 and not np.array_equal(*chosen)
    assert all((item == known).all(axis=(1, 2, 3)).any() for item in chosen[0])


def test_real_images_that_are_training_images_too_count_half(trained):
    known = training_items(trained.path)
    mixed = np.concatenate([known[:-1], 255 - known[-1:]])
    assert given(trained.path, mixed, known[:-1])["copied"].value == pytest.approx(0.5, abs=0.05)


def test_copies_are_left_out_where_they_cannot_be_measured(trained, others):
    """Of real items; of sets made from them; on the training data; without the training data."""
    own = evaluated(trained.path, trained.data, "pixels")
    del own["mean image"]  # whose errors alone are measured
    assert all("sharpness" in result.measured and "copied" not in result.measured for result in own.values())
    config = json.loads((trained.path / "config.json").read_text())
    config["data"]["source"] = str(trained.path / "gone")
    (trained.path / "config.json").write_text(json.dumps(config))
    gone = evaluated(trained.path, others, "pixels")
    del gone["mean image"]
    assert all("sharpness" in result.measured and "copied" not in result.measured for result in gone.values())


def test_only_images_have_them():
    for name in registry.names("modality"):
        further = registry.resolve("modality", name).always_measured
        assert bool(further) == (name == "images")
        for extractor, set_metrics in further.items():
            assert extractor in registry.names("extractor") and set(set_metrics) <= set(registry.names("set-metric"))


def test_edges_alone_are_not_offered(cli, original, others):
    assert "edges" not in Images.extractors
    assert_clear_error(
        cli.run("evaluate", original.path, "--data", others, "--features", "edges"), 2, "no features edges", "pixels"
    )
    assert "edges" not in cli("evaluate", "--help").out


# -- features of one pass ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 300])
def test_one_pass_gives_what_several_give(size):
    extractors = [registry.resolve("extractor", name)() for name in ("pixels", "edges")]
    items = np.random.default_rng(0).integers(256, size=(40, 5, 4, 3), dtype=np.uint8)
    both = extract_all(extractors, (items[i : i + size] for i in range(0, 40, size)), 40)
    for extractor, features in zip(extractors, both, strict=True):
        np.testing.assert_array_equal(features, extract(extractor, [items], 40))
    for total in (39, 41):
        with pytest.raises(ValueError, match=f"40 items instead of {total}"):
            extract_all(extractors, [items[:30], items[30:]], total)


# -- the command line ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(original, others, tmp_path_factory):
    """A checkpoint measured in features of a network, then in pixels."""
    path = shutil.copytree(original.path, tmp_path_factory.mktemp("measured") / "ckpt")
    for features in ("pixels", "efficientnet-lite0"):
        evaluated(path, others, features)
    return path


@pytest.mark.parametrize(
    ("options", "extractor", "absent"),
    [
        ((), "efficientnet-lite0", set()),
        (("--metric", "sharpness"), "edges-v1", set()),
        (("--metric", "copied"), "pixels-32px-v1", {"real", "reconstruction", "interpolation"}),
        (("--metric", "mse"), "efficientnet-lite0", {"real", "N", "gaussian", "gmm-2", "interpolation"}),
    ],
)
def test_every_measure_is_compared_in_its_own_features(cli, measured, options, extractor, absent):
    told = cli("compare", measured, *options, "--json").json
    assert told["protocol"]["extractor"].startswith(extractor) and told["protocol"]["n"] == 30
    columns = {"real", "reconstruction", "N", "gaussian", "gmm-2", "interpolation"} - absent
    columns |= {"mean image"} if "mse" in options else set()
    assert {line["of"] for line in told["checkpoints"][str(measured)]} == columns
    assert all(line["metric"] == told["metric"] for line in told["checkpoints"][str(measured)])


def test_a_metric_that_only_older_lines_have_is_compared_as_they_were_measured(cli, measured, tmp_path):
    """The sharpness of 20 items is newer, but the kernel distance was last measured of 30."""
    path = shutil.copytree(measured, tmp_path / "ckpt")
    lines = (path / "metrics.jsonl").read_text().splitlines()
    newer = [json.dumps(json.loads(line) | {"n": 20}) for line in lines if json.loads(line)["metric"] == "sharpness"]
    (path / "metrics.jsonl").write_text("\n".join([*lines, *newer]) + "\n")
    assert cli("compare", path, "--json").json["protocol"]["n"] == 30
    assert cli("compare", path, "--metric", "sharpness", "--json").json["protocol"]["n"] == 20


def test_evaluate_tells_them_in_json_and_for_people(cli, trained, others):
    told = cli("evaluate", trained.path, "--data", others, "--features", "pixels", "--json").json
    lines = {(line["of"], line["metric"]): line for line in told["numbers"]}
    assert lines["gmm-2", "sharpness"]["extractor"] == "edges-v1" and lines["gmm-2", "sharpness"]["se"] > 0
    assert 0 <= lines["gmm-2", "copied"]["value"] <= 1 and ("real", "copied") not in lines
    assert [json.loads(line) for line in (trained.path / "metrics.jsonl").read_text().splitlines()] == told["numbers"]
    shown = cli("evaluate", trained.path, "--data", others, "--features", "pixels").out
    assert "sharpness → 1" in shown and "copied → 0.5" in shown


def test_a_reference_asks_for_training_items_only_when_they_are_needed():
    def fail():
        raise AssertionError

    reference = Reference(torch.rand(30, 1), fail, fail)
    assert "sharpness" in registry.resolve("set-metric", "sharpness")(reference, torch.rand(30, 1))
