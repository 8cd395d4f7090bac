"""`Evaluation` and `raectl evaluate`: which items are measured, against which, and what is recorded."""

import json
import re
import tracemalloc

import numpy as np
import pytest
import torch
from support.cli import assert_clear_error, write_pictures

import raectl
from raectl import registry
from raectl.densities.base import Density
from raectl.errors import RaectlError, UsageError
from raectl.evaluation.columns import columns
from raectl.evaluation.evaluation import Evaluation
from raectl.metrics.reference import Reference

ALL = {"frechet", "kernel", "precision", "recall", "density", "coverage", "sharpness"}
MADE_FROM_REAL = {"real", "reconstruction", "interpolation"}


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Pictures that the model has not seen."""
    home = tmp_path_factory.mktemp("others")
    write_pictures(home / "images", 90, sizes=(16,))
    for number in range(60):
        (home / "images" / f"{number:04}.png").unlink()
    return home / "images"


def evaluated(path, data, **options):
    return {result.of: result for result in Evaluation(raectl.load(path), data, features="pixels", **options)}


def notes_of(path, data, **options):
    class Progress(raectl.progress.Progress):
        def __init__(self):
            self.notes = []

        def note(self, text):
            self.notes.append(text)

    progress = Progress()
    return Evaluation(raectl.load(path), data, features="pixels", progress=progress, **options), progress.notes


def test_every_column_of_table_1_has_every_measure(trained, others):
    results = evaluated(trained.path, others)
    assert list(results) == ["real", "mean image", "reconstruction", "N", "gaussian", "gmm-2", "interpolation"]
    assert results.pop("mean image").measured.keys() == {"mse", "psnr", "ssim"}
    for of, result in results.items():
        assert set(result.measured) - {"mse", "psnr", "ssim", "copied"} == ALL
        assert ("copied" in result.measured) == (of not in MADE_FROM_REAL)
        assert all(np.isfinite(m.value) for m in result.measured.values())
        assert ("mse" in result.measured) == (of == "reconstruction")
        assert result.protocol["n"] == result.protocol["n_real"] == 30
        assert result.density == (of if of in ("gaussian", "gmm-2") else None)
    # This model has no prior, and the Gaussian that N takes is fitted to the same latents as the one that is kept.
    assert results["N"].measured == results["gaussian"].measured


def test_numbers_are_those_of_the_bytes_that_the_commands_write(trained, others, tmp_path, cli):
    results = evaluated(trained.path, others, seed=5)
    archive = tmp_path / "samples.npz"
    cli("sample", trained.path, "-n", 30, "--density", "gmm-2", "--seed", 5, "-o", archive)
    extractor = registry.resolve("extractor", "pixels")()
    checkpoint = raectl.load(trained.path)
    reference = Reference(extractor(checkpoint.open_data(others).items))
    features = extractor(np.load(archive)["images"])
    for name in extractor.set_metrics:
        for metric, measured in registry.resolve("set-metric", name)(reference, features).items():
            assert measured == results["gmm-2"].measured[metric]
    real, samples = (np.asarray(x) / 255 for x in (checkpoint.open_data(others).items, np.load(archive)["images"]))
    energy = [sum((np.diff(x, axis=side) ** 2).sum() for side in (1, 2)) for x in (real, samples)]
    assert results["gmm-2"].measured["sharpness"].value == pytest.approx(energy[1] / energy[0], rel=1e-6)
    told = cli("reconstruct", trained.path, "--data", others, "-o", tmp_path / "pairs.png", "--json").json
    for metric in ("mse", "psnr", "ssim"):
        assert told[metric] == pytest.approx(results["reconstruction"].measured[metric].value, rel=1e-9)


def test_interpolations_use_every_item_twice_and_never_with_itself(trained, others, monkeypatch):
    checkpoint = raectl.load(trained.path)
    items = checkpoint.open_data(others).items
    z = checkpoint.encode(items)
    decoded = []
    monkeypatch.setattr(checkpoint, "decode_blocks", lambda middles, _: decoded.append(middles) or iter(()))
    found = {s.name: s for s in columns(checkpoint, items, None, kind="linear", seed=3)}
    list(found["interpolation"].batches())
    pairs = [(a, b) for a in range(30) for b in range(a)]
    possible = torch.stack([(z[a] + z[b]) / 2 for a, b in pairs])
    distances = torch.cdist(decoded[0], possible, compute_mode="donot_use_mm_for_euclid_dist")
    assert (distances.amin(dim=1) < 1e-5).all()
    used = [pairs[index] for index in distances.argmin(dim=1).tolist()]
    assert np.bincount(np.ravel(used), minlength=30).tolist() == [2] * 30


def test_the_same_seed_gives_the_same_numbers(trained, others):
    first, second, third = (evaluated(trained.path, others, seed=seed) for seed in (1, 1, 2))
    assert {k: v.measured for k, v in first.items()} == {k: v.measured for k, v in second.items()}
    assert first["gmm-2"].measured != third["gmm-2"].measured
    assert first["reconstruction"].measured == third["reconstruction"].measured


def test_fewer_items_are_chosen_by_the_seed(trained, others):
    results = evaluated(trained.path, others, n=20)
    assert {r.protocol["n"] for r in results.values()} == {r.protocol["n_real"] for r in results.values()} == {20}
    assert (
        evaluated(trained.path, others, n=20, seed=1)["reconstruction"].measured != results["reconstruction"].measured
    )


def test_every_number_is_a_line_with_its_protocol(trained, others):
    results = evaluated(trained.path, others, seed=4)
    lines = [json.loads(line) for line in (trained.path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [record for result in results.values() for record in result.records]
    for line in lines:
        assert line["value"] == results[line["of"]].measured[line["metric"]].value
        assert (line["split"], line["seed"], line["version"]) == ("test", 4, raectl.__version__)
        assert line["extractor"] == ("edges-v1" if line["metric"] == "sharpness" else "pixels-32px-v1")
        assert line["source"] == str(others.resolve())
        assert line["weights"] == raectl.load(trained.path).weights and line["seconds"] >= 0


def test_the_floor_is_what_training_items_score(trained, others):
    results = evaluated(trained.path, others)
    checkpoint = raectl.load(trained.path)
    extractor = registry.resolve("extractor", "pixels")()
    reference = Reference(extractor(checkpoint.open_data(others).items))
    scores = [
        registry.resolve("set-metric", "kernel")(reference, extractor(np.array(items)))["kernel"].value
        for items in (checkpoint.open_data().items[:30], 255 - checkpoint.open_data().items[:30])
    ]
    assert abs(results["real"].measured["kernel"].value) < abs(scores[1]) / 5
    assert results["real"].measured["frechet"].value < results["gmm-2"].measured["frechet"].value


def test_on_the_training_data_the_floor_is_that_of_two_halves(trained, cli):
    evaluation, notes = notes_of(trained.path, trained.data)
    floor = next(iter(evaluation))
    assert (floor.protocol["n"], floor.protocol["n_real"], floor.protocol["split"]) == (30, 30, "training")
    assert any("half" in note for note in notes)
    result = cli("evaluate", trained.path, "--data", trained.data, "--features", "pixels")
    assert "warning: these are the data the model was trained on" in result.err


def test_too_few_items_for_the_features_is_said(trained, others):
    evaluation, notes = notes_of(trained.path, others)
    next(iter(evaluation))
    assert any(
        re.search("30 real items are fewer than the 768 features.*as that of real shows", note) for note in notes
    )


def test_without_the_training_data_n_is_left_out_for_a_model_without_a_prior(trained, others):
    data = json.loads((trained.path / "config.json").read_text())
    data["data"]["source"] = str(trained.path / "gone")
    (trained.path / "config.json").write_text(json.dumps(data))
    evaluation, notes = notes_of(trained.path, others)
    made = ["reconstruction", "gaussian", "gmm-2", "interpolation"]
    assert [result.of for result in evaluation] == ["real", "mean image", *made]
    assert any(note.startswith("left out: N") for note in notes)


def test_a_density_of_other_weights_is_left_out_or_refused(trained, others):
    entry = trained.path / "densities" / "gmm-2" / "density.json"
    record = json.loads(entry.read_text())
    entry.write_text(json.dumps(record | {"encoder": "0" * 64}))
    evaluation, notes = notes_of(trained.path, others)
    assert "gmm-2" not in [column.name for column in evaluation.columns]
    assert any("other weights" in note for note in notes)
    with pytest.raises(RaectlError, match="other weights"):
        Evaluation(raectl.load(trained.path), others, features="pixels", densities=["gmm-2"])
    with pytest.raises(RaectlError, match="no density 'kde'"):
        Evaluation(raectl.load(trained.path), others, features="pixels", densities=["kde"])


def test_a_density_with_codes_of_its_own_gives_reconstructions_and_interpolations(trained, others):
    checkpoint = raectl.load(trained.path)
    options = {"hidden": 8, "epochs": 1}
    checkpoint.fit_density("vae", **options)
    results = evaluated(trained.path, others, densities=["vae"])
    assert list(results)[-3:] == ["interpolation", "reconstruction by vae", "interpolation by vae"]
    through = results["reconstruction by vae"]
    assert through.density == "vae"
    density, items = checkpoint.density("vae"), checkpoint.open_data(others).items
    x_hat = checkpoint.decode(density.decode(density.encode(checkpoint.encode(items))))
    error = (x_hat - checkpoint.modality.to_tensor(torch.from_numpy(np.array(items)))).square().mean()
    assert through.measured["mse"].value == pytest.approx(float(error), rel=1e-5)


def test_unknown_options_are_clear_errors(trained, others):
    checkpoint = raectl.load(trained.path)
    with pytest.raises(UsageError, match="unknown extractor"):
        Evaluation(checkpoint, others, features="nonesuch")
    with pytest.raises(UsageError, match="--kind 'curly'"):
        Evaluation(checkpoint, others, features="pixels", kind="curly")
    with pytest.raises(UsageError, match="too few"):
        Evaluation(checkpoint, others, features="pixels", n=3)


@pytest.mark.parametrize(("n", "said"), [(1, "1 item is too few"), (6, "6 items are too few"), (11, "11 items are")])
def test_too_few_items_are_told_how_many_are_needed(cli, trained, tmp_path, n, said):
    np.save(tmp_path / "few.npy", np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)[:n])
    result = cli.run("evaluate", trained.path, "--data", tmp_path / "few.npy", "--features", "pixels")
    assert_clear_error(result, 1, said, "too few to compare distributions", "hint: 12 at least are needed")


@pytest.mark.parametrize("known", [True, False], ids=["training data known", "training data gone"])
def test_twelve_items_suffice(trained, tmp_path, monkeypatch, known):
    few = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    if not known:
        monkeypatch.setattr(Evaluation, "_open_training", lambda self: None)
    assert "real" in evaluated(trained.path, few, densities=["gaussian"])


def test_memory_grows_with_the_features_only(trained, monkeypatch):
    """The items of a set are made and forgotten a block at a time."""
    largest = 0
    extractor = registry.resolve("extractor", "pixels")
    measure = extractor.__call__

    def spy(self, items):
        nonlocal largest
        largest = max(largest, len(items))
        return measure(self, items)

    monkeypatch.setattr(extractor, "__call__", spy)
    many = np.random.default_rng(0).integers(0, 256, (2000, 16, 16, 3), dtype=np.uint8)
    tracemalloc.start()
    results = evaluated(trained.path, many, n=2000, densities=["gaussian"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert results["gaussian"].protocol["n"] == 2000
    assert largest <= 1024
    assert peak < 6 * 2000 * 768 * 4  # bytes of NumPy: a few times one set's features


@pytest.mark.parametrize(
    ("arguments", "code", "fragments"),
    [
        (("--features", "nonesuch"), 2, ("unknown extractor 'nonesuch'", "efficientnet-lite0")),
        (("--features", "inception"), 2, ("--weights",)),
        (("--features", "pixels", "--kind", "curly"), 2, ("--kind 'curly'",)),
        (("--features", "pixels", "-n", "3"), 2, ("too few",)),
        (("--features", "pixels", "--density", "kde"), 1, ("no density 'kde'", "gmm-2")),
    ],
)
def test_mistakes_on_the_command_line(cli, original, others, arguments, code, fragments):
    assert_clear_error(cli.run("evaluate", original.path, "--data", others, *arguments), code, *fragments)


def test_items_of_another_size_are_said_to_be_resized(cli, trained, tmp_path):
    write_pictures(tmp_path / "large", 20, sizes=(40,))
    result = cli("evaluate", trained.path, "--data", tmp_path / "large", "--features", "pixels")
    assert "images of 40x40 became 16 x 16 by crop, as the model takes them" in result.err


def test_the_command_prints_a_table_or_one_object(cli, trained, others):
    result = cli("evaluate", trained.path, "--data", others, "--features", "pixels")
    for word in ("real", "reconstruction", "N", "gmm-2", "interpolation", "frechet ↓", "recall ↑", "mse ↓"):
        assert word in result.out
    assert "sharpness → 1" in result.out and "copied → 0.5" in result.out
    told = cli("evaluate", trained.path, "--data", others, "--features", "pixels", "--json").json
    assert {line["of"] for line in told["numbers"]} >= {"real", "N", "gmm-2"}
    assert {line["metric"] for line in told["numbers"]} >= ALL


def test_every_model_has_a_column_n():
    for name in registry.names("model"):
        assert issubclass(registry.resolve("density", registry.resolve("model", name).n), Density)
