"""The size of images: every form of it, one stored value for each size, and what is refused with which remedy."""

import json

import numpy as np
import pytest

from raectl.config import Config, as_size, options_of, read_toml, sides
from raectl.data import DataOptions
from raectl.errors import UsageError
from raectl.storage.records import convert, to_json

SIZES = [
    (32, 32, (32, 32)),
    ("32", 32, (32, 32)),
    ("32x32", 32, (32, 32)),
    (np.int64(32), 32, (32, 32)),
    ("8x512", "8x512", (8, 512)),
    ("512x40", "512x40", (512, 40)),
    ("96x64", "96x64", (96, 64)),
    ("096x0064", "96x64", (96, 64)),
]


@pytest.mark.parametrize(("given", "stored", "expected"), SIZES, ids=repr)
def test_a_size_has_one_value_whatever_its_form(given, stored, expected):
    size = Config(image_size=given).image_size
    assert (size, type(size)) == (stored, type(stored))
    assert sides(size) == expected and as_size(*expected) == size
    assert Config(image_size=size).image_size == size


@pytest.mark.parametrize("size", [None, 32, "96x64"])
def test_a_size_comes_back_from_json(size):
    config = Config(image_size=size)
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    options = DataOptions(image_size=size)
    assert convert(json.loads(json.dumps(to_json(options))), DataOptions) == options


@pytest.mark.parametrize(("line", "stored"), [("image-size = 32", 32), ('image_size = "96x64"', "96x64")])
def test_a_size_in_toml(tmp_path, line, stored):
    path = tmp_path / "run.toml"
    path.write_text(f"{line}\n")
    assert Config.from_dict(read_toml(path)).image_size == stored


@pytest.mark.parametrize(
    ("given", "said", "hint"),
    [
        ("64x", "--image-size '64x' is neither N nor HxW, height x width", "--image-size 64, or --image-size 96x64"),
        (32.0, "--image-size 32.0 is neither N nor HxW, height x width", "--image-size 64, or --image-size 96x64"),
        ((96, 64), "--image-size (96, 64) is neither N nor HxW", "--image-size 64, or --image-size 96x64"),
        (7, "--image-size 7 is out of range: 8 to 512 a side", "--image-size 8"),
        ("0x5", "--image-size 0x5 is out of range: 8 to 512 a side", "--image-size 8"),
        ("600x64", "--image-size 600x64 is out of range: 8 to 512 a side", "--image-size 512x64"),
        ("64x7", "--image-size 64x7 is out of range: 8 to 512 a side", "--image-size 64x8"),
    ],
)
def test_a_wrong_size_is_answered_with_a_right_one(given, said, hint):
    with pytest.raises(UsageError) as error:
        options_of(Config)["image_size"].check(given, "--image-size ")
    assert said in error.value.message and error.value.hint == hint


def test_what_is_no_size_has_no_sides():
    with pytest.raises(ValueError, match="'large' is no size"):
        sides("large")
