"""Every kind of SOURCE becomes the same kind of dataset, and says what is wrong with it if it cannot."""

import gzip
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.data import fill, noise, png, pngs, zipped

from raectl.data import DataOptions, open_dataset
from raectl.errors import RaectlError, UsageError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RAECTL_CACHE", str(tmp_path / "cache"))


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def make(kind: str, folder: Path) -> str:
    """A source of each kind, with the same ten grey images."""
    images = noise(10, 12, 12)
    files = {f"{index}.png": png(image) for index, image in enumerate(images)}
    if kind == "digits":
        return "digits"
    if kind == "folder":
        return str(fill(folder / "images", files))
    if kind == "zip":
        return str(zipped(folder / "images.zip", files))
    if kind == "array":
        np.save(folder / "images.npy", images)
        return str(folder / "images.npy")
    if kind == "pages":
        tifffile.imwrite(folder / "images.tif", images, photometric="minisblack")
        return str(folder / "images.tif")
    assert kind == "idx"
    return str(fill(folder / "idx", {"train-images-idx3-ubyte": idx(images)}))


KINDS = ["digits", "zip", "array", "idx", "folder", "pages"]


@pytest.mark.parametrize("kind", KINDS)
def test_contract(kind, tmp_path, monkeypatch):
    spec = make(kind, tmp_path)
    monkeypatch.chdir(tmp_path)
    dataset = open_dataset(os.path.relpath(spec) if kind != "digits" else spec)
    if kind != "digits":
        assert dataset.source == spec
        assert np.array_equal(dataset.items[..., 0], noise(10, 12, 12))
    size = dataset.items.shape[1]
    assert dataset.items.dtype == np.uint8
    assert dataset.items.shape == (len(dataset), size, size, 1)
    assert dataset.modality == "images"
    assert dataset.notes == ()
    assert dataset.skipped == ()
    background = "black" if kind in ("idx", "digits") else "white"
    frames = "all" if kind == "pages" else "first"
    expected = DataOptions(size, "crop", background, channels=1, bits=8, dtype="uint8", frames=frames)
    assert dataset.options == expected
    monkeypatch.chdir("/")
    assert open_dataset(dataset.source, dataset.options).fingerprint == dataset.fingerprint
    resized = open_dataset(spec, DataOptions(image_size=16, fit="pad", channels=3))
    assert resized.items.shape == (len(dataset), 16, 16, 3)
    again = open_dataset(resized.source, resized.options)
    assert again.fingerprint == resized.fingerprint
    assert again.options == resized.options


def test_kinds_are_the_registered_ones():
    from raectl import registry

    assert set(KINDS) <= set(registry.names("source"))


def test_digits_are_rounded_exactly_and_labelled():
    from sklearn.datasets import load_digits

    dataset = open_dataset("digits")
    assert np.array_equal(dataset.items[..., 0], (load_digits().images.astype(int) * 255 + 8) // 16)
    assert len(dataset.labels) == 1797
    assert dataset.classes == tuple("0123456789")


def test_nested_folders_are_classes_and_litter_is_ignored(tmp_path):
    files = pngs(2, prefix="b/") | pngs(2, prefix="a/deep/")
    litter = {
        ".hidden.png": b"x", "__MACOSX/0.png": b"x", "a/Thumbs.db": b"x", "a/.git/x.png": b"x", "notes.txt": b"x",
        "a/._0.png": b"x",
    }  # fmt: skip
    folder = fill(tmp_path / "data", files | litter)
    dataset = open_dataset(folder)
    assert dataset.names == ("a/deep/0000.png", "a/deep/0001.png", "b/0000.png", "b/0001.png")
    assert dataset.classes == ("a", "b")
    assert dataset.labels.tolist() == [0, 0, 1, 1]
    assert dataset.skipped == ()
    fill(folder, {"top.png": png(noise(8, 8, 3))})
    assert open_dataset(folder).labels is None


def test_symlink_loops_end(tmp_path):
    folder = fill(tmp_path / "data", pngs(2, prefix="a/"))
    (folder / "a" / "up").symlink_to(folder)
    (folder / "nowhere.png").symlink_to(folder / "missing")
    dataset = open_dataset(folder)
    assert len(dataset) == 2
    assert dataset.skipped[0][0] == "nowhere.png"


def test_a_folder_inside_a_zip_equals_the_unpacked_folder(tmp_path):
    files = pngs(3, prefix="train/cat/") | pngs(2, prefix="train/dog/") | pngs(1, prefix="test/cat/")
    archive = zipped(tmp_path / "a.zip", files)
    folder = fill(tmp_path / "a", files)
    inner, unpacked = open_dataset(f"{archive}/train"), open_dataset(folder / "train")
    assert inner.fingerprint == unpacked.fingerprint
    assert inner.names == unpacked.names
    assert inner.classes == ("cat", "dog")
    assert inner.source == f"{archive}/train"
    assert open_dataset(archive).classes == ("test", "train")
    with pytest.raises(RaectlError, match="no folder trian") as caught:
        open_dataset(f"{archive}/trian")
    assert "test, train" in caught.value.hint


def test_unsafe_zip_entries_are_skipped(tmp_path, monkeypatch):
    archive = zipped(
        tmp_path / "a.zip", pngs(2) | {"../out.png": png(noise(8, 8, 3)), "/abs.png": b"", "bad.png": b"x"}
    )
    dataset = open_dataset(archive)
    assert len(dataset) == 2
    assert [name for name, _ in dataset.skipped] == ["../out.png", "/abs.png", "bad.png"]
    monkeypatch.setattr("raectl.data.images.files.LARGEST", 10)
    with pytest.raises(RaectlError, match="bytes are too many"):
        open_dataset(archive, DataOptions(image_size=16))


def test_encrypted_zip_is_refused(tmp_path):
    archive = zipped(tmp_path / "a.zip", pngs(1))
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag, in the central directory
    archive.write_bytes(data)
    with pytest.raises(RaectlError, match="encrypted"):
        open_dataset(archive)


@pytest.mark.parametrize("shape", [(6, 10, 10), (6, 10, 10, 1), (6, 1, 10, 10)])
def test_plain_npy_is_memory_mapped(tmp_path, shape):
    np.save(tmp_path / "a.npy", noise(*shape))
    dataset = open_dataset(tmp_path / "a.npy")
    assert isinstance(dataset.items, np.memmap)
    assert np.array_equal(dataset.items, noise(*shape).reshape(6, 10, 10, 1))
    assert not (tmp_path / "cache").exists()


def test_array_layouts_and_types(tmp_path):
    last = noise(6, 10, 10, 3)
    first = np.ascontiguousarray(np.moveaxis(last, 3, 1))
    floats = (last / 255).astype(np.float32)
    np.save(tmp_path / "floats.npy", floats)
    for source in (last, first, floats, tmp_path / "floats.npy"):
        assert np.array_equal(open_dataset(source, DataOptions(bits=8)).items, last)
    for source in (floats, tmp_path / "floats.npy"):
        assert np.array_equal(open_dataset(source).items, last.astype(np.uint16) * 257)
    assert open_dataset(last).source == "array in memory"
    rgba = np.dstack([last[0], np.zeros((10, 10), np.uint8)])[None]
    assert (open_dataset(rgba, DataOptions(background="#010203", alpha=True)).items == [1, 2, 3]).all()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((5, 8, 8), complex),
        np.zeros((8, 8), np.uint8),
        np.zeros((0, 8, 8), np.uint8),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((5, 8, 8, 8), np.uint8),
    ],
)
def test_arrays_that_are_no_images_are_refused(array):
    with pytest.raises(RaectlError):
        open_dataset(array)


def test_npz_wants_images_or_one_array(tmp_path):
    images, path = noise(4, 8, 8), tmp_path / "a.npz"
    np.savez(path, anything=images)
    assert np.array_equal(open_dataset(path).items[..., 0], images)
    np.savez(path, images=images, labels=np.arange(4))
    assert np.array_equal(open_dataset(path).items[..., 0], images)
    np.savez(path, a=images, b=images)
    with pytest.raises(RaectlError, match="it holds a, b"):
        open_dataset(path)


def test_pickles_are_refused(tmp_path):
    objects = np.array([{"a": 1}, None], dtype=object)
    np.save(tmp_path / "a.npy", objects)
    np.savez(tmp_path / "a.npz", images=objects)
    (tmp_path / "b.npy").write_bytes(b"\x80\x04N.")
    for name in ("a.npy", "a.npz", "b.npy"):
        with pytest.raises(RaectlError, match="Python objects"):
            open_dataset(tmp_path / name)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_file_and_folder_with_labels(tmp_path, pack):
    end = "" if pack is bytes else ".gz"
    images, labels = noise(7, 12, 12), np.array([3, 1, 0, 2, 2, 1, 0], np.uint8)
    test = noise(2, 12, 12, seed=1)
    folder = fill(tmp_path / "mnist", {
        f"train-images-idx3-ubyte{end}": pack(idx(images)), f"train-labels-idx1-ubyte{end}": pack(idx(labels)),
        f"t10k-images-idx3-ubyte{end}": pack(idx(test)),
    })  # fmt: skip
    dataset = open_dataset(folder)
    assert np.array_equal(dataset.items[..., 0], images)
    assert dataset.labels.tolist() == labels.tolist()
    assert dataset.classes == ("0", "1", "2", "3")
    single = open_dataset(folder / f"t10k-images-idx3-ubyte{end}", DataOptions(image_size=16, fit="pad"))
    assert np.array_equal(single.items[..., 0], np.pad(test, ((0, 0), (2, 2), (2, 2))))
    assert single.labels is None
    fill(folder, {f"train-labels-idx1-ubyte{end}": pack(idx(labels[:3]))})
    with pytest.raises(RaectlError, match="3 labels for 7 images"):
        open_dataset(folder)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("count", [6, 8, 0, 2**32 - 1])
def test_idx_header_that_lies_is_refused(tmp_path, pack, count):
    data = bytearray(idx(noise(7, 12, 12)))
    data[4:8] = struct.pack(">I", count)
    path = tmp_path / ("x-idx3-ubyte" + ("" if pack is bytes else ".gz"))
    path.write_bytes(pack(bytes(data)))
    with pytest.raises(RaectlError, match="its header says"):
        open_dataset(path)


def test_labels_and_damaged_gzip_are_no_images(tmp_path):
    (tmp_path / "a-idx1-ubyte").write_bytes(idx(np.zeros(4, np.uint8)))
    (tmp_path / "b-idx3-ubyte.gz").write_bytes(gzip.compress(idx(noise(7, 12, 12)))[:-40])
    for name, says in (("a-idx1-ubyte", "not an IDX file of images"), ("b-idx3-ubyte.gz", "cannot read")):
        with pytest.raises(RaectlError, match=says):
            open_dataset(tmp_path / name)


@pytest.mark.parametrize("spec", ["", "a\0b", "x" * 5000, "loop", "loop/a.zip", "one\nline"])
def test_strange_names_are_plain_errors(tmp_path, monkeypatch, spec):
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    with pytest.raises(RaectlError) as caught:
        open_dataset(spec)
    assert "\n" not in caught.value.message


def test_errors_name_the_trouble_and_the_remedy(tmp_path):
    (tmp_path / "empty").mkdir()
    fill(tmp_path / "text", {"a.txt": b"x", "b.csv": b"x"})
    fill(tmp_path / "broken", {"a.png": b"x", "b\n.jpg": b""})
    fill(tmp_path, {"one.png": png(noise(8, 8)), "notes.md": b"x", "bad.zip": b"x", "bad.npy": b"x", "bad.npz": b"x"})
    with zipfile.ZipFile(tmp_path / "void.zip", "w"):
        pass
    for name, says in {
        "missing": "does not exist", "missing.zip": "does not exist", "empty": "is empty", "text": r"\(.csv, .txt\)",
        "broken": "none of the 2 images", "one.png": "single image", "notes.md": "no known kind",
        "void.zip": "is empty", "bad.zip": "cannot read", "bad.npy": "bad.npy", "bad.npz": "bad.npz",
    }.items():  # fmt: skip
        with pytest.raises(RaectlError, match=says) as caught:
            open_dataset(tmp_path / name)
        assert caught.value.exit_code == 1
        assert "\n" not in caught.value.message
        assert caught.value.hint or name == "broken"


@pytest.mark.parametrize("options", [{"image_size": 7}, {"image_size": 513}, {"fit": "zoom"}, {"channels": 65},
                                     {"bits": 12}, {"dtype": "complex64"}, {"background": "nocolour"}])  # fmt: skip
def test_options_out_of_range_are_usage_errors(options):
    with pytest.raises(UsageError):
        open_dataset("digits", DataOptions(**options))


@pytest.mark.parametrize(("sizes", "expected", "note"), [
    ([(9, 9), (9, 9)], 9, None),
    ([(128, 128)], 128, None),
    ([(129, 129)], 64, "images of 129x129 became 64 x 64 by crop; --image-size and --fit change that"),
    ([(20, 10), (8, 8), (30, 40)], 64, "images of 3 sizes (smallest 8x8, largest 40x30, height x width) became "
                                       "64 x 64 by crop, which cuts off up to 50% of each; "
                                       "--fit pad keeps all of it"),
    ([(9, 9), (20, 20)], 64, "images of 2 sizes (smallest 9x9, largest 20x20) became 64 x 64 by crop; "
                             "--image-size and --fit change that"),
    ([(8, 7)], 64, "images of 7x8 (height x width) became 64 x 64 by crop, which cuts off 12% of each; "
                   "--fit pad keeps all of it"),
    ([(129, 64)], 64, "images of 64x129 (height x width) became 64 x 64 by crop, which cuts off 50% of each; "
                      "--fit pad keeps all of it"),
    ([(4, 4)], 64, "images of 4x4 became 64 x 64 by crop; --image-size and --fit change that"),
])  # fmt: skip
def test_size_rule(tmp_path, sizes, expected, note):
    files = {f"{index}.png": png(noise(height, width)) for index, (width, height) in enumerate(sizes)}
    folder = fill(tmp_path / "data", files)
    for _ in range(2):
        dataset = open_dataset(folder)
        assert dataset.items.shape == (len(sizes), expected, expected, 1)
        assert dataset.notes == ((note,) if note else ())
    told = open_dataset(folder, DataOptions(image_size=16)).notes
    assert len(told) == ("cuts off" in (note or "")), "a size that was asked for is not told, what it costs is"
    assert all(text.endswith("% of each; --fit pad keeps all of it") for text in told)


def test_one_colour_image_makes_all_colour(tmp_path):
    folder = fill(tmp_path / "data", {"a.png": png(noise(8, 8)), "b.png": png(noise(8, 8, 3))})
    dataset = open_dataset(folder)
    assert np.array_equal(dataset.items[0], np.repeat(noise(8, 8, 1), 3, -1))
    grey = open_dataset(folder, DataOptions(channels=1))
    assert np.array_equal(grey.items[1, ..., 0], np.asarray(Image.fromarray(noise(8, 8, 3)).convert("L")))


def test_a_broken_image_does_not_decide_the_size_of_all(tmp_path):
    files = pngs(12, size=16)
    whole = png(noise(48, 64, 3))
    folder = fill(tmp_path / "data", files | {"broken.png": whole[: len(whole) // 2]})
    for _ in range(2):  # decoded, and from the cache
        dataset = open_dataset(folder)
        assert dataset.items.shape == (12, 16, 16, 3)
        assert [name for name, _ in dataset.skipped] == ["broken.png"]
        (note,) = dataset.notes
        assert note.startswith("1 of 13 images could not be read and was skipped: broken.png")
    fill(folder, {"broken.png": whole})
    assert open_dataset(folder).items.shape == (13, 64, 64, 3), "a whole one of another size does count"


@pytest.mark.parametrize(("code", "dtype"), [(9, "i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_idx_of_any_type_is_what_the_same_array_is(tmp_path, code, dtype, channels):
    images = np.random.default_rng(0).integers(-100, 100, (7, 12, 12, *channels)).astype(dtype)
    header = bytes([0, 0, code, images.ndim]) + b"".join(side.to_bytes(4, "big") for side in images.shape)
    np.save(tmp_path / "x.npy", images.astype(images.dtype.newbyteorder("=")))
    expected = open_dataset(tmp_path / "x.npy")
    name = f"a-idx{images.ndim}-{ {9: 'byte', 11: 'short', 12: 'int', 13: 'float', 14: 'double'}[code] }"
    for end, pack in (("", bytes), (".gz", gzip.compress)):
        (tmp_path / f"{name}{end}").write_bytes(pack(header + images.tobytes()))
        (tmp_path / f"other{end}").write_bytes(pack(header + images.tobytes()))
        for file in (f"{name}{end}", f"other{end}"):
            dataset = open_dataset(tmp_path / file)
            assert np.array_equal(dataset.items, expected.items)
            assert dataset.options.range == expected.options.range


@pytest.mark.parametrize(
    ("content", "why", "remedy"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>404</html>", "a web page", "download them again"),
        (b"", "an empty file", "cut short"),
        (b"no image", "no image of a known format", "the right SOURCE?"),
    ],
)
def test_a_source_in_which_all_is_bad_says_what_to_do_about_that(tmp_path, content, why, remedy):
    folder = fill(tmp_path / "f", {f"{i}.png": content for i in range(3)})
    with pytest.raises(RaectlError, match=why) as error:
        open_dataset(folder)
    assert remedy in error.value.hint


def test_an_archive_with_a_password_says_how_to_unpack_it(tmp_path):
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("a.png", b"")
        archive.filelist[0].flag_bits |= 1  # what a password sets
    with pytest.raises(RaectlError, match="encrypted") as error:
        open_dataset(tmp_path / "p.zip")
    assert "unzip ARCHIVE" in error.value.hint
