"""Features of many items: whatever the batches, and the cache of those that are measured again and again."""

import numpy as np
import pytest
import torch

from raectl.evaluation.features import cached_features, extract
from raectl.extractors.pixels import Pixels
from raectl.progress import Progress
from raectl.registry import resolve


class Counting(Pixels):
    """Pixels that count how often they are asked."""

    calls = 0

    def __call__(self, items):
        self.calls += 1
        return super().__call__(items)


class Other(Counting):
    name = "other"


class Recording(Progress):
    def __init__(self):
        self.seen = []

    def update(self, description, done, total):
        self.seen.append((description, done, total))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RAECTL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def items(n=300):
    return np.random.default_rng(0).integers(256, size=(n, 5, 4, 3), dtype=np.uint8)


def entry(cache):
    (path,) = cache.iterdir()
    return path


# -- extract -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 32, 300])
def test_features_do_not_depend_on_the_batches(size):
    x = items(40)
    features = extract(Pixels(), (x[i : i + size] for i in range(0, 40, size)), 40)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, Pixels()(x).numpy())


def test_of_a_network_too():
    x, extractor = items(37), resolve("extractor", "efficientnet-lite0")()
    features = extract(extractor, [x[:5], x[5:]], 37)
    np.testing.assert_array_equal(features, extractor(x).numpy())


def test_progress():
    progress = Recording()
    extract(Pixels(), [items(3), items(4)], 7, progress)
    assert progress.seen == [("computing features", 3, 7), ("computing features", 7, 7)]


@pytest.mark.parametrize("total", [2, 4])
def test_another_number_of_items_than_promised(total):
    with pytest.raises(ValueError, match=f"3 items instead of {total}"):
        extract(Pixels(), [items(3)], total)


def test_no_items():
    assert extract(Pixels(), [], 0).shape == (0, 0)
    assert extract(Pixels(), [items(0)], 0).shape == (0, 0)


# -- cached_features -----------------------------------------------------------------------------------------------


def test_the_second_call_finds_them(cache):
    x = items()
    first = cached_features(Counting(), x, "digits")
    again = Counting()
    np.testing.assert_array_equal(cached_features(again, x, "digits"), first)
    np.testing.assert_array_equal(first, Pixels()(x).numpy())
    assert again.calls == 0 and entry(cache).suffix == ".safetensors"


def test_other_data_other_rows_and_other_extractors_are_others(cache):
    cached_features(Counting(), items(), "digits")
    for extractor, x, key in (
        (Counting(), items(), "faces"),
        (Counting(), items(9), "digits"),
        (Other(), items(), "digits"),
    ):
        assert len(cached_features(extractor, x, key)) == len(x) and extractor.calls > 0
    assert len([*cache.iterdir()]) == 4


@pytest.mark.parametrize(
    "damage", [lambda data: data[:50], lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: b""]
)
def test_damage_is_repaired(cache, damage):
    x = items()
    first = cached_features(Counting(), x, "digits")
    entry(cache).write_bytes(damage(entry(cache).read_bytes()))
    second, third = Counting(), Counting()
    np.testing.assert_array_equal(cached_features(second, x, "digits"), first)
    np.testing.assert_array_equal(cached_features(third, x, "digits"), first)
    assert second.calls > 0 and third.calls == 0


def test_an_entry_of_something_else_is_not_taken(cache):
    cached_features(Counting(), items(), "digits")
    content = entry(cache).read_bytes()
    entry(cache).unlink()
    cached_features(Counting(), items() // 2, "faces")
    entry(cache).write_bytes(content)
    np.testing.assert_array_equal(cached_features(Counting(), items() // 2, "faces"), Pixels()(items() // 2).numpy())


def test_a_cache_that_cannot_be_written(cache):
    cache.parent.write_text("a file where the directory should be")
    for _ in range(2):
        extractor = Counting()
        assert len(cached_features(extractor, items(), "digits")) == 300 and extractor.calls > 0


def test_memory_mapped_items(tmp_path):
    np.save(tmp_path / "x.npy", items())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(cached_features(Pixels(), mapped, "digits"), Pixels()(items()).numpy())


def test_another_device_or_version_rounds_anew(monkeypatch):
    cached_features(Counting(), items(), "digits")
    monkeypatch.setattr(torch, "__version__", "0.0")
    extractor = Counting()
    cached_features(extractor, items(), "digits")
    assert extractor.calls > 0
