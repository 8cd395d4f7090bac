"""The paper's presets against its released configurations and its Table 1, and the command that lists them."""

import pytest
from support.cli import Cli, assert_clear_error, terminal, unstyled, write_pictures

from raectl import presets, registry
from raectl.config import Config
from raectl.errors import UsageError
from raectl.model.resolve import check

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
SECOND_STAGE = {  # the KL term's weight in the released configurations 30, 29 and 28; the paper's FIDs
    "mnist/2svae": (1.5e-3, (20.31, 18.81, None, 18.35)),
    "cifar10/2svae": (1e-3, (62.54, 109.77, None, 89.06)),
    "celeba/2svae": (2e-3, (42.04, 49.70, None, 47.54)),
}
EXPRESSIONS = {"expressions/grae": "rae", "expressions/gvae": "cv-vae"}
FROBENIUS = [f"{family}/rae-gp-frobenius" for family in SIZES]
AS_RELEASED = {  # where the released code is not the paper
    **{
        f"{family}/rae-sn-released": {"reg": {"spectral-norm": {"view": "released", "encoder": True}}}
        for family in SIZES
    },
    "celeba/vae-released": {"batch_size": 1000},
    "celeba/cv-vae-released": {"width": 64},
}


def test_presets_of_the_models_there_are():
    assert set(presets.PRESETS) == {*RELEASED, *FROBENIUS, *SECOND_STAGE, *AS_RELEASED, *EXPRESSIONS}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_presets_of_expressions_are_the_grammar_vaes(name):
    config = Config.from_dict(presets.options(name))
    check(config)
    assert config.model == EXPRESSIONS[name] and config.beta == 1 / config.latent_dim and not config.reg
    assert (config.latent_dim, config.width, config.batch_size) == (25, 32, 600)
    assert (config.epochs, config.lr, config.val_fraction) == (50, 1e-3, 0.1)
    assert (config.plateau, config.plateau_gain, config.bn_momentum) == ("absolute", 1e-4, 0.01)
    assert (config.plateau_factor, config.plateau_patience, config.min_lr) == (0.2, 1, 1e-4)
    assert (config.sigma, config.image_size) == (0.01 if config.model == "cv-vae" else 0.7, None)
    assert presets.PRESETS[name].fid is None and presets.PRESETS[name].density == {}


@pytest.mark.parametrize("name", [name for name in presets.PRESETS if name not in EXPRESSIONS])
def test_every_preset_of_images_is_a_configuration(name):
    config = Config.from_dict(presets.options(name))
    _, side, d = SIZES[name.partition("/")[0]]
    other = AS_RELEASED.get(name, {})
    assert (config.image_size, config.latent_dim) == (side, d)
    assert (config.width, config.batch_size) == (other.get("width", 128), other.get("batch_size", 100))
    check(config)
    assert config.bn_momentum == 0.01 and config.plateau == "absolute"
    assert config.arch == f"conv{side}"
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


@pytest.mark.parametrize("name", AS_RELEASED)
def test_released_presets_differ_where_the_code_does(name):
    like = name.removesuffix("-released")
    assert presets.options(name) == presets.options(like) | AS_RELEASED[name]
    assert presets.PRESETS[name].fid == presets.PRESETS[like].fid, "readings of one line of the table"


@pytest.mark.parametrize("name", SECOND_STAGE)
def test_the_two_stage_vae_is_the_vae_and_a_density(name):
    beta2, fid = SECOND_STAGE[name]
    assert presets.options(name) == presets.options(name.replace("2svae", "vae"))
    row = presets.PRESETS[name]
    assert (row.density, row.fid) == ({"vae": {"beta": beta2}}, fid)
    density = registry.resolve("density", "vae")(**row.density["vae"])
    assert density.settings["beta"] == beta2


@pytest.mark.parametrize("name", [*RELEASED, *FROBENIUS])
def test_expected_numbers_are_the_papers(name):
    assert presets.PRESETS[name].fid == TABLE_1.get(name)
    assert presets.PRESETS[name].density == {}


def test_an_unknown_preset_lists_its_neighbours():
    with pytest.raises(UsageError) as error:
        presets.options("mnist/wgan")
    assert "mnist/rae-l2" in error.value.hint and "celeba" not in error.value.hint
    with pytest.raises(UsageError) as error:
        presets.options("imagenet/rae")
    assert "celeba/rae" in error.value.hint


def test_names_by_their_beginning():
    assert presets.matching("") == [*presets.PRESETS]
    assert presets.matching("cifar10") == [name for name in presets.PRESETS if name.startswith("cifar10/")]
    assert presets.matching("mnist/rae-sn") == ["mnist/rae-sn", "mnist/rae-sn-released"]


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_table_holds_every_preset_and_fits_120_columns(cli: Cli):
    result = cli("presets")
    title, header, *lines = result.out.splitlines()
    assert "FID" in title and header.split()[-4:] == ["rec", "N", "GMM", "interp"]
    assert [line.split()[0] for line in lines] == [*presets.PRESETS]
    assert max(map(len, result.out.splitlines())) <= 120
    for line, (name, row) in zip(lines, presets.PRESETS.items(), strict=True):
        fids = ["-" if value is None else f"{value:.2f}" for value in row.fid or [None] * 4]
        assert line.split()[-4:] == fids, name
        words = [row.model, f"{row.beta:g}", str(row.epochs), f"{row.lr:g}", str(presets.options(name)["latent_dim"])]
        assert set(words) <= set(line.split()) and all(reg in line for reg in row.reg)


def test_the_table_of_some(cli: Cli):
    result = cli("presets", "mnist")
    assert "gradient-penalty=5.12e-05 released" in result.out and "celeba" not in result.out
    assert "spectral-norm released encoder" in result.out and "gradient-penalty exact" in result.out
    assert "then vae beta=0.0015" in result.out
    assert "raectl fit-density ckpt --density vae,beta=0.0015" in result.err
    found = cli("presets", "celeba/cv-vae")
    assert "width=64" in found.out and len(found.out.splitlines()) == 4 and found.err == ""


def test_a_narrow_terminal_shows_all_of_the_table(cli: Cli, monkeypatch):
    whole = [line.split() for line in cli("presets", "mnist").out.splitlines()[2:]]
    terminal(monkeypatch, 80)
    shown = unstyled(cli("presets", "mnist").out)
    assert max(map(len, shown.splitlines())) <= 80
    for row in whole:
        parts = [line.split() for line in shown.splitlines() if line.split()[:1] == row[:1]]
        assert [*parts[0], *parts[1][1:]] == row, "in two tables"


def test_presets_as_json(cli: Cli):
    rows = cli("presets", "--json").json["presets"]
    assert [row["preset"] for row in rows] == [*presets.PRESETS]
    for row in rows:
        assert row["options"] == presets.options(row["preset"])
        Config.from_dict(row["options"])
    found = {row["preset"]: row for row in rows}
    assert found["mnist/2svae"]["density"] == {"vae": {"beta": 1.5e-3}}
    assert found["mnist/2svae"]["fid"] == {"reconstruction": 20.31, "N": 18.81, "GMM": None, "interpolation": 18.35}
    assert found["mnist/ae-l2"]["fid"] is None and found["mnist/ae-l2"]["density"] == {}


@pytest.mark.parametrize(("name", "known"), [("imagenet", "mnist, cifar10, celeba"), ("mnist/gan", "mnist/rae-l2")])
def test_a_beginning_of_no_preset(cli: Cli, name: str, known: str):
    for extra in ((), ("--json",)):
        assert_clear_error(cli.run("presets", name, *extra), 2, f"no preset begins with '{name}'", known)


def test_training_a_preset_names_the_density_that_completes_it(cli: Cli, tmp_path):
    data = write_pictures(tmp_path / "images", 20, grey=True)
    small = ("--data", data, "--image-size", 12, "--width", 2, "--latent-dim", 2, "--epochs", 1, "--device", "cpu")
    (tmp_path / "options.toml").write_text('preset = "mnist/2svae"')
    result = cli("train", "--config", tmp_path / "options.toml", *small, "--out", tmp_path / "out")
    assert result.err.splitlines()[-1].endswith("--density vae,beta=0.0015")


def test_a_preset_trains_on_its_own_data_or_on_those_that_are_named(cli: Cli, tmp_path):
    assert cli("train", "--preset", "expressions/grae", "--dry-run").json["data"]["source"] == "expressions"
    told = cli.run("train", "--preset", "mnist/rae-l2", "--dry-run")
    assert_clear_error(told, 2, "--preset mnist/rae-l2 needs data", "--data SOURCE")
    data = write_pictures(tmp_path / "images", 20, grey=True)
    named = cli("train", "--preset", "expressions/grae", "--data", data, "--dry-run").json["data"]
    assert named["source"] == str(data)
