"""Labels beside the items: in an .npz, in a metadata.csv, in the names of files of strings."""

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.cli import Cli, assert_clear_error, write_pictures

from raectl.data import DataOptions, open_dataset
from raectl.errors import RaectlError, UsageError

FEW = 6


def table(*rows: str) -> str:
    return "\n".join(("file_name,label", *rows)) + "\n"


def rows(labels: str) -> list[str]:
    return [f"image-{index}.png,{label}" for index, label in enumerate(labels)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "imgs"
    path.mkdir()
    for index in range(FEW):
        Image.new("RGB", (8, 8), (40 * index, 0, 0)).save(path / f"image-{index}.png")
    return path


def as_zip(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    return path


def opened(folder: Path, kind: str) -> Any:
    return open_dataset(folder if kind == "folder" else as_zip(folder))


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_metadata_of_the_hub_gives_classes(folder: Path, kind: str) -> None:
    (folder / "metadata.csv").write_text(table(*reversed(rows("bababc"))), "utf-8-sig")
    dataset = opened(folder, kind)
    assert dataset.classes == ("a", "b", "c")
    assert dataset.labels.tolist() == [1, 0, 1, 0, 1, 2]
    assert dataset.notes == () and dataset.found["others"] == {}
    again = opened(folder, kind)  # from the cache
    assert again.labels.tolist() == dataset.labels.tolist()


def test_rows_without_a_label_are_not_labelled_yet(folder: Path) -> None:
    (folder / "metadata.csv").write_text(table(*rows("abab"), "image-4.png,", "image-5.png, ", "gone.png,"))
    (note,) = open_dataset(folder).notes
    assert "has no label for 2 of 6 images, so it was not used: image-4.png, image-5.png" in note


def test_labels_are_texts_of_any_language(folder: Path) -> None:
    names = ["\u0645\u06cc\u200c\u062e", "New\u00a0York", "\u732b", "+", "-", "a b"]
    (folder / "metadata.csv").write_text(table(*(f"image-{i}.png,{name}" for i, name in enumerate(names))))
    assert open_dataset(folder).classes == tuple(sorted(names))


def test_pages_are_labelled_by_their_file(folder: Path) -> None:
    for index, path in enumerate(sorted(folder.iterdir())):
        frames = [Image.new("L", (8, 8), 20 * index + shade) for shade in (0, 5)]
        frames[0].save(path.with_suffix(".gif"), save_all=True, append_images=frames[1:])
        path.unlink()
    (folder / "metadata.csv").write_text(table(*(row.replace(".png", ".gif") for row in rows("ababab"))))
    dataset = open_dataset(folder, DataOptions(frames="all"))
    assert dataset.classes == ("a", "b") and dataset.labels is not None
    assert dataset.labels.tolist() == [0, 0, 1, 1] * 3


def test_other_columns_and_rows_do_no_harm(folder: Path) -> None:
    text = "id,label,file_name\r\n" + "".join(f"{i},x y,./image-{i}.png\r\n" for i in range(FEW)) + "9,z,gone.png\r\n"
    (folder / "metadata.csv").write_text(text)
    assert open_dataset(folder).classes == ("x y",)


def test_metadata_goes_before_folders(folder: Path) -> None:
    (folder / "sub").mkdir()
    for path in [*folder.glob("*.png")]:
        path.rename(folder / "sub" / path.name)
    assert open_dataset(folder).classes == ("sub",)
    (folder / "metadata.csv").write_text(table(*(f"sub/{row}" for row in rows("aabbcc"))))
    assert open_dataset(folder).classes == ("a", "b", "c")


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file_name,text\nimage-0.png,a cat\n", "has no columns file_name and label: it was not used"),
        ("", "has no columns file_name and label: it was not used"),
        ("label,label,file_name\n", "has no columns file_name and label: it was not used"),
        (table(*rows("abc")), r"has no label for 3 of 6 images, so it was not used: image-3\.png, image-4\.png"),
    ],
    ids=["captions", "empty", "twice", "too few"],
)
def test_a_table_of_something_else_is_noted(folder: Path, kind: str, text: str, said: str) -> None:
    (folder / "metadata.csv").write_text(text)
    dataset = opened(folder, kind)
    assert dataset.labels is None and len(dataset) == FEW
    (note,) = dataset.notes
    assert re.search(said, note)


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (table(*rows("abcabc"), "image-0.png,b"), r"image-0\.png has two labels, 'a' and 'b'"),
        (table('image-0.png,"=HYPERLINK(""http://x"")"'), "which a spreadsheet would run as a formula"),
        (table("image-0.png,@SUM(1)"), "which a spreadsheet would run as a formula"),
        (table("image-0.png,+cmd"), "which a spreadsheet would run as a formula"),
        (table("image-0.png"), "line 2 has 1 cells, the first 2"),
        (table('image-0.png,"a'), "unexpected end of data"),
        (table('image-0.png,"a\nb"'), "no short text"),
        (table("image-0.png," + "a" * 500), "no short text"),
        (table("image-0.png,\x1b[31m"), "no short text"),
        (table("image-0.png," + "a" * 200_000), "field larger than field limit"),
        (b"\xff\xfe\0a", "it is not UTF-8"),
    ],
    ids=["two", "formula", "at", "plus", "cells", "quote", "lines", "long", "escape", "huge", "utf-16"],
)
def test_hostile_tables_have_one_clear_line(folder: Path, kind: str, text: str | bytes, said: str) -> None:
    (folder / "metadata.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RaectlError, match=said) as caught:
        opened(folder, kind)
    assert "\n" not in caught.value.message and "\x1b" not in caught.value.message and caught.value.hint


def test_numbers_below_0_are_no_formulas(folder: Path) -> None:
    (folder / "metadata.csv").write_text(
        table(*(f"image-{i}.png,{label}" for i, label in enumerate(["0", "-1", "+2", "-.5", "0", "1"])))
    )
    assert open_dataset(folder).classes == ("+2", "-.5", "-1", "0", "1")


def test_a_table_that_is_too_large_or_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raectl.data.sources.folder.LARGEST", 20)
    monkeypatch.setattr("raectl.data.sources.zips.LARGEST", 20)
    (folder / "metadata.csv").write_text(table(*rows("aaaaaa")))
    for kind in ("folder", "zip"):
        with pytest.raises(RaectlError, match="bytes are too many"):
            opened(folder, kind)


@pytest.mark.parametrize(
    ("labels", "classes", "indices"),
    [
        (np.array([5, 3, 5, 9], np.uint8), ("3", "5", "9"), [1, 0, 1, 2]),
        (np.array(["b", "a", "b", "c"]), ("a", "b", "c"), [1, 0, 1, 2]),
        (np.array([b"b", b"a", b"b", b"\xc3\xa4"]), ("a", "b", "ä"), [1, 0, 1, 2]),
        (np.array([True, False, True, False]), ("False", "True"), [1, 0, 1, 0]),
    ],
    ids=["numbers", "texts", "bytes", "truths"],
)
def test_an_npz_has_labels_beside_images(tmp_path: Path, labels: np.ndarray, classes: Any, indices: Any) -> None:
    images = np.random.default_rng(0).integers(0, 255, (4, 8, 8)).astype(np.uint8)
    for name in ("images", "x"):  # the only other array
        np.savez(tmp_path / "a.npz", **{name: images, "labels": labels})
        dataset = open_dataset(tmp_path / "a.npz")
        assert dataset.classes == classes and dataset.labels is not None and dataset.labels.tolist() == indices
        assert np.array_equal(dataset.items[..., 0], images)


@pytest.mark.parametrize(
    "labels", [np.zeros(3, int), np.zeros((4, 1), int), np.array([0.5, 1, 2, 3]), np.array(["a\n", "a", "b", "c"])]
)
def test_labels_of_an_npz_that_are_none(tmp_path: Path, labels: np.ndarray) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((4, 8, 8), np.uint8), labels=labels)
    with pytest.raises(RaectlError, match=r"its labels are of type|no short text"):
        open_dataset(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", images=np.zeros((4, 8, 8), np.uint8), labels=np.array([{}, 1, 2, 3], object))
    with pytest.raises(RaectlError, match="its labels are Python objects"):
        open_dataset(tmp_path / "b.npz")


def test_files_of_strings_are_classes(tmp_path: Path) -> None:
    """Bad and blank lines do not shift the labels; a bad line is called by its file."""
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "long.smi").write_text("\nCCCCC a name\n\nnonsense!\nCCCC\n")
    (tmp_path / "s" / "short.smi").write_text("C\n\nbad!\nN\nO\n")
    (tmp_path / "s" / ".hidden").write_text("x")
    dataset = open_dataset(tmp_path / "s", DataOptions(grammar="smiles", max_bad=0.9))
    assert dataset.classes == ("long", "short") and dataset.labels is not None
    assert dataset.labels.tolist() == [0, 0, 1, 1, 1]
    assert [name for name, _ in dataset.skipped] == ["line 4 (4 of long)", "line 8 (3 of short)"]


def test_a_folder_of_several_kinds_is_none_of_strings(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x\n")
    (tmp_path / "b.smi").write_text("C\n")
    with pytest.raises(RaectlError, match="holds no images"):
        open_dataset(tmp_path)
    (tmp_path / "b.smi").unlink()
    with pytest.raises(UsageError, match="of which grammar"):
        open_dataset(tmp_path)


def test_what_has_no_classes_says_how_to_get_some(cli: Cli, trained: Any, tmp_path: Path) -> None:
    path = write_pictures(tmp_path / "flat", 8)
    result = cli.run("interpolate", trained.path, "--data", path, "--classes", "a", "b", "-o", tmp_path / "o.png")
    assert_clear_error(result, 2, "--classes:", "has no classes", "metadata.csv")
