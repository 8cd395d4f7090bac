"""The loss of held-out items."""

from pathlib import Path

import numpy as np
import pytest
from support.checkpoints import SMALL

import raectl
from raectl.data import open_dataset
from raectl.model.resolve import resolve
from raectl.training.loop import Loop


def loop_of(items: np.ndarray, out: Path, **options: object) -> Loop:
    dataset = open_dataset(items)
    config = raectl.Config(**{**SMALL, "image_size": 8, "val_fraction": 0.5, **options})
    return Loop(resolve(config, dataset), dataset, out)


def sorted_by_class(n: int) -> np.ndarray:
    """The first half dark, the second bright, as a folder of a folder for each class is."""
    noise = np.random.default_rng(n).integers(0, 8, (n, 8, 8, 1))
    return (noise + np.where(np.arange(n) < n // 2, 10, 240)[:, None, None, None]).astype(np.uint8)


def test_validation_batches_of_a_sorted_source_are_of_every_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, seen, tensor = loop_of(sorted_by_class(128), tmp_path), [], Loop.tensor
    monkeypatch.setattr(loop, "tensor", lambda rows: seen.append(rows) or tensor(loop, rows))
    loop.validate()
    assert sorted(np.concatenate(seen)) == sorted(loop.val_rows)
    assert all(0 < np.mean(rows < 64) < 1 for rows in seen), "WAE's term would be that of one class's codes"


def test_validation_is_the_same_at_every_call(tmp_path: Path) -> None:
    loop = loop_of(sorted_by_class(128), tmp_path, model="vae")
    assert loop.validate() == loop.validate()
