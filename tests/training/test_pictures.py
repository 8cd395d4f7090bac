"""The pictures of a training run show all kinds of items, in whatever order the data are."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import raectl
from raectl.modalities.images import Images
from raectl.training.sharpening.run import Sharpening


@pytest.fixture
def drawn(monkeypatch):
    """The originals of the pictures that are drawn from here on."""
    found = []
    monkeypatch.setattr(type(Images().writer), "write_picture", lambda _, out, pairs, samples: found.append(pairs[0]))
    return found


def dark_then_bright(n):
    """Images sorted by class, as in folders by class: the first half is dark."""
    noise = np.random.default_rng(0).integers(0, 8, (n, 8, 8, 1))
    return (noise + np.where(np.arange(n) < n // 2, 10, 240)[:, None, None, None]).astype(np.uint8)


@pytest.mark.parametrize("val_fraction", [0.0, 0.5])
def test_pictures_of_sorted_data_show_every_class(drawn, tmp_path, val_fraction):
    config = raectl.Config(epochs=1, width=2, latent_dim=2, device="cpu", val_fraction=val_fraction)
    raectl.train(config, dark_then_bright(120), tmp_path / "out")
    means = drawn[0].mean(axis=(1, 2, 3))
    assert len(means) == 16 and 3 < (means < 128).sum() < 13


def test_so_do_those_of_the_second_phase(drawn, tmp_path):
    items = dark_then_bright(120)
    z = torch.zeros(120, 2)
    position, options = SimpleNamespace(step=1), SimpleNamespace(seed=0)
    loop = SimpleNamespace(modality=Images(), position=position)
    held_out = SimpleNamespace(z=z, z_samples=z, items=items)
    directory = raectl.checkpoint.directory.Directory(Path(tmp_path))
    phase = SimpleNamespace(held_out=held_out, loop=loop, options=options, directory=directory)
    Sharpening._draw(phase, lambda z: torch.zeros(len(z), 1, 8, 8))
    means = drawn[0].mean(axis=(1, 2, 3))
    assert len(means) == 16 and 3 < (means < 128).sum() < 13
