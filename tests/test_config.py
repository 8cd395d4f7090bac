"""The options of a run: what is refused and how, and every form of `reg`."""

import dataclasses
import json

import pytest

from raectl import grammars, registry
from raectl.config import Config, as_typed, options_of, parse, read_toml, text_of
from raectl.errors import RaectlError, UsageError
from raectl.grammars.parser import LONGEST

WRONG = {
    "model": ["gan", 3, None, ""],
    "reconstruction": [
        *("l3", "", "l1,", "l1,start", "l1,start=", "l1=3", "l1,start=1,start=2", "l1,name=3", 3, True),
        *([], ["l1"], {}, {"start": 0}, {"name": 3}, {"name": "l3"}),
    ],
    "beta": [-0.1, "much", float("nan"), float("inf"), True, 2e9],
    "sigma": [0.0, -1, "wide", None, float("nan"), True],
    "importance_samples": [0, 1001, 2.5, "5", None, True],
    "latent_dim": [0, 4097, 2.5, "16", True],
    "arch": ["resnet", 3],
    "width": [0, 1025, 2.0, "32", True],
    "bn_momentum": [0.0, 1.1, -1, "0.1", None, float("nan")],
    "image_size": [
        *(7, 513, -32, 32.0, True, [96, 64], "", "64x", "x64", "axb", "64X64"),
        *(
            "64x64x3",
            "96 x 64",
            "6.4x64",
            "64x64\n",
            "7",
            "0x5",
            "64x7",
            "513x64",
            "64x513",
            "-64x64",
            "9999999999x64",
            "٦٤",
        ),
    ],
    "fit": ["squash", None, 1],
    "range": [3, 0.5, False],
    "alpha": [1, "yes", None],
    "frames": ["last", "", 1, None, True],
    "bands": ["", "1,2", "0", "1,2,65", "a,b,c", "1,2,3,4", "-1", 3, [1, 2, 3], True],
    "background": [3, 0.5, False],
    "grammar": [3, True],
    "max_productions": [0, 4097, 15.0, "15", True],
    "epochs": [0, -1, 1.5, 2_000_000, True],
    "patience": [-1, 1.5, 2_000_000, "5", True],
    "augment": ["mirror", "flip,mirror", "flip,off", "flip,flip", "", None, True],
    "batch_size": [1, 0, 1e2, 100_001],
    "optimizer": ["sgd", None, 3],
    "average": [-0.1, 1.0, "half", None, float("nan"), True],
    "lr": [0.0, -1e-3, 11, "fast", float("nan"), float("inf"), None, True],
    "seed": [-1, 2**63, 0.0, None, "7"],
    "sharpen": [None, 1, "yes"],
    "device": ["tpu", None, 0],
    "precision": ["fp16", None, 32],
    "val_fraction": [-0.1, 0.91, "tenth", None, float("nan")],
    "fold": [-1, 1001, 0.5, "first", None],
    "max_bad": [-0.1, 1.1, "5%", None, float("nan"), True],
    "strict": [None, 1, "yes"],
    "plateau": ["cosine", None, 5],
    "plateau_gain": [-1e-4, 2e6, "some", None, float("nan"), True],
    "plateau_factor": [0.0, 1.5, "half", None, float("nan"), True],
    "plateau_patience": [0, -1, 2.5, True],
    "min_lr": [-1e-9, 11, "low", None, float("nan"), True],
}
GIVEN = {
    "model": "vae",
    "reconstruction": {"name": "l1", "start": 3},
    "beta": 0.5,
    "sigma": 0.4,
    "importance_samples": 3,
    "latent_dim": 7,
    "arch": "mlp",
    "width": 3,
    "bn_momentum": 0.01,
    "image_size": "96x64",
    "fit": "pad",
    "range": "0:4095",
    "alpha": True,
    "bands": "3,2,1",
    "frames": "all",
    "background": "#ff0000",
    "max_bad": 0.5,
    "strict": True,
    "grammar": "S -> 'x' S\nS -> 'x'\n",
    "max_productions": 20,
    "epochs": 2,
    "patience": 7,
    "augment": "flip,shift",
    "batch_size": 5,
    "optimizer": "adam",
    "average": 0.5,
    "lr": 0.1,
    "seed": 9,
    "sharpen": True,
    "device": "cpu",
    "precision": "fp32",
    "val_fraction": 0.0,
    "fold": 1,
    "plateau": "absolute",
    "plateau_gain": 0.1,
    "plateau_factor": 0.2,
    "plateau_patience": 3,
    "min_lr": 1e-4,
}


def test_the_tables_here_know_every_option():
    names = {field.name for field in dataclasses.fields(Config)} - {"reg"}
    assert set(WRONG) == names == set(GIVEN)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_is_refused_by_the_name_it_is_typed_under(name, value):
    with pytest.raises(UsageError) as error:
        Config(**{name: value})
    kinds = {"model": "model", "arch": "architecture", "optimizer": "optimizer", "reconstruction": "reconstruction"}
    typed = kinds.get(name) if isinstance(value, str | dict) else None
    assert (typed or as_typed(name)) in error.value.message
    assert error.value.exit_code == 2 and "\n" not in error.value.message


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("latent_dim", 1, 4096),
        ("width", 1, 1024),
        ("image_size", 8, 512),
        ("max_productions", 1, 4096),
        ("epochs", 1, 1_000_000),
        ("patience", 0, 1_000_000),
        ("batch_size", 2, 100_000),
        ("seed", 0, 2**63 - 1),
        ("beta", 0, 1e9),
        ("bn_momentum", 1e-6, 1),
        ("average", 0, 0.99999),
        ("lr", 1e-12, 10),
        ("val_fraction", 0, 0.9),
        ("fold", 0, 1000),
        ("sigma", 1e-6, 1e3),
        ("importance_samples", 1, 1000),
        ("plateau_gain", 0, 1e6),
        ("plateau_factor", 1e-6, 1),
        ("plateau_patience", 1, 1_000_000),
        ("min_lr", 0, 10),
    ],
)
def test_the_ends_of_every_range_are_in_it(name, low, high):
    assert [getattr(Config(**{name: value}), name) for value in (low, high)] == [low, high]


def test_what_the_grammars_know_is_declared_so():
    declared = options_of(Config)
    assert all(name in declared["grammar"].help for name in grammars.names())
    assert declared["max_productions"].high == LONGEST


def test_every_option_says_what_it_is_and_takes_its_own_default():
    for name, option in options_of(Config).items():
        assert option.help.endswith(".") and option.shown, name
        assert option.check(option.default, f"{option.typed(name)} ") == option.default


def test_options_are_typed_with_hyphens():
    assert as_typed("latent_dim") == "--latent-dim" and as_typed("lr") == "--lr"


@pytest.mark.parametrize(
    "name", ["bn_momentum", "plateau", "plateau_gain", "plateau_factor", "plateau_patience", "min_lr"]
)
def test_what_cannot_be_typed_is_named_as_it_is_written(name):
    assert as_typed(name) == name


def test_defaults():
    config = Config()
    assert config.to_dict() == {
        "model": "rae",
        "reg": {},
        "reconstruction": None,
        "beta": None,
        "sigma": 0.7,
        "importance_samples": 5,
        "latent_dim": None,
        "arch": None,
        "width": None,
        "bn_momentum": 0.1,
        "image_size": None,
        "fit": "crop",
        "range": None,
        "alpha": False,
        "bands": None,
        "frames": "first",
        "background": None,
        "max_bad": 0.01,
        "strict": False,
        "grammar": None,
        "max_productions": None,
        "epochs": None,
        "patience": None,
        "augment": "auto",
        "batch_size": None,
        "optimizer": "muon",
        "average": 0.99,
        "lr": 1e-3,
        "seed": 0,
        "sharpen": False,
        "device": "auto",
        "precision": "auto",
        "val_fraction": 0.1,
        "fold": 0,
        "plateau": "relative",
        "plateau_gain": 1e-4,
        "plateau_factor": 0.5,
        "plateau_patience": None,
        "min_lr": 1e-8,
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
        ("gradient-penalty=1e-2,part=0.5", {"gradient-penalty": {"weight": 0.01, "part": 0.5}}),
        ("spectral-norm, view=released, encoder=true", {"spectral-norm": {"view": "released", "encoder": True}}),
        ({"tikhonov": {"weight": None}}, {"tikhonov": {}}),
    ],
)
def test_forms_of_reg(given, stored):
    assert Config(reg=given).reg == stored
    assert Config(reg=[text_of(name, **options) for name, options in stored.items()]).reg == stored


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
        "tikhonov,weight",
        "tikhonov=1,weight=2",
        "gradient-penalty,part=1,part=1",
        "gradient-penalty,=1",
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
        parse("regularizer", "l2=1")
    assert "'l2'" in error.value.message and all(name in error.value.hint for name in registry.names("regularizer"))


# -- reconstruction terms ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (None, None),
        ("l2", {"name": "l2"}),
        ("l1", {"name": "l1"}),
        ("l1,start=0,length=200", {"name": "l1", "start": 0, "length": 200}),
        ("l1, length=2e3, start=0.5", {"name": "l1", "length": 2000, "start": 0.5}),
        ({"name": "l1", "length": 7}, {"name": "l1", "length": 7}),
        ({"name": "cross-entropy"}, {"name": "cross-entropy"}),
    ],
)
def test_forms_of_reconstruction(given, stored):
    config = Config(reconstruction=given)
    assert config.reconstruction == stored
    if stored is not None:
        assert all(type(value) is type(stored[key]) for key, value in config.reconstruction.items())
        assert Config(reconstruction=text_of(**stored)).reconstruction == stored


def test_a_reconstruction_term_is_the_configurations_own():
    given = {"name": "l1", "start": 1}
    config = Config(reconstruction=given)
    given["start"] = 2
    config.to_dict()["reconstruction"]["start"] = 3
    assert config.reconstruction == {"name": "l1", "start": 1}


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


@pytest.mark.parametrize(
    "text", ['reconstruction = "l1,start=5"\n', '[reconstruction]\nname = "l1"\nstart = 5\n'], ids=["text", "table"]
)
def test_a_reconstruction_term_in_toml(text, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(text)
    assert Config.from_dict(read_toml(path)).reconstruction == {"name": "l1", "start": 5}


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
