"""Any change of any byte or JSON value of a checkpoint: it is refused in one clear line, or does no harm."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.checkpoints import edit

import raectl
from raectl.checkpoint import densities as fitted
from raectl.checkpoint.directory import Directory
from raectl.cli.commands.info import info
from raectl.errors import RaectlError
from raectl.storage.arrays import read_arrays, read_header, write_arrays
from raectl.training.resuming import resumed
from raectl.training.state import Position

BOUNDED = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=8), v, max_size=3))
CONFIG, DENSITY = "config.json", "densities/gmm-2/density.json"
STATE = "training.safetensors"
FILES = (CONFIG, DENSITY, STATE, "model.safetensors", "densities/gmm-2/density.safetensors")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Ways to every value below a JSON object."""
    for key, below in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(below, (*path, key))


@pytest.fixture
def whole(trained: Any) -> dict[str, bytes]:
    return {name: (trained.path / name).read_bytes() for name in FILES}


def use(path: Path, name: str) -> None:
    """What the commands do with a file of a directory; nothing but a `RaectlError` may come out of it."""
    directory = Directory(path)
    acts: list[Callable[[], Any]] = [lambda: info(path, as_json=False), lambda: info(path, as_json=True)]
    if name == STATE:
        acts = [lambda: resumed(directory, {"epochs": 3})]
    elif name == CONFIG:
        acts += [lambda: raectl.load(path, "cpu"), lambda: resumed(directory, {"epochs": 3})]
    else:
        acts += [lambda: raectl.load(path, "cpu").sample(2, density="gmm-2")]
    for act in acts:
        with contextlib.suppress(RaectlError):
            act()


@BOUNDED
@given(data=st.data())
@pytest.mark.parametrize("name", [CONFIG, DENSITY])
def test_a_json_value_is_another(trained: Any, whole: dict[str, bytes], name: str, data: st.DataObject) -> None:
    path = trained.path / name
    path.write_bytes(whole[name])
    record = json.loads(whole[name])
    place = data.draw(st.sampled_from([*places(record)]))
    value = data.draw(st.just(KeyError) | VALUES)

    def change(below: Any) -> None:
        for key in place[:-1]:
            below = below[key]
        if value is KeyError:
            del below[place[-1]]
        else:
            below[place[-1]] = value

    edit(path, change)
    use(trained.path, name)


@BOUNDED
@given(data=st.data())
@pytest.mark.parametrize("name", FILES)
def test_bytes_are_others(trained: Any, whole: dict[str, bytes], name: str, data: st.DataObject) -> None:
    content = bytearray(whole[name])
    header = min(len(content), 4000)  # half of the changes hit what decides on the rest
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, header - 1) | st.integers(0, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
    (trained.path / name).write_bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])
    try:
        use(trained.path, name)
    finally:
        (trained.path / name).write_bytes(whole[name])


@BOUNDED
@given(position=st.fixed_dictionaries({}, optional=dict.fromkeys((*vars(Position()), "more"), SCALARS)))
def test_a_training_state_at_any_position(
    original: Any, tmp_path_factory: pytest.TempPathFactory, position: dict[str, Any]
) -> None:
    """The digest is right: whoever makes it knows how."""
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    arrays, metadata = read_arrays(original.path / "training.safetensors", Any)
    known = metadata
    write_arrays(path, arrays, {**known, **position})
    try:
        found = read_header(path, Position)
    except RaectlError:
        return
    assert {name: type(value) for name, value in vars(found).items() if name not in _LOSSES} == {
        name: type(value) for name, value in known.items() if name not in _LOSSES
    }
    assert found.epoch >= 0 and found.lr > 0


_LOSSES = ("best_loss", "reference")


def test_what_is_not_changed_is_used(trained: Any, tmp_path: Path) -> None:
    """The uses above do succeed on a whole directory."""
    path = Path(shutil.copytree(trained.path, tmp_path / "whole"))
    assert raectl.load(path, "cpu").sample(2, density="gmm-2").shape == (2, 16, 16, 3)
    assert resumed(Directory(path), {"epochs": 3}).epochs == 3
    assert len(fitted.list_fitted(Directory(path))) == 2
