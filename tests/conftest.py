"""What the tests share: the program in this process, a cache of its own, and a small trained checkpoint."""

import os

# On shared cores OpenMP's busy waiting makes these small steps ten times slower; read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:  # a process a core, so a thread a process
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.cli import Cli, World, make_world, memory, write_pictures


@pytest.fixture(scope="session", autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache that is nobody's, and no wish for colours from the shell that runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAECTL_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "COLUMNS"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """`cli("train", ...)` runs `raectl train ...` in this process, and asserts that it succeeds."""
    return Cli(monkeypatch, capfd)


@dataclass(frozen=True)
class Trained:
    """A folder of pictures and a checkpoint of it, two epochs long, with the densities `gmm-2` and `gaussian`."""

    data: Path
    path: Path


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory, _environment: None) -> Trained:
    """Made once; not to be changed: `trained` is a copy to do that to."""
    import raectl

    home = tmp_path_factory.mktemp("trained")
    data = write_pictures(home / "images", 60, sizes=(16, 12, 8))
    config = raectl.Config(
        reg="tikhonov", width=2, latent_dim=4, image_size=16, epochs=2, batch_size=16, device="cpu", precision="fp32"
    )
    checkpoint = raectl.train(config, data, home / "ckpt")
    checkpoint.fit_density("gaussian")
    checkpoint.fit_density("gmm", components=2)
    return Trained(data, checkpoint.directory.path)


@pytest.fixture
def trained(original: Trained, tmp_path: Path) -> Trained:
    """A copy of `original`'s checkpoint for one test alone."""
    return Trained(original.data, Path(shutil.copytree(original.path, tmp_path / "ckpt")))


@pytest.fixture(scope="session")
def sharpened(original: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`original`'s checkpoint, sharpened in 40 steps without a disturbance; not to be changed."""
    import raectl

    path = Path(shutil.copytree(original.path, tmp_path_factory.mktemp("sharpened") / "ckpt"))
    raectl.sharpen(path, steps=40, device="cpu")
    return path


@pytest.fixture(scope="session")
def world(original: Trained, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Everything that can be wrong, `{w}` in the lists of mistakes; no test may change it."""
    return make_world(tmp_path_factory.mktemp("world"), original.path, original.data)


@pytest.fixture
def bounded_memory() -> Iterator[None]:
    """No more than a gigabyte above what was in use before; on Linux, which keeps count."""
    clear = Path("/proc/self/clear_refs")
    if not clear.exists():
        yield
        return
    clear.write_text("5")  # the peak starts anew
    before = memory("VmRSS")
    yield
    assert memory("VmHWM") - before < 2**30
