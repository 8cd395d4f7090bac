"""Walks between codes, and the command that draws them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from support.cli import assert_clear_error

import raectl
from raectl.data import open_dataset
from raectl.errors import UsageError
from raectl.generation.interpolation import interpolate, linear, named_pair, random_pairs, spherical

T = torch.linspace(0, 1, 5)


def codes(seed, d=6):
    return torch.randn(4, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("walk", [linear, spherical])
def test_a_walk_begins_and_ends_at_its_codes_and_reverses(walk):
    a, b = codes(0), codes(1)
    z = walk(a, b, T)
    assert z.shape == (4, 5, 6) and z.dtype == torch.float32
    torch.testing.assert_close(z[:, 0], a)
    torch.testing.assert_close(z[:, -1], b)
    torch.testing.assert_close(z, walk(b, a, T).flip(1))


def test_spherical_keeps_the_norm_and_the_angle():
    a = torch.nn.functional.normalize(codes(0), dim=1) * 3
    b = torch.nn.functional.normalize(codes(1), dim=1) * 3
    z = spherical(a, b, T)
    torch.testing.assert_close(z.norm(dim=2), torch.full((4, 5), 3.0))
    cosines = torch.nn.functional.cosine_similarity(z[:, 1:], z[:, :-1], dim=2)
    torch.testing.assert_close(cosines, cosines[:, :1].expand(4, 4), rtol=1e-4, atol=1e-4)


def test_spherical_is_linear_where_no_plane_is():
    a = codes(0)
    for b in (2 * a, -a, torch.zeros_like(a)):
        torch.testing.assert_close(spherical(a, b, T)[0], linear(a, b, T)[0] if b.any() else spherical(a, b, T)[0])
        assert spherical(a, b, T).isfinite().all()


def test_random_pairs_use_no_item_twice():
    pairs = random_pairs(20, 10, seed=3)
    assert sorted(pairs.ravel()) == list(range(20))
    assert np.array_equal(pairs[:4], random_pairs(20, 4, seed=3))
    assert not np.array_equal(pairs, random_pairs(20, 10, seed=4))
    with pytest.raises(UsageError, match="--pairs 11 needs 22"):
        random_pairs(20, 11, seed=3)


def test_items_by_name_and_number(original):
    dataset = open_dataset(original.data)
    assert named_pair(dataset, dataset.names[5], "2").tolist() == [[5, 2]]
    with pytest.raises(UsageError, match="no item 'nothing'"):
        named_pair(dataset, "0", "nothing")


def test_the_ends_are_reconstructions(original):
    checkpoint = raectl.load(original.path)
    items = checkpoint.open_data().items
    walks = interpolate(checkpoint, items, np.array([[0, 3], [4, 1]]), 4, "linear")
    ends = checkpoint.reconstruct(items[[0, 3, 4, 1]])
    assert np.array_equal(walks[:, [0, -1]].reshape(ends.shape), ends)


def test_the_command_writes_rows_animation_arrays_and_frames(original, cli, tmp_path):
    for out in ("walks.png", "walks.gif", "walks.npz", "frames"):
        command = ["interpolate", original.path, "--data", original.data, "--pairs", 3, "--steps", 4, "--json"]
        assert json.loads(cli(*command, "-o", tmp_path / out).out)["steps"] == 4
    with Image.open(tmp_path / "walks.gif") as gif:
        assert gif.n_frames == 6
    walks = np.load(tmp_path / "walks.npz")["images"]
    assert walks.shape == (3, 4, 16, 16, 3)
    assert len(list((tmp_path / "frames").iterdir())) == 12
    frame = np.asarray(Image.open(tmp_path / "frames" / "walk-002-step-001.png"))
    assert np.array_equal(frame, walks[2, 1])
    with Image.open(tmp_path / "walks.png") as picture:
        assert picture.size == (4 * (64 + 4) + 4, 3 * (64 + 4) + 4)


@pytest.mark.parametrize(
    ("wrong", "fragment"),
    [(["--kind", "bent"], "linear, spherical"), (["--pairs", 31], "--pairs 30"), (["--between", "0", "x"], "'x'")],
)
def test_wrong_use_is_a_clear_error(original, cli, tmp_path, wrong, fragment):
    command = ["interpolate", original.path, "--data", original.data, "-o", tmp_path / "x.png", *wrong]
    assert_clear_error(cli.run(*command), 2, fragment)
    assert not (tmp_path / "x.png").exists()


def test_nothing_is_written_into_the_data(original, cli):
    command = ["interpolate", original.path, "--data", original.data, "--pairs", 2, "-o", original.data / "walks.png"]
    assert_clear_error(cli.run(*command), 1, "lies in the data")
    assert not (original.data / "walks.png").exists()
