"""The toy modality and the others keep one contract."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.strings import GRAMMAR, derivations
from support.toy import ToySource, Vectors, register_toy, surface

from raectl import registry
from raectl.data import DataOptions, open_dataset
from raectl.errors import UsageError
from raectl.modalities.base import Modality, modality_of


def any_bytes(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, *shape), np.uint8)


ITEMS = {"images": any_bytes(9, 9, 3), "vectors": any_bytes(12), "strings": derivations(6)}


@pytest.fixture(params=ITEMS)
def modality_and_items(request) -> tuple[Modality, np.ndarray]:
    register_toy()
    return modality_of(request.param, DataOptions(grammar=GRAMMAR.text())), ITEMS[request.param]


def test_all_modalities_are_here():
    register_toy()
    assert set(registry.names("modality")) == set(ITEMS)


def test_contract(modality_and_items, tmp_path):
    modality, items = modality_and_items
    x = modality.to_tensor(torch.from_numpy(items))
    assert tuple(x.shape[1:]) == modality.item_shape(items.shape[1:])
    assert x.dtype == torch.float32 and x.min() >= 0 and x.max() <= 1
    np.testing.assert_array_equal(modality.to_items(x), items)
    assert modality.default_architecture(tuple(x.shape[1:])) in registry.names("architecture")
    assert modality.default_latent_dim(tuple(x.shape[1:])) > 0
    assert modality.reconstructions and set(modality.reconstructions) <= set(registry.names("reconstruction"))
    for name in modality.metrics:
        assert registry.resolve("metric", name)(x, modality.measured(x.flip(0))).shape == (6,)
    for name in modality.extractors:
        assert name in registry.names("extractor")
    assert len(modality.shown(items)) == 6 and modality.data_dim(tuple(x.shape[1:])) > 0
    for suffix in modality.writer.suffixes:
        modality.writer.write(tmp_path / f"items{suffix}", [items[:4], items[4:]], 6)
        modality.writer.write_pairs(tmp_path / f"pairs{suffix}", items, items)
    assert modality.writer.write_picture(tmp_path / "progress.x", (items, items), items).is_file()
    with pytest.raises(UsageError, match=r"out\.mp4"):
        modality.writer.check_out(tmp_path / "out.mp4")


def test_vectors_are_written_as_numbers(tmp_path):
    items = surface(5)
    Vectors().writer.write(tmp_path / "v.txt", [items], 5)
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "v.txt", dtype=np.uint8), items)
    with pytest.raises(UsageError) as error:
        Vectors().writer.check_out(Path("directory"))
    assert error.value.hint == "supported: .npz, .txt"


def test_the_source_is_a_noisy_surface():
    register_toy()
    assert registry.resolve("source", "toy") is ToySource
    data = open_dataset("toy")
    assert data.items.shape == (200, 12) and data.items.dtype == np.uint8
    assert data.fingerprint == open_dataset("toy").fingerprint
