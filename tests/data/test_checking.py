"""`raectl check` finds what is bad, equal or of one colour, and says what `train` would say of it."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.cli import Cli, assert_clear_error
from support.data import fill, noise, png, pngs, zipped

from raectl.data import DataOptions, open_dataset
from raectl.data.images import decode


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAECTL_CACHE", str(tmp_path / "cache"))


def corpus() -> dict[str, bytes]:
    """Two classes, three equal images and two others, three of one colour of which two are equal, a bad one."""
    same, pair = png(noise(8, 8, 3, seed=50)), png(noise(8, 8, 3, seed=51))
    flat = {f"b/flat{value}.png": png(np.full((8, 8, 3), (value, 3, 3), np.uint8)) for value in (7, 9)}
    return (
        pngs(5, prefix="a/")
        | {"a/same1.png": same, "b/same2.png": same, "b/same3.png": same, "a/pair1.png": pair, "b/pair2.png": pair}
        | flat
        | {"a/flat7.png": flat["b/flat7.png"], "b/bad.png": b"rubbish"}
    )


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_everything_is_found(cli: Cli, tmp_path: Path, kind: str) -> None:
    source = fill(tmp_path / "data", corpus()) if kind == "folder" else zipped(tmp_path / "data.zip", corpus())
    found = cli("check", source, "--json").json
    assert found["ok"] and found["error"] is None
    assert (found["total"], found["items"], found["shape"]) == (14, 13, [8, 8, 3])
    assert found["bytes"] == 13 * 8 * 8 * 3
    assert found["bad"] == [{"name": "b/bad.png", "reason": "no image of a known format"}]
    assert found["classes"] == {"a": 8, "b": 5}
    assert sorted(found["duplicates"]) == [
        ["a/flat7.png", "b/flat7.png"],
        ["a/pair1.png", "b/pair2.png"],
        ["a/same1.png", "b/same2.png", "b/same3.png"],
    ]
    assert found["constant"] == ["a/flat7.png", "b/flat7.png", "b/flat9.png"]
    assert found["fingerprint"] == open_dataset(source).fingerprint
    assert found["source"] == str(source)
    result = cli("check", source)
    words = " ".join(result.out.split())
    for said in ("items 13 of 14", "become 8 x 8 x 3 (height", "packed 2.5 KB", "classes 2, of 5 to 8",
                 "duplicates 4 equal", "constant 3 of", "b/bad.png no image of a known format",
                 "b/same2.png a/same1.png b/same3.png a/same1.png", "b/pair2.png a/pair1.png",
                 "a/flat7.png of one value b/flat7.png of one value b/flat9.png of one value"):  # fmt: skip
        assert said in words
    assert result.err == "", "what the table says is said once"


def test_what_the_files_are_is_counted(cli: Cli, tmp_path: Path) -> None:
    frames = [Image.fromarray(noise(8, 8, seed=seed)) for seed in range(3)]
    moving = io.BytesIO()
    frames[0].save(moving, "GIF", save_all=True, append_images=frames[1:])
    files = pngs(4) | {"x.GIF": moving.getvalue(), "y.heic": b"\0" * 40, "labels.csv": b"a", "README": b"b"}
    for source in (fill(tmp_path / "data", files), zipped(tmp_path / "data.zip", files)):
        for _ in range(2):  # the second time from the cache
            assert cli("check", source, "--json").json["found"] == {
                "suffixes": {".png": 4, ".gif": 1},
                "others": {".heic": 1, ".csv": 1, "": 1},
                "frames": 7,
                "grey": 0,
                "colour": 5,
            }
        words = " ".join(cli("check", source).out.split())
        assert "files 4 .png, 1 .gif; left out" in words and "1 no suffix" in words
        assert "frames 7, of which 2 are left out" in words and "0 grey, 5 in colour" in words


def test_only_the_first_equal_and_constant_images_are_named(cli: Cli, tmp_path: Path) -> None:
    images = np.repeat(noise(8, 9, 9), [1, 1, 1, 1, 1, 1, 1, 8], axis=0)
    images[:7] = np.arange(7, dtype=np.uint8)[:, None, None]
    np.save(tmp_path / "a.npy", images)
    lines = [line.split() for line in cli("check", tmp_path / "a.npy").out.splitlines()]
    assert [line for line in lines if line[-1:] == ["7"]] == [[str(index), "7"] for index in range(8, 13)]
    assert [line[0] for line in lines if line[-3:] == ["of", "one", "value"] and line[0] != "constant"] == [*"01234"]
    assert lines.count(["and", "2", "more", "--json", "has", "all"]) == 2


def test_options_are_those_of_train(cli: Cli, tmp_path: Path) -> None:
    source = fill(tmp_path / "data", {f"{index}.png": png(noise(20, 130, 4, seed=index)) for index in range(4)})
    options = ("--image-size", 16, "--fit", "pad", "--background", "red")
    found = cli("check", source, *options, "--json").json
    assert found["shape"] == [16, 16, 3]
    assert found["fingerprint"] == open_dataset(source, DataOptions(16, "pad", "red")).fingerprint
    assert found["fingerprint"] != cli("check", source, "--image-size", 16, "--json").json["fingerprint"]
    trained = cli("train", "--dry-run", "--data", source, *options).json
    assert trained["data"]["fingerprint"] == found["fingerprint"]
    assert "became 64 x 64" in cli("check", source).err
    wrong_sizes = (
        ("--image-size", 7),
        ("--max-bad", 2),
        ("--max-bad", -1),
        ("--max-productions", 0),
        ("--max-productions", 5000),
    )
    for wrong in (*wrong_sizes, ("--fit", "zoom"), ("--background", "x")):
        assert_clear_error(cli.run("check", source, *wrong), 2, str(wrong[1]))


def test_training_after_it_decodes_nothing(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = fill(tmp_path / "data", pngs(9))
    cli("check", source)
    monkeypatch.setattr(decode, "row", lambda *_: pytest.fail("decoded again"))
    assert len(open_dataset(source)) == 9


def test_arrays_are_named_by_their_numbers(cli: Cli, tmp_path: Path) -> None:
    images = noise(6, 9, 9)
    images[4], images[2] = images[1], 200
    np.save(tmp_path / "a.npy", images)
    found = cli("check", tmp_path / "a.npy", "--json").json
    assert (found["duplicates"], found["constant"], found["classes"]) == ([[1, 4]], [2], {})
    digits = cli("check", "digits", "--json").json
    assert digits["items"] == 1797 and sum(digits["classes"].values()) == 1797


@pytest.mark.parametrize("good", [0, 20])
def test_too_many_bad_images_fail_with_a_full_report(cli: Cli, tmp_path: Path, good: int) -> None:
    bad = {f"x{index:02}.png": png(noise(8, 8, 3))[:-40] for index in range(25)}
    source = fill(tmp_path / "data", pngs(good) | bad)
    result = cli.run("check", source, "--json")
    assert_clear_error(result, 1, "25 " if not good else f"25 of {25 + good} images", "x00.png")
    found = result.json
    assert not found["ok"] and "x00.png" in found["error"]
    assert [item["name"] for item in found["bad"]] == sorted(bad)
    assert (found["items"], found["total"]) == (good, good + 25)
    result = cli.run("check", source)
    assert_clear_error(result, 1, "--max-bad" if good else "right SOURCE?")
    assert result.out.count("truncated") == 20 and "and 5 more" in result.out
    assert "x00.png" not in result.err and "could" in result.err, "the table has named them"


@pytest.mark.parametrize("source", ["missing", "empty", "text"])
def test_what_is_no_source_is_an_error(cli: Cli, tmp_path: Path, source: str) -> None:
    (tmp_path / "empty").mkdir()
    fill(tmp_path / "text", {"a.txt": b"x"})
    assert_clear_error(cli.run("check", tmp_path / source), 1, source)
    assert set(cli.run("check", tmp_path / source, "--json").json) == {"error", "hint"}


def test_strings(cli: Cli, tmp_path: Path) -> None:
    source = tmp_path / "formulas.txt"
    source.write_text("x+1\nx*2\nx+1\nx+\n")
    found = cli("check", source, "--grammar", "expressions", "--json").json
    assert (found["items"], found["total"], found["shape"]) == (3, 4, [5])
    assert found["duplicates"] == [[0, 2]] and found["constant"] == []
    assert found["bad"][0]["name"] == "line 4"
    result = cli.run("check", source, "--grammar", "expressions", "--strict")
    assert_clear_error(result, 1, "1 of 4 lines")
    shown = cli("check", source, "--grammar", "expressions")
    words = " ".join(shown.out.split())
    assert (
        "become 5 productions of the grammar" in words and "packed 15 bytes" in words and "duplicates 1 equal" in words
    )
    assert "classes" not in words and "constant" not in words and "equal item" not in words
    assert (shown.out + shown.err).count("line 4") == 1
