"""What a checkpoint directory says of itself: whose it is, where its data are."""

import os
from pathlib import Path

import pytest

from raectl.checkpoint.directory import Directory
from raectl.checkpoint.summary import DataSummary
from raectl.data import DataOptions
from raectl.errors import RaectlError
from raectl.storage.atomic import require_parent


def test_a_directory_of_densities_alone_is_one_of_ours(tmp_path: Path) -> None:
    assert not Directory(tmp_path).is_recognised()
    (tmp_path / "densities").mkdir()
    assert not Directory(tmp_path).is_recognised(), "an empty folder may be anybody's"
    (tmp_path / "densities" / "gmm").mkdir()
    assert not Directory(tmp_path).is_recognised()
    (tmp_path / "densities" / "gmm" / "density.json").touch()
    assert Directory(tmp_path).is_recognised()
    (tmp_path / "holiday.jpg").touch()
    assert not Directory(tmp_path).is_recognised()


def test_links_in_a_circle_lead_out(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "README.md").symlink_to("model.safetensors")
    Directory(tmp_path).require_own()
    (tmp_path / "log.jsonl").symlink_to("log.jsonl")
    with pytest.raises(RaectlError, match=r"log\.jsonl is a link out of"):
        Directory(tmp_path).require_own()


def test_the_recorded_source_is_a_file_a_folder_or_gone(tmp_path: Path) -> None:
    def summary(source: Path) -> DataSummary:
        return DataSummary(str(source), "images", "0" * 64, 1, (8, 8, 1), DataOptions())

    (tmp_path / "a.zip").touch()
    for source in (tmp_path, tmp_path / "a.zip", tmp_path / "gone"):
        assert summary(source).recorded() == str(source)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RaectlError, match="pipe is neither a file nor a folder"):
        summary(tmp_path / "pipe").recorded()


def test_pictures_vanishing_in_the_middle_are_said_to_have(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "ckpt")
    with pytest.raises(RaectlError, match="ckpt has vanished"), directory.drawing():
        pytest.fail("there is no directory to draw in")
    directory.path.mkdir()

    def draw() -> None:
        directory.samples.rmdir()
        require_parent(directory.samples / "epoch-0001.png")

    with pytest.raises(RaectlError, match="ckpt/samples has vanished"), directory.drawing():
        draw()
    with pytest.raises(RaectlError, match="disk full"), directory.drawing():
        raise RaectlError("disk full")
