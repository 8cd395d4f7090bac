"""Images of any height and width: which shape they get, what of them is kept, by files and by arrays alike."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from support.data import encoded, fill, noise, png

from raectl.data import DataOptions, open_dataset
from raectl.data.images import decode

FITS = ("crop", "pad", "stretch")
# Height and width of an image, and of what it is to become.
CASES = [
    ((40, 90), (24, 16)),  # a wide one for a tall target
    ((90, 40), (16, 24)),
    ((37, 61), (48, 20)),
    ((20, 30), (40, 64)),  # enlarged
    ((9, 8), (8, 33)),
    ((8, 40), (40, 8)),
    ((96, 64), (48, 32)),  # of the target's shape
    ((33, 64), (17, 64)),  # as wide as the target
    ((48, 31), (48, 17)),  # as high
    ((24, 16), (24, 16)),  # as it is
    ((10, 12), (40, 24)),  # smaller than the target
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RAECTL_CACHE", str(tmp_path / "cache"))


def options(shape: tuple[int, int], fit: str = "crop", channels: int = 3) -> DataOptions:
    return DataOptions("{}x{}".format(*shape), fit, "#204060", channels=channels)


def smooth(height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8 without sharp edges, so far from 0 and 255 that nothing is clipped."""
    image = Image.fromarray(noise(5, 6, 3) // 2 + 64).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)


# -- crop, pad and stretch -------------------------------------------------------------------------------------------


def resampled(pixels: np.ndarray, axis: int, start: int, length: int, size: int) -> np.ndarray:
    """`length` pixels from `start` on resampled to `size`, by Lanczos' kernel (a = 3), and rounded."""
    scale = length / size
    centres = start + (np.arange(size) + 0.5) * scale
    at = np.arange(pixels.shape[axis]) + 0.5
    distance = (at[None, :] - centres[:, None]) / max(scale, 1)
    weights = np.where(abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.moveaxis(np.tensordot(weights, pixels, (1, axis)), 0, axis).round()


def window(shape: tuple[int, int], target: tuple[int, int]) -> tuple[int, int, int, int]:
    """Top, left, height and width of the largest part in the middle whose shape is nearest the target's."""
    (h, w), ratio = shape, Fraction(target[1], target[0])
    if w >= h * ratio:
        width = min(range(1, w + 1), key=lambda n: abs(n - h * ratio))
        return 0, (w - width) // 2, h, width
    height = min(range(1, h + 1), key=lambda n: abs(n - w / ratio))
    return (h - height) // 2, 0, height, w


@pytest.mark.parametrize(("shape", "target"), CASES)
@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_crop_and_stretch_fill_the_target(fit, shape, target):
    pixels = smooth(*shape)
    top, left, h, w = window(shape, target) if fit == "crop" else (0, 0, *shape)
    expected = resampled(resampled(pixels, 1, left, w, target[1]), 0, top, h, target[0])
    found = decode.row(decode.open_picture(png(pixels)), options(target, fit))
    assert found.shape == (*target, 3)
    assert abs(found - expected).max() <= 1
    if (h, w) == target:
        assert np.array_equal(found, pixels[top : top + h, left : left + w])


@pytest.mark.parametrize(("shape", "target"), CASES)
def test_pad_keeps_all_and_never_enlarges(shape, target):
    pixels = smooth(*shape)
    scale = min(Fraction(1), *(Fraction(want, have) for want, have in zip(target, shape, strict=True)))
    inner = tuple(max(1, round(side * scale)) for side in shape)
    top, left = ((want - have) // 2 for want, have in zip(target, inner, strict=True))
    expected = np.empty((*target, 3))
    expected[:] = (0x20, 0x40, 0x60)
    part = resampled(resampled(pixels, 1, 0, shape[1], inner[1]), 0, 0, shape[0], inner[0])
    expected[top : top + inner[0], left : left + inner[1]] = part
    found = decode.row(decode.open_picture(png(pixels)), options(target, "pad"))
    assert abs(found - expected).max() <= 1
    if scale == 1:
        assert np.array_equal(found[top : top + inner[0], left : left + inner[1]], pixels)


@pytest.mark.parametrize(("shape", "target"), CASES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fit", FITS)
def test_pictures_and_arrays_give_the_same_bytes(fit, channels, shape, target):
    pixels, wanted = noise(*shape, 3), options(target, fit, channels)
    row = decode.row(decode.open_picture(png(pixels)), wanted)
    block = decode.block(np.stack([pixels, pixels[::-1]]), wanted)
    assert block.shape == (2, *target, channels) and np.array_equal(block[0], row)


@pytest.mark.parametrize(
    ("target", "fit", "size"),
    [
        ((96, 24), "crop", (150, 200)),  # an eighth: 200 >= 2 x 96, 150 >= 2 x 24
        ((24, 96), "crop", (300, 400)),  # a quarter: 300 >= 2 x 96
        ((24, 96), "stretch", (300, 400)),
        ((24, 96), "pad", (150, 200)),  # an eighth: it becomes 24 x 18
        ((512, 128), "pad", (300, 400)),  # a quarter: it becomes 171 x 128
        ((512, 128), "crop", (1200, 1600)),  # as it is: half of 1600 is less than 2 x 512
    ],
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_at_twice_the_target_or_more(target, fit, size, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = Image.new("RGB", (1200, 1600), "red")
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose.ROTATE_90)
    picture = decode.open_picture(encoded(stored, "JPEG", exif=exif))
    assert decode.header(picture).size == (1200, 1600)
    assert decode.converted(picture, options(target, fit)).size == target[::-1]
    assert picture.size == size


# -- which shape -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(96, 64), (9, 31), (128, 8), (8, 128)])
def test_images_of_one_size_keep_it(tmp_path, shape):
    images = noise(4, *shape, 3)
    folder = fill(tmp_path / "images", {f"{index}.png": png(image) for index, image in enumerate(images)})
    np.save(tmp_path / "images.npy", images)
    for source in (folder, tmp_path / "images.npy", images):
        dataset = open_dataset(source)
        assert np.array_equal(dataset.items, images) and dataset.notes == ()
        assert dataset.options.image_size == "{}x{}".format(*shape)
    again = open_dataset(folder, dataset.options)
    assert again.notes == () and again.fingerprint == dataset.fingerprint


@pytest.mark.parametrize("shape", [(129, 64), (7, 64), (200, 130)])
def test_images_of_one_size_that_is_too_large_or_too_small_become_square(shape):
    dataset = open_dataset(noise(3, *shape, 1))
    assert dataset.items.shape == (3, 64, 64, 1) and dataset.options.image_size == 64
    (note,) = dataset.notes
    assert note.startswith("images of {}x{} (height x width) became 64 x 64 by crop, which".format(*shape))


@pytest.mark.parametrize(
    ("shapes", "wanted", "expected"),
    [
        ([(96, 64)], {"image_size": "48x32"}, ""),  # a size that was asked for, and nothing lost
        ([(96, 64)], {"image_size": 32}, "images of 96x64 (height x width) became 32 x 32 by crop, which cuts off 33% "
                                         "of each; --fit pad keeps all of it"),
        ([(60, 40)], {"image_size": "40x60"}, "images of 60x40 (height x width) became 40 x 60 by crop, which cuts off "
                                              "56% of each; --fit pad keeps all of it"),
        ([(60, 40)], {"image_size": "40x60", "fit": "pad"}, ""),
        ([(32, 32)], {"image_size": "32x16"}, "images of 32x32 became 32 x 16 by crop, which cuts off 50% of each; "
                                              "--fit pad keeps all of it"),
        ([(32, 16), (64, 32)], {"image_size": "32x16"}, ""),
        ([(32, 16), (64, 32)], {"image_size": "32x16", "channels": 1},
         "images of 2 sizes (smallest 32x16, largest 64x32, height x width) became 32 x 16 by crop, as the model takes "
         "them"),
        ([(32, 16)], {"image_size": "32x16", "channels": 1}, ""),
        ([(16, 32)], {"image_size": "32x16", "channels": 1}, "images of 16x32 (height x width) became 32 x 16 by "
                                                             "crop, which cuts off 75% of each, as the model takes "
                                                             "them"),
    ],
)  # fmt: skip
def test_what_became_of_the_images_is_said(tmp_path, shapes, wanted, expected):
    files = {f"{index}.png": png(noise(*shape)) for index, shape in enumerate(shapes)}
    folder = fill(tmp_path / "images", files)
    for _ in range(2):  # decoded, and from the cache
        assert open_dataset(folder, DataOptions(**wanted)).notes == ((expected,) if expected else ())
