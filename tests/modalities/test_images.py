"""Images: bytes to tensors and back without loss, and every form of OUT read back exactly."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from raectl import registry
from raectl.errors import RaectlError, UsageError
from raectl.modalities import pictures
from raectl.modalities.images import Images

images = Images()


def random_images(n=5, size=8, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, channels), np.uint8)


def every_value(channels):
    return np.resize(np.arange(256, dtype=np.uint8), (2, 16, 16, channels))


def read(path, channels=3):
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def test_registered():
    assert registry.resolve("modality", "images") is Images
    assert set(images.metrics) <= set(registry.names("metric"))


@pytest.mark.parametrize(
    ("shape", "architecture", "latent_dim"), [((1, 28, 28), "linear-conv", 16), ((3, 64, 64), "linear-conv", 64)]
)
def test_defaults(shape, architecture, latent_dim):
    assert images.default_architecture(shape) == architecture
    assert images.default_latent_dim(shape) == latent_dim


def test_the_networks_see_channels_first():
    assert images.item_shape((5, 6, 3)) == (3, 5, 6)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_byte_survives_the_way_to_a_tensor_and_back(channels):
    items = every_value(channels)
    x = images.to_tensor(torch.from_numpy(items))
    expected = (items.astype(np.float64) / 255).astype(np.float32).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(x.numpy(), expected)
    back = images.to_items(x)
    assert back.flags.c_contiguous
    np.testing.assert_array_equal(back, items)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_tensor_keeps_the_order_of_the_bytes(channels):
    x = images.to_tensor(torch.from_numpy(random_images(4, 8, channels)))
    assert x.dtype == torch.float32 and x.shape == (4, channels, 8, 8)
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert x.stride() == (64 * channels, 1, 8 * channels, channels)


def test_values_are_rounded_to_the_nearest_byte_and_clamped():
    values = torch.tensor([-1.0, 0.49 / 255, 0.51 / 255, 99.6 / 255, 254.4 / 255, 254.6 / 255, 2.0, torch.inf])
    items = images.to_items(values.reshape(1, 1, 2, 4).requires_grad_())
    assert items.ravel().tolist() == [0, 0, 1, 100, 254, 255, 255, 255]
    assert images.to_items(torch.ones(1, 3, 2, 2, dtype=torch.bfloat16)).min() == 255


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".png", ".PNG", ".bmp", ".webp"])
def test_an_image_suffix_writes_one_grid_without_loss(tmp_path, suffix, channels):
    items = random_images(5, 8, channels)
    out = tmp_path / f"grid{suffix}"
    images.writer.write(out, iter([items[:2], items[2:]]), 5)
    np.testing.assert_array_equal(read(out, channels), pictures.grid(items))


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".gif"])
def test_lossy_formats_come_near(tmp_path, suffix):
    items = np.repeat(random_images(4, 1, 3), 16, axis=1).repeat(16, axis=2)
    images.writer.write(tmp_path / f"grid{suffix}", [items], 4)
    error = read(tmp_path / f"grid{suffix}").astype(int) - pictures.grid(items)
    assert np.abs(error).mean() < 4


@pytest.mark.parametrize("name", ["samples.npz", "samples.NPZ"])
def test_npz_holds_the_items(tmp_path, name):
    items = random_images()
    images.writer.write(tmp_path / name, [items[:3], items[3:]], 5)
    with np.load(tmp_path / name) as file:
        assert file.files == ["images"]
        np.testing.assert_array_equal(file["images"], items)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_name_without_suffix_becomes_a_directory_of_pngs(tmp_path, channels):
    items = random_images(5, 8, channels)
    out = tmp_path / "samples"
    out.mkdir()  # an empty one may be there
    images.writer.write(out, (batch for batch in (items[:2], items[2:])), 5)
    assert sorted(path.name for path in out.iterdir()) == [f"{i:06d}.png" for i in range(5)]
    for i, item in enumerate(items):
        np.testing.assert_array_equal(read(out / f"{i:06d}.png", channels), item)


def test_pairs(tmp_path):
    originals, reconstructions = random_images(seed=1), random_images(seed=2)
    images.writer.write_pairs(tmp_path / "pairs.png", originals, reconstructions)
    expected = pictures.pair_grid(originals, reconstructions)
    np.testing.assert_array_equal(read(tmp_path / "pairs.png"), expected)

    images.writer.write_pairs(tmp_path / "pairs.npz", originals, reconstructions)
    with np.load(tmp_path / "pairs.npz") as file:
        np.testing.assert_array_equal(file["originals"], originals)
        np.testing.assert_array_equal(file["images"], reconstructions)

    names = ("a/0.jpg", "a_0.png", "../1", "b", "c.gif")
    images.writer.write_pairs(tmp_path / "pairs", originals, reconstructions, names)
    for name, item in zip(("a_0", "a_0-2", "_1", "b", "c"), reconstructions, strict=True):
        np.testing.assert_array_equal(read(tmp_path / "pairs" / f"{name}.png"), item)


def test_the_progress_picture_is_a_png_whatever_the_suffix(tmp_path):
    items = random_images()
    assert images.writer.write_picture(tmp_path / "epoch-1", (items, items), items) == tmp_path / "epoch-1.png"
    np.testing.assert_array_equal(read(tmp_path / "epoch-1.png"), pictures.progress(items, items, items))


@pytest.mark.parametrize("name", ["out.png", "out.npz", "out"])
@pytest.mark.parametrize("found", [4, 6])
def test_a_wrong_number_of_items_leaves_nothing(tmp_path, name, found):
    with pytest.raises(ValueError, match=r"5|longer"):
        images.writer.write(tmp_path / name, [random_images(2), random_images(found - 2)], 5)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["out.png", "out.npz"])
def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, name):
    out = tmp_path / name
    out.write_bytes(b"former")

    def failing():
        yield random_images(2)
        raise RuntimeError("no memory left")

    with pytest.raises(RuntimeError):
        images.writer.write(out, failing(), 5)
    assert out.read_bytes() == b"former"
    images.writer.write(out, [random_images()], 5)
    assert out.read_bytes() != b"former"
    assert list(tmp_path.iterdir()) == [out]


def test_a_failing_run_leaves_no_half_directory(tmp_path):
    def failing():
        yield random_images(2)
        raise RuntimeError("no memory left")

    with pytest.raises(RuntimeError):
        images.writer.write(tmp_path / "out", failing(), 5)
    assert not list(tmp_path.iterdir())


def test_a_grid_too_large_is_refused_before_the_second_batch(tmp_path):
    def batches():
        yield random_images(1, 64)
        pytest.fail("the second batch was asked for")

    with pytest.raises(RaectlError, match="1,000,000 images") as error:
        images.writer.write(tmp_path / "out.png", batches(), 1_000_000)
    assert error.value.hint is not None and ".npz" in error.value.hint


@pytest.mark.parametrize("name", ["a.pdf", "a.mp4", "a.pt", "model.safetensors", "..", "."])
def test_names_that_no_item_can_be_written_under(name):
    with pytest.raises(UsageError) as error:
        images.writer.check_out(Path(name))
    assert error.value.hint is not None and ".png" in error.value.hint and "directory" in error.value.hint


@pytest.mark.parametrize("name", ["grid.png", "grid.npz", "grid", "samples.v2"])
def test_check_out_wants_a_parent(tmp_path, name):
    images.writer.check_out(tmp_path / name)
    with pytest.raises(RaectlError) as error:
        images.writer.check_out(tmp_path / "missing" / name)
    assert error.value.hint == f"mkdir -p {tmp_path / 'missing'}"


def test_check_out_looks_at_what_is_there(tmp_path):
    (tmp_path / "full.png").mkdir()
    with pytest.raises(RaectlError, match=r"is a directory, not a \.png file"):
        images.writer.check_out(tmp_path / "full.png")
    (tmp_path / "file").touch()
    with pytest.raises(RaectlError, match="is a file, not a directory"):
        images.writer.check_out(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    images.writer.check_out(tmp_path / "empty")
    with pytest.raises(RaectlError, match="is not empty"):
        images.writer.check_out(tmp_path)
