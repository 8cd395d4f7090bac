"""The options of a run: what is refused and how, every form of `reg`, and the paper's presets."""

import dataclasses
import json

import pytest

from raectl import presets, registry
from raectl.config import Config, option, parse_regularizer, read_toml
from raectl.errors import RaectlError, UsageError

WRONG = {
    "model": ["gan", 3, None, ""],
    "beta": [-0.1, "much", float("nan"), float("inf"), True, 2e9],
    "sigma": [0.0, -1, "wide", None, float("nan"), True],
    "latent_dim": [0, 4097, 2.5, "16", True],
    "arch": ["resnet", 3],
    "width": [0, 1025, 2.0, "32", None, True],
    "bn_momentum": [0.0, 1.1, -1, "0.1", None, float("nan")],
    "image_size": [7, 513, 32.0, "32"],
    "fit": ["squash", None, 1],
    "background": [3, 0.5, False],
    "epochs": [0, -1, 1.5, 2_000_000, None, True],
    "batch_size": [1, 0, 1e2, 100_001, None],
    "lr": [0.0, -1e-3, 11, "fast", float("nan"), float("inf"), None, True],
    "seed": [-1, 2**63, 0.0, None, "7"],
    "device": ["tpu", None, 0],
    "precision": ["fp16", None, 32],
    "val_fraction": [-0.1, 0.91, "tenth", None, float("nan")],
    "plateau": ["cosine", None, 5],
    "plateau_gain": [-1e-4, 2e6, "some", None, float("nan"), True],
}
GIVEN = {
    "model": "vae",
    "beta": 0.5,
    "sigma": 0.4,
    "latent_dim": 7,
    "arch": "mlp",
    "width": 3,
    "bn_momentum": 0.01,
    "image_size": 16,
    "fit": "pad",
    "background": "#ff0000",
    "epochs": 2,
    "batch_size": 5,
    "lr": 0.1,
    "seed": 9,
    "device": "cpu",
    "precision": "fp32",
    "val_fraction": 0.0,
    "plateau": "absolute",
    "plateau_gain": 0.1,
}


def test_the_tables_here_know_every_option():
    names = {field.name for field in dataclasses.fields(Config)} - {"reg"}
    assert set(WRONG) == names == set(GIVEN)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_is_refused_by_the_name_it_is_typed_under(name, value):
    with pytest.raises(UsageError) as error:
        Config(**{name: value})
    typed = {"model": "model", "arch": "architecture"}.get(name) if isinstance(value, str) else None
    assert (typed or option(name)) in error.value.message
    assert error.value.exit_code == 2 and "\n" not in error.value.message


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("latent_dim", 1, 4096),
        ("width", 1, 1024),
        ("image_size", 8, 512),
        ("epochs", 1, 1_000_000),
        ("batch_size", 2, 100_000),
        ("seed", 0, 2**63 - 1),
        ("beta", 0, 1e9),
        ("bn_momentum", 1e-6, 1),
        ("lr", 1e-12, 10),
        ("val_fraction", 0, 0.9),
        ("sigma", 1e-6, 1e3),
        ("plateau_gain", 0, 1e6),
    ],
)
def test_the_ends_of_every_range_are_in_it(name, low, high):
    assert [getattr(Config(**{name: value}), name) for value in (low, high)] == [low, high]


def test_options_are_typed_with_hyphens():
    assert option("latent_dim") == "--latent-dim" and option("lr") == "--lr"


@pytest.mark.parametrize("name", ["bn_momentum", "plateau", "plateau_gain"])
def test_what_cannot_be_typed_is_named_as_it_is_written(name):
    assert option(name) == name


def test_defaults():
    config = Config()
    assert config.to_dict() == {
        "model": "rae",
        "reg": {},
        "beta": None,
        "sigma": 0.7,
        "latent_dim": None,
        "arch": None,
        "width": 32,
        "bn_momentum": 0.1,
        "image_size": None,
        "fit": "crop",
        "background": None,
        "epochs": 50,
        "batch_size": 100,
        "lr": 1e-3,
        "seed": 0,
        "device": "auto",
        "precision": "auto",
        "val_fraction": 0.1,
        "plateau": "relative",
        "plateau_gain": 1e-4,
    }


def test_a_whole_number_is_taken_for_a_float_and_kept_as_one():
    config = Config(beta=1, lr=1)
    assert type(config.beta) is float and type(config.lr) is float


# -- regularizers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({}, {}),
        ([], {}),
        ("none", {}),
        ({"none": None}, {}),
        ("tikhonov", {"tikhonov": {}}),
        ("tikhonov=0.5", {"tikhonov": {"weight": 0.5}}),
        ("tikhonov=0", {"tikhonov": {"weight": 0.0}}),
        (("tikhonov=1e-4", "spectral-norm"), {"tikhonov": {"weight": 1e-4}, "spectral-norm": {}}),
        ({"tikhonov": 2}, {"tikhonov": {"weight": 2}}),
        ({"tikhonov": None}, {"tikhonov": {}}),
        (
            {"gradient-penalty": {"weight": 0.1, "form": "released"}},
            {"gradient-penalty": {"weight": 0.1, "form": "released"}},
        ),
        (["none", "tikhonov"], {"tikhonov": {}}),
    ],
)
def test_forms_of_reg(given, stored):
    assert Config(reg=given).reg == stored


@pytest.mark.parametrize(
    "given",
    [
        "l2",
        "tikhonov=",
        "tikhonov=much",
        "tikhonov=-1",
        "tikhonov=nan",
        "tikhonov=inf",
        "",
        "=1",
        ["tikhonov", "l1"],
        3,
        None,
        [None],
        {"l2": 1},
        {"tikhonov": -1},
        {"tikhonov": True},
        {"tikhonov": "1"},
        {3: 1},
        {"tikhonov": {"weight": "1"}},
        {"tikhonov": {"weight": float("inf")}},
        {"none": -1},
    ],
    ids=repr,
)
def test_wrong_reg(given):
    with pytest.raises(UsageError, match="reg"):
        Config(reg=given)


def test_reg_is_the_configurations_own():
    given = {"tikhonov": {"weight": 1.0}}
    config = Config(reg=given)
    given["tikhonov"]["weight"] = 2.0
    given["spectral-norm"] = {}
    assert config.reg == {"tikhonov": {"weight": 1.0}}
    config.to_dict()["reg"]["tikhonov"]["weight"] = 3.0
    assert config.reg == {"tikhonov": {"weight": 1.0}}


def test_an_unknown_regularizer_lists_the_known():
    with pytest.raises(UsageError) as error:
        parse_regularizer("l2=1")
    assert "'l2'" in error.value.message and all(name in error.value.hint for name in registry.names("regularizer"))


# -- to and from elsewhere --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [{}, GIVEN, {**GIVEN, "reg": {"tikhonov": {"weight": 0.1}, "spectral-norm": {}}}])
def test_round_trip_through_json(values):
    config = Config(**values)
    again = Config.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config and again.to_dict() == config.to_dict()
    assert {name: getattr(again, name) for name in values} == values


def test_from_dict_takes_hyphens_and_refuses_what_it_does_not_know():
    assert Config.from_dict({"latent-dim": 3, "batch_size": 4}) == Config(latent_dim=3, batch_size=4)
    with pytest.raises(UsageError) as error:
        Config.from_dict({"latent-dims": 3}, "run.toml")
    assert "run.toml" in error.value.message and "latent_dims" in error.value.message
    assert "latent_dim" in error.value.hint


def test_replace_checks_again():
    assert Config().replace(epochs=3).epochs == 3
    with pytest.raises(UsageError, match="--epochs"):
        Config().replace(epochs=0)


def test_toml(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('data = "digits"\nlatent-dim = 4\nmodel = "vae"\n[reg]\ntikhonov = 1e-3\n[reg.spectral-norm]\n')
    values = read_toml(path)
    assert values.pop("data") == "digits"
    assert Config.from_dict(values) == Config(
        latent_dim=4, model="vae", reg={"tikhonov": {"weight": 1e-3}, "spectral-norm": {}}
    )


@pytest.mark.parametrize("content", [b"epochs = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_what_is_no_toml(content, tmp_path):
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(RaectlError, match=r"run\.toml is not valid TOML"):
        read_toml(path)


def test_missing_toml(tmp_path):
    with pytest.raises(RaectlError, match=r"cannot read .*none\.toml"):
        read_toml(tmp_path / "none.toml")
    with pytest.raises(RaectlError, match="cannot read"):
        read_toml(tmp_path)


# -- presets ----------------------------------------------------------------------------------------------------------

SIZES = {"mnist": (1, 32, 16), "cifar10": (3, 32, 128), "celeba": (3, 64, 64)}  # channels, side, d
RELEASED = {  # config.py of the released code: weight of the latent term, of the regularizer; epochs; learning rate
    "mnist/vae": (0.312, None, 100, 1e-4),
    "cifar10/vae": (0.024, None, 100, 1e-4),
    "celeba/vae": (0.09024, None, 70, 1e-4),
    "mnist/cv-vae": (0.039, None, 100, 1e-4),
    "cifar10/cv-vae": (9e-4, None, 70, 1e-4),
    "celeba/cv-vae": (0.01, None, 70, 1e-4),
    "mnist/wae": (0.03, None, 100, 1e-3),
    "cifar10/wae": (0.006, None, 70, 1e-3),
    "celeba/wae": (100 / (0.05 * 64 * 64 * 3), None, 70, 1e-3),  # released on 0.05 times a sum
    "mnist/rae-gp": (1e-4, 5e-8, 100, 5e-4),
    "cifar10/rae-gp": (9e-4, 0, 70, 5e-4),
    "celeba/rae-gp": (1e-4, 1e-7, 70, 1e-3),
    "mnist/rae-l2": (1e-4, 1e-7, 100, 5e-4),
    "cifar10/rae-l2": (1e-3, 1e-6, 100, 5e-4),
    "celeba/rae-l2": (1e-4, 1e-7, 70, 1e-3),
    "mnist/rae-sn": (9e-3, None, 100, 5e-4),
    "cifar10/rae-sn": (0.03, None, 100, 5e-4),
    "celeba/rae-sn": (2.4e-3, None, 70, 1e-3),
    "mnist/rae": (5e-4, None, 100, 5e-4),
    "cifar10/rae": (1e-2, None, 100, 5e-4),
    "celeba/rae": (1e-4, None, 70, 1e-3),
    "mnist/ae": (0, None, 100, 5e-4),
    "cifar10/ae": (0, None, 100, 5e-4),
    "celeba/ae": (0, None, 70, 1e-3),
    "mnist/ae-l2": (0, 1e-7, 100, 5e-4),
    "cifar10/ae-l2": (0, 1e-6, 100, 5e-4),
    "celeba/ae-l2": (0, 1e-6, 100, 1e-3),
}
TABLE_1 = {  # the paper's FIDs: reconstructions, N, GMM, interpolations
    "mnist/vae": (18.26, 19.21, 17.66, 18.21),
    "mnist/cv-vae": (15.15, 33.79, 17.87, 25.12),
    "mnist/wae": (10.03, 20.42, 9.39, 14.34),
    "cifar10/cv-vae": (37.74, 94.75, 86.64, 69.71),
    "cifar10/wae": (35.97, 117.44, 93.53, 76.89),
    "celeba/cv-vae": (40.41, 48.87, 49.30, 44.96),
    "celeba/wae": (34.81, 53.67, 42.73, 40.93),
    "mnist/rae-gp": (14.04, 22.21, 11.54, 15.32),
    "mnist/rae-l2": (10.53, 22.22, 8.69, 14.54),
    "mnist/rae-sn": (15.65, 19.67, 11.74, 15.15),
    "mnist/rae": (11.67, 23.92, 9.81, 14.67),
    "mnist/ae": (12.95, 58.73, 10.66, 17.12),
    "cifar10/vae": (57.94, 106.37, 103.78, 88.62),
    "cifar10/rae-gp": (32.17, 83.05, 76.33, 64.08),
    "cifar10/rae-l2": (32.24, 80.80, 74.16, 62.54),
    "cifar10/rae-sn": (27.61, 84.25, 75.30, 63.62),
    "cifar10/rae": (29.05, 83.87, 76.28, 63.27),
    "cifar10/ae": (30.52, 84.74, 76.47, 61.57),
    "celeba/vae": (39.12, 48.12, 45.52, 44.49),
    "celeba/rae-gp": (39.71, 116.30, 45.63, 47.00),
    "celeba/rae-l2": (43.52, 51.13, 47.97, 45.98),
    "celeba/rae-sn": (36.01, 44.74, 40.95, 39.53),
    "celeba/rae": (40.18, 48.20, 44.68, 43.67),
    "celeba/ae": (40.79, 127.85, 45.10, 50.94),
}
FROBENIUS = [f"{family}/rae-gp-frobenius" for family in SIZES]


def test_presets_of_the_models_there_are():
    expected = {*RELEASED, *FROBENIUS}
    assert expected <= set(presets.PRESETS)
    assert set(presets.PRESETS) == expected


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_preset_is_a_configuration(name):
    config = Config.from_dict(presets.options(name))
    _, side, d = SIZES[name.partition("/")[0]]
    assert (config.image_size, config.latent_dim, config.width, config.batch_size) == (side, d, 128, 100)
    assert config.bn_momentum == 0.01 and config.plateau == "absolute"
    assert config.arch is None  # 32 pixels take conv32 and 64 conv64 by themselves
    if name.startswith("mnist"):
        assert (config.fit, config.background) == ("pad", "black")
    for regularizer, given in config.reg.items():
        options = {key: value for key, value in given.items() if key != "weight"}
        registry.resolve("regularizer", regularizer)(**options)


@pytest.mark.parametrize("name", RELEASED)
def test_weights_are_the_released_ones_in_sums(name):
    beta, lam, epochs, lr = RELEASED[name]
    family, _, row = name.partition("/")
    channels, side, d = SIZES[family]
    data_dim = channels * side**2
    config = Config.from_dict(presets.options(name))
    assert (config.epochs, config.lr) == (epochs, lr)
    scale = {"vae": channels, "cv-vae": channels, "wae": data_dim}  # of its mean over channels, of its mean over all
    assert config.model == (row if row in scale else row.partition("-")[0])
    assert config.beta == pytest.approx(beta * scale.get(row, 2 * data_dim / d), rel=1e-9)
    regularizers = {
        "gp": {"gradient-penalty": {"form": "released", "weight": lam and lam * data_dim}},
        "l2": {"tikhonov": {"weight": lam and lam * data_dim}},
        "sn": {"spectral-norm": {"view": "released"}},
    }
    expected = regularizers.get(row.rpartition("-")[2], {})
    assert set(config.reg) == set(expected)
    for regularizer, options in expected.items():
        given = dict(config.reg[regularizer])
        if "weight" in options:
            assert given.pop("weight") == pytest.approx(options.pop("weight"), rel=1e-9)
        assert given == options


@pytest.mark.parametrize("name", [*RELEASED, *FROBENIUS])
def test_the_gain_that_the_released_schedule_waits_for_is_1e_4_of_its_loss(name):
    family, _, row = name.partition("/")
    channels, side, _ = SIZES[family]
    config = Config.from_dict(presets.options(name))
    # The released loss is a mean over channels, 0.05 times a sum, or a mean over all values.
    units = {"vae": channels, "cv-vae": channels} | ({"wae": 1 / 0.05} if family == "celeba" else {})
    assert config.plateau_gain == pytest.approx(1e-4 * units.get(row, channels * side**2), rel=1e-12)


@pytest.mark.parametrize("name", FROBENIUS)
def test_frobenius_presets_differ_in_the_penalty_only(name):
    ours, released = presets.options(name), presets.options(name.removesuffix("-frobenius"))
    assert ours.pop("reg") == {"gradient-penalty": {"form": "exact"}}
    released.pop("reg")
    assert ours == released


@pytest.mark.parametrize("name", [*RELEASED, *FROBENIUS])
def test_expected_numbers_are_the_papers(name):
    assert presets.PRESETS[name].fid == TABLE_1.get(name)


def test_an_unknown_preset_lists_its_neighbours():
    with pytest.raises(UsageError) as error:
        presets.options("mnist/wgan")
    assert "mnist/rae-l2" in error.value.hint and "celeba" not in error.value.hint
    with pytest.raises(UsageError) as error:
        presets.options("imagenet/rae")
    assert "celeba/rae" in error.value.hint
