"""Files of latents: what is read, and what is said of those that hold none."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from support.cli import Cli, assert_clear_error

from raectl.checkpoint.densities import fit_latents
from raectl.checkpoint.latent_files import read_latents
from raectl.errors import RaectlError


def latents(n: int = 500, d: int = 4) -> np.ndarray:
    return np.random.default_rng(0).normal(7, 3, (n, d))


def zipped(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def test_the_only_array_of_an_archive_is_taken(cli: Cli, tmp_path: Path) -> None:
    z = latents(50)
    np.savez(tmp_path / "z.npz", anything=z)
    np.savez_compressed(tmp_path / "packed.npz", z.astype(np.float32))
    assert np.array_equal(read_latents(tmp_path / "z.npz"), z)
    assert np.array_equal(read_latents(tmp_path / "packed.npz"), z.astype(np.float32))
    cli("fit-density", tmp_path / "d", "--latents", tmp_path / "z.npz", "--density", "gaussian")
    for name in ("z", "latents"):  # the names that need no choice
        np.savez(tmp_path / "named.npz", **{name: z, "labels": np.arange(50)})
        assert np.array_equal(read_latents(tmp_path / "named.npz"), z)


def test_several_arrays_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "z.npz", mu=latents(), labels=np.arange(500))
    with pytest.raises(RaectlError, match=r"cannot tell which .* holds mu, labels") as caught:
        read_latents(tmp_path / "z.npz")
    assert run(caught.value.hint, tmp_path / "z-latents.npy").shape == (500, 4)
    np.savez(tmp_path / "none.npz")
    with pytest.raises(RaectlError, match="holds no array, but nothing"):
        read_latents(tmp_path / "none.npz")


def run(hint: str | None, out: Path) -> np.ndarray:
    """What the lines of a hint write."""
    exec(str(hint), {"numpy": np, "torch": torch})
    return read_latents(out)


DAMAGED = {
    "cut.npz": lambda w: (np.savez(w / "whole.npz", z=latents()), (w / "whole.npz").read_bytes()[:-200])[1],
    "pk.npy": lambda w: b"PK\x03\x04 and no more of a zip",
    "pk.dat": lambda w: b"PK",
    "bitten.npz": lambda w: bite((np.savez_compressed(w / "whole.npz", z=latents()), w / "whole.npz")[1].read_bytes()),
    "cut.npy": lambda w: (np.save(w / "whole.npy", latents()), (w / "whole.npy").read_bytes()[:-200])[1],
    "header.npy": lambda w: b"\x93NUMPY\x01\x00\xff\xff{",
}


def bite(packed: bytes) -> bytes:
    middle = len(packed) // 2
    return packed[:middle] + bytes(64) + packed[middle + 64 :]


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_a_clear_error(cli: Cli, tmp_path: Path, name: str) -> None:
    content = DAMAGED[name](tmp_path)
    (tmp_path / name).write_bytes(content)
    result = cli.run("fit-density", tmp_path / "d", "--latents", tmp_path / name)
    assert_clear_error(result, 1, f"cannot read latents from {tmp_path / name}: it is cut short or damaged", "hint: ")
    assert not (tmp_path / "d").exists()


def test_other_archives_say_what_they_hold(tmp_path: Path) -> None:
    zipped(tmp_path / "images.zip", {"a.png": b"png", "b.png": b"png"})
    with pytest.raises(RaectlError, match=r"holds no array, but a\.png, b\.png"):
        read_latents(tmp_path / "images.zip")


@pytest.mark.parametrize("zipped_format", [True, False])
def test_a_file_of_torch_gets_the_line_that_converts_it(tmp_path: Path, zipped_format: bool) -> None:
    z = torch.from_numpy(latents())
    torch.save(z, tmp_path / "z.pt", _use_new_zipfile_serialization=zipped_format)
    with pytest.raises(RaectlError, match="cannot read latents") as caught:
        read_latents(tmp_path / "z.pt")
    line = str(caught.value.hint).removesuffix(" makes one").replace("'z.npy'", repr(str(tmp_path / "new.npy")))
    assert np.array_equal(run(line, tmp_path / "new.npy"), z.numpy())


#   the array; what is said of it; the shape that the line makes of it, or None where no line does
SHAPES = {
    "flat": (latents()[:, 0], "one number a row, of type float64 and shape (500,)", (500, 1)),
    "maps": (latents(60, 16).reshape(60, 2, 2, 4), "more than two dimensions, of type float64", (60, 16)),
    "batch": (latents(60)[None], "shape (1, 60, 4)", (60, 4)),
    "bool": (latents() > 7, "true and false, of type bool and shape (500, 4)", (500, 4)),
    "complex": (latents() + 1j, "complex numbers, of type complex128", (500, 8)),
    "text": (np.array([["a", "b"]] * 4), "no numbers, of type <U1 and shape (4, 2)", None),
    "empty": (np.zeros((0, 4)), "no rows of numbers, of type float64 and shape (0, 4)", None),
    "number": (np.array(3.0), "no rows of numbers, of type float64 and shape ()", None),
    "one": (latents(1), "1 latent, too few to hold one out", None),
    "two": (latents(2), "2 latents, too few to hold one out", None),
}


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("name", SHAPES)
def test_an_array_of_another_shape_or_type_is_described(tmp_path: Path, name: str, suffix: str) -> None:
    array, said, made = SHAPES[name]
    path = tmp_path / f"{name}{suffix}"
    (np.save if suffix == ".npy" else np.savez)(path, array)
    with pytest.raises(RaectlError, match=r"holds no \(N, d\) array of numbers with N at least 3") as caught:
        read_latents(path)
    assert said in caught.value.message
    if made is None:
        assert not caught.value.hint
    else:
        assert run(caught.value.hint, tmp_path / f"{name}-latents.npy").shape == made


def test_bad_rows_are_counted_and_named_as_in_the_file(tmp_path: Path) -> None:
    z = latents()
    z[321, 2] = np.nan
    np.save(tmp_path / "nan.npy", z)
    for seed in range(3):  # on either side of the split
        with pytest.raises(
            RaectlError, match=r"nan\.npy: 1 of 500 latents is not finite .*, the first in row 321 \("
        ) as caught:
            fit_latents(tmp_path / "d", tmp_path / "nan.npy", seed=seed)
    without = str(caught.value.hint).removeprefix("the encoder may have diverged; without these rows: ")
    assert run(without, tmp_path / "nan-latents.npy").shape == (499, 4)
    z[[40, 77]] = np.inf
    np.save(tmp_path / "nan.npy", z)
    with pytest.raises(RaectlError, match=r"3 of 500 latents are not finite .*, the first in row 40"):
        fit_latents(tmp_path / "d", tmp_path / "nan.npy")
    assert not (tmp_path / "d").exists()


def test_three_latents_are_the_fewest(cli: Cli, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", latents(3))
    result = cli("fit-density", tmp_path / "d", "--latents", tmp_path / "z.npy")
    assert "2 latents do not fix 4 directions of variance" in result.err
    np.save(tmp_path / "z.npy", latents(2))
    result = cli.run("fit-density", tmp_path / "e", "--latents", tmp_path / "z.npy")
    assert_clear_error(result, 1, "N at least 3: it holds 2 latents, too few to hold one out and fit to the rest")
