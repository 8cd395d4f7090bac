"""Images are decoded once; the cache never gives something else than the files, and never stands in the way."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.data import fill, noise, png, pngs, zipped
from support.progress import Calls

from raectl.data import DataOptions, open_dataset, split
from raectl.data.dataset import fingerprint
from raectl.data.images import decode
from raectl.errors import RaectlError
from raectl.storage.atomic import TEMPORARY


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RAECTL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def forbid(monkeypatch):
    """Make decoding, or reading at all, an error from here on."""

    def fail(*_):
        raise AssertionError("decoded again")

    def forbid(*names: str) -> None:
        for name in names:
            monkeypatch.setattr(decode, name, fail)

    return forbid


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_second_open_reads_no_image(tmp_path, forbid, kind):
    make = fill if kind == "folder" else zipped
    source = make(tmp_path / ("a" if kind == "folder" else "a.zip"), pngs(40, size=130) | {"bad.png": b"x"})
    first = open_dataset(source)
    forbid("row", "header")
    for again in (open_dataset(source), open_dataset(first.source, first.options)):
        assert isinstance(again.items, np.memmap)
        assert np.array_equal(again.items, first.items)
        assert again.fingerprint == first.fingerprint == fingerprint(np.array(first.items))
        assert (again.names, again.skipped, again.options) == (first.names, first.skipped, first.options)
    assert open_dataset(source).notes == first.notes
    assert len(first.notes) == 2


def test_a_copy_elsewhere_is_not_decoded_again(tmp_path, forbid):
    images = pngs(5)
    first = open_dataset(fill(tmp_path / "a", images))
    forbid("row")
    assert open_dataset(zipped(tmp_path / "b.zip", images)).fingerprint == first.fingerprint


def test_a_changed_file_gives_a_new_fingerprint(tmp_path):
    folder = fill(tmp_path / "a", pngs(5))
    seen = {open_dataset(folder).fingerprint}
    fill(folder, {"0002.png": png(noise(8, 8, 3, seed=99))})
    seen.add(open_dataset(folder).fingerprint)
    (folder / "0004.png").unlink()
    seen.add(open_dataset(folder).fingerprint)
    seen.add(open_dataset(folder, DataOptions(image_size=9)).fingerprint)
    assert len(seen) == 4


@pytest.mark.parametrize(("good", "bad", "passes"), [
    (5, 5, True), (4, 6, False), (1, 5, True), (0, 1, False), (594, 6, True), (593, 6, False)
])  # fmt: skip
def test_how_many_bad_images_are_too_many(tmp_path, good, bad, passes):
    truncated = png(noise(8, 8, 3))[:-40]  # its header is whole
    spoilt = {f"bad{index}.png": truncated if index % 2 else b"no image" for index in range(bad)}
    folder = fill(tmp_path / "a", pngs(good) | spoilt)
    if not passes:
        for _ in range(2):
            with pytest.raises(RaectlError, match=r"bad0\.png"):
                open_dataset(folder)
        return
    dataset = open_dataset(folder)
    assert len(dataset) == good == len(dataset.names)
    assert [name for name, _ in dataset.skipped] == sorted(spoilt)
    assert f"{bad} of {good + bad} images could not be read" in dataset.notes[0]
    assert dataset.notes[0].count("bad") == min(bad, 5)
    assert np.array_equal(dataset.items[-1], noise(8, 8, 3, seed=good - 1))


@pytest.mark.parametrize("damage", ["cut", "header", "meta", "swapped", "gone", "memo"])
def test_a_damaged_entry_is_made_anew(tmp_path, cache, damage):
    folder = fill(tmp_path / "a", pngs(5))
    first = np.array(open_dataset(folder).items)
    (entry,) = (cache / "packed").iterdir()
    if damage == "cut":
        (entry / "items.npy").write_bytes((entry / "items.npy").read_bytes()[:-1])
    elif damage == "header":
        (entry / "items.npy").write_bytes(os.urandom(1000))
    elif damage == "meta":
        (entry / "meta.json").write_text("{")
    elif damage == "swapped":
        np.save(entry / "items.npy", np.zeros((4, 8, 8, 3), np.uint8))
    elif damage == "gone":
        (entry / "items.npy").unlink()
    else:
        for memo in (cache / "memo").iterdir():
            memo.write_text("[]")
    assert np.array_equal(open_dataset(folder).items, first)
    assert json.loads((entry / "meta.json").read_text())["names"] == sorted(pngs(5))
    assert not list((cache / "packed").glob(f"{TEMPORARY}*"))


def test_an_unwritable_cache_is_done_without(tmp_path, monkeypatch):
    folder = fill(tmp_path / "a", pngs(5) | {"bad.png": b"x"})
    with_cache = open_dataset(folder)
    fill(tmp_path, {"file": b"x"})
    monkeypatch.setenv("RAECTL_CACHE", str(tmp_path / "file" / "cache"))
    without = open_dataset(folder)
    assert without.fingerprint == with_cache.fingerprint
    assert without.names == with_cache.names
    assert "cannot be used" in without.notes[0]
    assert len(without.notes) == 2


def test_a_full_disk_is_done_without(tmp_path, monkeypatch, cache):
    folder = fill(tmp_path / "a", pngs(5))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    dataset = open_dataset(folder)
    assert len(dataset) == 5
    assert "No space left" in dataset.notes[0]
    assert not list((cache / "packed").iterdir())


def test_the_cache_works_without_asserts(tmp_path):
    """`python -O` leaves them out, with what they do."""
    folder = fill(tmp_path / "a", pngs(5))
    program = "import sys; from raectl.data import open_dataset; print(open_dataset(sys.argv[1]).fingerprint)"
    done = subprocess.run([sys.executable, "-O", "-c", program, folder], capture_output=True, text=True, check=True)
    (packed,) = (tmp_path / "cache" / "packed").glob("*/*.npy")
    assert fingerprint(np.load(packed)) == done.stdout.strip()


def test_packing_at_the_same_time_succeeds(tmp_path):
    folder = fill(tmp_path / "a", pngs(30))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(open_dataset, [folder] * 8))
    assert len({dataset.fingerprint for dataset in found}) == 1


def test_progress_reaches_its_total(tmp_path):
    calls = []
    open_dataset(fill(tmp_path / "a", pngs(40)), progress=Calls(lambda *call: calls.append(call)))
    assert ("reading images", 40, 40) in calls
    assert calls[-1] == ("decoding images", 40, 40)


def test_fingerprints_are_of_content_and_shape():
    zeros = np.zeros((4, 8, 8, 1), np.uint8)
    assert open_dataset(zeros).fingerprint == fingerprint(zeros[..., 0:1].copy())
    assert fingerprint(zeros) != fingerprint(zeros.reshape(2, 16, 8, 1))
    assert fingerprint(np.asfortranarray(zeros + 3)) == fingerprint(zeros + 3)


@pytest.mark.parametrize(
    ("n", "fraction", "held_out"), [(100, 0.1, 10), (5, 0.01, 1), (2, 0.99, 1), (1, 0.5, 0), (9, 0.0, 0)]
)
def test_split_is_disjoint_complete_and_deterministic(n, fraction, held_out):
    train, val = split(n, fraction, seed=3)
    assert len(val) == held_out
    assert np.array_equal(np.sort(np.concatenate([train, val])), np.arange(n))
    assert all(np.array_equal(*pair) for pair in zip(split(n, fraction, seed=3), (train, val), strict=True))
    if 1 < held_out < n:
        assert not np.array_equal(split(n, fraction, seed=4)[1], val)
