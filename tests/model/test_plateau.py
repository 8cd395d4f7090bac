"""The learning rate: when it halves, and that the optimizer gets it."""

from pathlib import Path

import numpy as np
import pytest
from support.checkpoints import SMALL
from support.cli import write_pictures

import raectl
from raectl import presets, registry
from raectl.model.plateau import Plateau, Schedule
from raectl.training.loop import Loop
from raectl.training.run import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("schedule") / "images", 60)


#   losses, and the rate after each of them, in units of the first
SCHEDULES: dict[str, tuple[str, list[float], list[float]]] = {
    "gains": ("relative", [10, 9, 8, 7, 6, 5, 4, 3], [1] * 8),
    "five epochs": ("relative", [10, 10, 10, 10, 10, 10, 10], [1, 1, 1, 1, 1, 0.5, 0.5]),
    "halved twice": ("relative", [10] * 11, [1] * 5 + [0.5] * 5 + [0.25]),
    "a gain starts the count again": ("relative", [10, 11, 11, 11, 11, 9, 9, 9, 9, 9, 9], [1] * 10 + [0.5]),
    "a gain too small": ("relative", [10, 9.9995, 9.9994, 9.9993, 9.9992, 9.9991], [1] * 5 + [0.5]),
    "small gains that add up": ("relative", [10, 9.9995, 9.9989, 9.9989, 9.9989, 9.9989], [1] * 6),
    "relative to a large loss": ("relative", [1000, 999.95, 999.94, 999.93, 999.92, 999.91], [1] * 5 + [0.5]),
    "absolute on a large loss": ("absolute", [1000, 999.95, 999.94, 999.93, 999.92, 999.91], [1] * 6),
    "absolute on a small loss": ("absolute", [1e-3, 9.5e-4, 9.4e-4, 9.3e-4, 9.2e-4, 9.1e-4], [1] * 5 + [0.5]),
    "relative on a small loss": ("relative", [1e-3, 9.5e-4, 9.4e-4, 9.3e-4, 9.2e-4, 9.1e-4], [1] * 6),
    "a negative loss": ("relative", [-10, -10.0005, -10.0005, -10.0005, -10.0005, -10.0005], [1] * 5 + [0.5]),
}  # fmt: skip


@pytest.mark.parametrize(("mode", "losses", "rates"), SCHEDULES.values(), ids=SCHEDULES)
def test_plateau(mode: str, losses: list[float], rates: list[float]) -> None:
    assert follow(losses, mode, 1e-4) == rates


def follow(losses: list[float], mode: str, gain: float) -> list[float]:
    position, seen = Schedule(lr=1.0), []
    for loss in losses:
        Plateau(gain, 5, relative=mode == "relative").update(position, loss)
        seen.append(position.lr)
    return seen


@pytest.mark.parametrize("gain", [0.0, 0.5, 2.0])
def test_the_gain_that_is_asked_for(gain: float) -> None:
    losses = [10.0, *(10.0 - 0.25 * step for step in range(1, 13))]  # 0.5 is exceeded at every third epoch
    expected = {0.0: [1.0] * 13, 0.5: [1.0] * 13, 2.0: [1.0] * 5 + [0.5] * 8}[gain]
    assert follow(losses, "absolute", gain) == expected


@pytest.mark.parametrize("preset", ["mnist/rae-l2", "cifar10/wae", "celeba/rae-gp", "mnist/vae", "celeba/cv-vae"])
def test_the_released_schedule_in_means_is_ours_in_sums(preset: str) -> None:
    options = presets.options(preset)
    scale = {"mnist/rae-l2": 1024, "cifar10/wae": 3072, "celeba/rae-gp": 12288, "mnist/vae": 1, "celeba/cv-vae": 3}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        drop = rng.exponential(3e-4, 60) * np.linspace(1, -1, 60).clip(0)
        means = (0.05 - np.cumsum(drop) + rng.normal(0, 1e-4, 60)).tolist()  # the released code's loss, gain 1e-4
        released = follow(means, "absolute", 1e-4)
        ours = follow([scale[preset] * loss for loss in means], options["plateau"], options["plateau_gain"])
        assert ours == released
        assert released[-1] < 1, "the curve flattens, so the schedule has something to do"


def test_the_rate_has_a_floor() -> None:
    position = Schedule(lr=1.0)
    for _ in range(1000):
        Plateau(1e-4, 5, least=1e-8, relative=True).update(position, 1.0)
    assert position.lr == 1e-8


def test_a_fifth_after_one_epoch_and_not_below_the_least() -> None:
    position, seen = Schedule(lr=1e-3), []
    for loss in [10.0, 9.0, 9.0, 8.0, 8.0, 8.0]:
        Plateau(1e-4, 1, 0.2, least=1e-4).update(position, loss)
        seen.append(position.lr)
    assert seen == pytest.approx([1e-3, 1e-3, 2e-4, 2e-4, 1e-4, 1e-4])


def test_a_rate_below_the_least_is_not_raised() -> None:
    position = Schedule(lr=1e-5, reference=1.0, stale=4)
    Plateau(1e-4, 5, least=1e-4).update(position, 1.0)
    assert position.lr == 1e-5


@pytest.mark.parametrize("optimizer", registry.names("optimizer"))
def test_the_optimizer_gets_the_rate(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    rates: list[float] = []
    usual = Loop.step

    def watching(self: Loop, rows: np.ndarray) -> None:
        rates.append(self.optimizer._adam.param_groups[0]["lr"])
        assert getattr(self.optimizer, "_lr", rates[-1]) == rates[-1]
        usual(self, rows)

    monkeypatch.setattr(Loop, "step", watching)
    validate = Loop.validate
    monkeypatch.setattr(Loop, "validate", lambda self: {**validate(self), "loss": 1.0})
    train(raectl.Config(**SMALL, epochs=7, plateau_patience=5, optimizer=optimizer), data, tmp_path / "out")
    assert rates == [1e-3] * 24 + [5e-4] * 4


def test_the_configuration_s_gain_is_the_one(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    validate = Loop.validate
    monkeypatch.setattr(Loop, "validate", lambda self: {**validate(self), "loss": 100.0 - self.position.epoch})
    config = raectl.Config(**SMALL, epochs=7, plateau="absolute", plateau_gain=50.0, plateau_patience=5)
    lr = [line["lr"] for line in train(config, data, tmp_path / "far").directory.read_log()]
    assert lr == [1e-3] * 6 + [5e-4]
    near = train(config.replace(plateau_gain=0.5), data, tmp_path / "near").directory.read_log()
    assert [line["lr"] for line in near] == [1e-3] * 7
    config = config.replace(plateau_factor=0.2, plateau_patience=2, min_lr=1e-4, epochs=5)
    soon = train(config, data, tmp_path / "soon").directory.read_log()
    assert [line["lr"] for line in soon] == [1e-3] * 3 + [2e-4] * 2
