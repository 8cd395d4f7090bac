"""The files of a sharpened decoder: damage is noticed and named, and the plain decoder works without them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.checkpoints import flip_value
from support.cli import Cli, assert_clear_error, tree

import raectl
from raectl.checkpoint.directory import encoder_digest
from raectl.storage.arrays import read_arrays, write_arrays

SHARP, STATE = "decoder-sharp.safetensors", "sharpening.safetensors"
STEPS = 40  # of the fixture `sharpened` too


@pytest.fixture
def ckpt(sharpened: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sharpened, tmp_path / "ckpt"))


def arrays(change: Callable[[dict[str, np.ndarray]], Any]) -> Callable[[Path], None]:
    def build(path: Path) -> None:
        held, metadata = read_arrays(path, Any)
        held = {name: array.copy() for name, array in held.items()}
        change(held)
        write_arrays(path, held, metadata)

    return build


def record(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def build(path: Path) -> None:
        held, metadata = read_arrays(path, Any)
        change(metadata)
        write_arrays(path, held, metadata)

    return build


def content(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: (path.write_bytes(change(path.read_bytes())), None)[1]


def first(held: dict[str, np.ndarray]) -> str:
    return next(name for name, array in held.items() if array.ndim > 1)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "cut": content(lambda b: b[: len(b) // 2]),
    "flipped": content(flip_value),
    "empty": content(lambda _: b""),
    "an array missing": arrays(lambda h: h.pop(first(h))),
    "an array too many": arrays(lambda h: h.update(other=np.zeros(3, np.float32))),
    "another shape": arrays(lambda h: h.update({first(h): np.zeros((1, 1), np.float32)})),
    "not finite": arrays(lambda h: h[first(h)].fill(np.nan)),
    "another type": arrays(lambda h: h.update({first(h): h[first(h)].astype(np.float64)})),
    "no record": lambda path: write_arrays(path, read_arrays(path, Any)[0], {}),
    "a record that is a list": lambda path: write_arrays(path, read_arrays(path, Any)[0], []),
}
OF_SHARP = {
    "steps no number": record(lambda r: r.update(steps="many")),
    "an unknown field": record(lambda r: r.update(more=1)),
    "no numbers": record(lambda r: r.update(held_out={})),
    "no step": record(lambda r: r.update(step=0)),
    "black above white": arrays(lambda h: h["levels.points"].fill(0.5)),
    "held_out of texts": record(lambda r: r["held_out"].update(error="small")),
}
OF_STATE = {
    "steps out of range": record(lambda r: r["options"].update(steps=-1)),
    "a step beyond the last": record(lambda r: r["position"].update(step=STEPS + 1)),
    "a negative step": record(lambda r: r["position"].update(step=-1)),
    "gamma not finite": record(lambda r: r["position"].update(gamma=float("inf"))),
    "an average of one number": arrays(
        lambda h: h.update({n: np.zeros(1, np.float32) for n in h if n.startswith("average.")})
    ),
    "moments of text": record(lambda r: r.update(weights=5)),
    "levels out of range": arrays(lambda h: h["kept.levels.points"].fill(5.0)),
    "sums of another shape": arrays(lambda h: h.update({"sums.sums": np.zeros(1)})),
    "a mixture of other dimensions": arrays(
        lambda h: h.update({"mixture.means": np.zeros((h["mixture.means"].shape[0], 9), np.float32)})
    ),
}


@pytest.mark.parametrize("damage", {**DAMAGE, **OF_SHARP})
def test_a_damaged_sharp_decoder_is_refused_and_the_plain_one_works(
    cli: Cli, ckpt: Path, tmp_path: Path, damage: str
) -> None:
    {**DAMAGE, **OF_SHARP}[damage](ckpt / SHARP)
    before = tree(ckpt)
    result = cli.run("sample", ckpt, "-n", 2, "-o", tmp_path / "x.npz")
    assert_clear_error(result, 1, str(ckpt / SHARP))
    assert not (tmp_path / "x.npz").exists()
    assert tree(ckpt) == before
    cli("sample", ckpt, "-n", 2, "-o", tmp_path / "x.npz", "--decoder", "plain")
    cli("fit-density", ckpt, "--density", "gaussian")
    cli("sharpen", ckpt, "--overwrite", "--steps", 2)
    cli("sample", ckpt, "-n", 2, "-o", tmp_path / "x.npz")


@pytest.mark.parametrize("damage", {**DAMAGE, **OF_STATE})
def test_a_damaged_state_is_refused_when_it_is_to_go_on(cli: Cli, ckpt: Path, tmp_path: Path, damage: str) -> None:
    {**DAMAGE, **OF_STATE}[damage](ckpt / STATE)
    before = tree(ckpt)
    result = cli.run("sharpen", ckpt, "--resume")
    assert_clear_error(result, 1, str(ckpt / STATE))
    assert tree(ckpt) == before
    cli("sample", ckpt, "-n", 2, "-o", tmp_path / "x.npz")
    cli("sharpen", ckpt, "--overwrite", "--steps", 2)


@pytest.mark.parametrize("name", [SHARP, STATE])
def test_links_out_of_the_directory_are_refused(cli: Cli, ckpt: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    (ckpt / name).rename(outside)
    (ckpt / name).symlink_to(outside)
    assert_clear_error(cli.run("info", ckpt), 1, name, "link out of the directory")


def test_a_sharp_decoder_of_other_weights_is_left_aside(cli: Cli, ckpt: Path, tmp_path: Path) -> None:
    record(lambda r: r.update(weights="0" * 64))(ckpt / SHARP)
    assert cli("sample", ckpt, "-n", 2, "-o", tmp_path / "x.npz", "--json").json["decoder"] == "plain"
    assert "other weights" in cli("info", ckpt).out


# -- densities belong to the encoder ----------------------------------------------------------------------------------


def test_the_encoders_digest_is_of_what_latents_come_from(ckpt: Path) -> None:
    held, _ = read_arrays(ckpt / "model.safetensors", Any)
    digest = encoder_digest(held)
    assert digest == raectl.load(ckpt).encoder
    for name in held:
        changed = {**held, name: held[name] + 1}
        assert (encoder_digest(changed) == digest) is name.startswith("decoder."), name
    assert any("running_mean" in name for name in held if name.startswith("encoder."))


def test_every_density_stays_valid(cli: Cli, trained: Any, tmp_path: Path) -> None:
    kinds = {
        "student-t": ("--components", 2),
        "bayesian-gmm": ("--components", 2),
        "kde": (),
        "standard-normal": (),
        "vae,epochs=1,hidden=8": (),
        "flow,epochs=1": (),
    }
    for kind, options in kinds.items():
        cli("fit-density", trained.path, "--density", kind, "--name", kind.partition(",")[0], *options)
    names = raectl.load(trained.path).densities()
    for name in names:
        cli("sample", trained.path, "-n", 5, "--density", name, "--latents", "-o", tmp_path / f"{name}.npy")
    cli("sharpen", trained.path, "--steps", STEPS)
    for name in names:
        cli("sample", trained.path, "-n", 5, "--density", name, "--latents", "-o", tmp_path / "after.npy")
        assert (tmp_path / "after.npy").read_bytes() == (tmp_path / f"{name}.npy").read_bytes(), name
        cli("sample", trained.path, "-n", 5, "--density", name, "-o", tmp_path / "after.png")
