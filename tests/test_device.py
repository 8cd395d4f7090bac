"""Which device and precision `auto` stands for."""

import pytest
import torch

import raectl
from raectl import device
from raectl.errors import UsageError
from raectl.progress import Progress


@pytest.fixture
def processor(monkeypatch):
    """A CPU with or without the instructions, on which bfloat16 is so many times as fast."""

    def become(amx: bool, avx512_bf16: bool, ratio: float | None = None) -> None:
        monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: amx)
        monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: avx512_bf16)
        measured = (lambda: ratio) if ratio else lambda: pytest.fail("nothing to measure")
        monkeypatch.setattr(device, "_products_in_bf16", measured)

    return become


@pytest.mark.parametrize(
    ("amx", "avx512_bf16", "ratio", "expected"),
    [
        (True, True, None, "bf16"),
        (False, True, 2.0, "bf16"),
        (False, True, 0.6, "fp32"),
        (False, True, 1.1, "fp32"),
        (False, False, None, "fp32"),
    ],
)
def test_auto_is_what_is_clearly_faster(processor, amx, avx512_bf16, ratio, expected):
    processor(amx, avx512_bf16, ratio)
    assert device.resolve_precision("auto", "cpu") == expected
    assert device.resolve_precision("fp32", "cpu") == "fp32"


def test_a_precision_that_is_asked_for_is_not_measured(processor):
    processor(amx=False, avx512_bf16=True)
    assert device.resolve_precision("bf16", "cpu") == "bf16"
    processor(amx=False, avx512_bf16=False)
    with pytest.raises(UsageError, match="bf16 is not available on this cpu"):
        device.resolve_precision("bf16", "cpu")


def test_the_measurement_is_made_once_and_is_a_ratio():
    assert 0.01 < device._products_in_bf16() < 100
    assert device._products_in_bf16() == device._products_in_bf16()


# -- numbers too small for full precision --------------------------------------------------------------------------


def denormal() -> float:
    return float(torch.full((1,), 1e-38) / 100)


def test_denormals_are_flushed_within_and_as_they_were_behind_in_this_thread():
    assert denormal() > 0
    with device.flushing_denormals():
        assert denormal() == 0
        with device.flushing_denormals():
            assert denormal() == 0
        assert denormal() == 0
    assert denormal() > 0


def test_a_training_run_flushes_denormals_and_leaves_the_setting(tmp_path):
    class Looking(Progress):
        def epoch(self, record):
            seen.append(denormal())

    seen: list[float] = []
    config = raectl.Config(epochs=2, width=2, latent_dim=2, batch_size=600, device="cpu")
    raectl.train(config, "digits", tmp_path / "ckpt", progress=Looking())
    assert seen == [0, 0] and denormal() > 0
    with pytest.raises(UsageError):
        raectl.train(config, "digits", tmp_path / "ckpt")
    assert denormal() > 0
