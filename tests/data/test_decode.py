"""Conversion is exact where it can be: what is upright, flat and of the right size keeps its pixels."""

import numpy as np
import pytest
from PIL import Image
from support.data import encoded, noise, png, squared

from raectl.data import DataOptions
from raectl.data.images import decode


def options(size: int, fit: str = "crop", background: str = "white", channels: int = 3) -> DataOptions:
    return DataOptions(size, fit, background, channels=channels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_exif_rotated_equals_upright(orientation, kind):
    upright = noise(12, 20, 3)
    # How a camera held in each orientation stores the picture.
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.swapaxes(0, 1),
        6: np.rot90(upright), 7: upright[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif)
    assert decode.header(decode.open_picture(turned)) == ((20, 12), 3, 1)
    for fit in ("crop", "pad", "stretch"):
        expected = squared(png(upright), options(16, fit))
        assert np.array_equal(squared(turned, options(16, fit)), expected)


@pytest.mark.parametrize(("background", "behind"), [("white", 255), ("black", 0)])
def test_transparent_pixels_show_the_background(background, behind):
    rgba = noise(16, 16, 4)
    rgba[0, :, 3], rgba[1, :, 3] = 0, 255
    alpha = rgba[..., 3:] / 255
    expected = np.rint(rgba[..., :3] * alpha + behind * (1 - alpha)).astype(np.uint8)
    assert np.array_equal(squared(png(rgba), options(16, background=background)), expected)
    assert np.array_equal(decode.block(rgba[None], options(16, background=background))[0], expected)


def test_grey_with_alpha_is_composited_and_stays_grey():
    picture = encoded(Image.fromarray(np.array([[[100, 0]] * 8, [[100, 255]] * 8] * 4, np.uint8), "LA"), "PNG")
    assert decode.header(decode.open_picture(picture)) == ((8, 8), 1, 1)
    rows = squared(picture, options(8, channels=1))[:, 0, 0]
    assert rows.tolist() == [255, 100] * 4


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette_with_transparency(kind):
    image = Image.fromarray(np.tile(np.array([0, 1, 2, 2], np.uint8), (8, 2)), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    row = squared(encoded(image, kind, transparency=1), options(8, background="#102030"))[0, :4]
    assert row.tolist() == [[255, 0, 0], [16, 32, 48], [0, 0, 255], [0, 0, 255]]


def test_sixteen_bits_are_scaled_and_not_clipped():
    values = np.tile(np.array([0, 257, 128 * 257, 65535], np.uint16), (8, 2))
    picture = encoded(Image.fromarray(values), "PNG")
    assert decode.header(decode.open_picture(picture))[1]
    assert squared(picture, options(8, channels=1))[0, :4, 0].tolist() == [0, 1, 128, 255]
    as_int = encoded(Image.fromarray(values.astype(np.int32)), "TIFF")
    assert squared(as_int, options(8, channels=1))[0, :4, 0].tolist() == [0, 1, 128, 255]


def test_float_and_one_bit_and_cmyk():
    floats = encoded(Image.fromarray(np.tile(np.array([0, 1, 0.2, 0.6], np.float32), (8, 2))), "TIFF")
    assert squared(floats, options(8, channels=1))[0, :4, 0].tolist() == [0, 255, 51, 153]
    nan = encoded(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF")
    with pytest.raises(decode.BadImageError, match="NaN or infinite"):
        squared(nan, options(8, channels=1))
    bits = encoded(Image.fromarray(np.eye(8, dtype=bool)), "PNG")
    assert np.array_equal(squared(bits, options(8, channels=1))[..., 0], np.eye(8) * 255)
    cmyk = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF")
    assert squared(cmyk, options(8))[0, 0].tolist() == [255, 0, 0]


def test_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "PNG", "WEBP"):
        animated = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert np.allclose(squared(animated, options(8))[0, 0], [255, 0, 0], atol=2)


def test_pad_keeps_small_pixels_and_shrinks_large_ones():
    small = noise(28, 28)
    expected = np.pad(small, 2)[..., None]
    padded = options(32, "pad", "black", 1)
    assert np.array_equal(squared(png(small), padded), expected)
    assert np.array_equal(decode.block(small[None, ..., None], padded)[0], expected)
    wide = squared(png(np.full((32, 64, 3), 7, np.uint8)), options(32, "pad"))
    assert (wide[8:24] == 7).all()
    assert (wide[:8] == 255).all()
    assert (wide[24:] == 255).all()


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(20, 30, 3), (30, 20, 1), (16, 40, 4), (9, 9, 3), (16, 16, 1)])
def test_pictures_and_arrays_agree(fit, channels, shape):
    pixels = noise(*shape)
    wanted = options(16, fit, "#204060", channels)
    picture = squared(png(pixels[..., 0] if shape[2] == 1 else pixels), wanted)
    assert picture.shape == (16, 16, channels)
    assert np.array_equal(decode.block(pixels[None], wanted)[0], picture)


def test_crop_is_centred_and_exact():
    pixels = noise(16, 40, 3)
    assert np.array_equal(squared(png(pixels), options(16)), pixels[:, 12:28])


def test_a_large_jpeg_is_drafted_without_visible_change():
    ramp = np.tile(np.linspace(0, 255, 800).astype(np.uint8)[None, :, None], (600, 1, 3))
    for fit in ("pad", "crop", "stretch"):
        jpeg, lossless = (encoded(Image.fromarray(ramp), kind) for kind in ("JPEG", "PNG"))
        difference = squared(jpeg, options(32, fit)).astype(int) - squared(lossless, options(32, fit))
        assert abs(difference).max() <= 4


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bad_images_have_a_short_reason(monkeypatch):
    whole = png(noise(64, 64, 3))
    for data in (b"not an image at all", b"", whole[: len(whole) // 2], b"%!PS-Adobe-3.0 EPSF-3.0\n" + b" " * 99):
        with pytest.raises(decode.BadImageError) as caught:
            squared(data, options(8))
        assert 0 < len(str(caught.value)) <= 80
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    with pytest.raises(decode.BadImageError, match="64x64 pixels are too many"):
        decode.header(decode.open_picture(whole[:100]))
