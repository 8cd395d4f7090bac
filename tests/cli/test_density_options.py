"""`fit-density --option NAME=VALUE`: any density's options, typed by their look, and what is wrong with them."""

from pathlib import Path

import pytest
from support.cli import World, assert_clear_error, assert_interrupted, assert_mistake

MISTAKES = [
    ("--density kde --option bandwidth", 2, ["--option 'bandwidth' is not NAME=VALUE"]),
    ("--density kde --option bandwidth=", 2, ["'bandwidth=' is not NAME=VALUE"]),
    ("--density kde --option =0.3", 2, ["'=0.3' is not NAME=VALUE"]),
    ("--density kde --option width=0.3", 2, ["unknown option 'width' of the density kde", "known: bandwidth"]),
    ("--density kde --option bandwidth=wide", 2, ["bandwidth must be a finite number", "'wide'"]),
    ("--density kde --option bandwidth=nan", 2, ["bandwidth must be a finite number", "nan"]),
    ("--density kde --option bandwidth=-1", 2, ["bandwidth must be a finite number above 0"]),
    ("--density gaussian --option bandwidth=0.3", 2, ["unknown option 'bandwidth' of the density gaussian"]),
    ("--density standard-normal --option a=1", 2, ["standard-normal has none"]),
    ("--components 3 --option components=4", 2, ["components is given more than once"]),
    ("--option tol=1 --option tol=2", 2, ["tol is given more than once"]),
    ("--option components=2.5", 2, ["components must be a whole number"]),
    ("--option covariance=round", 2, ["full, tied, diag, spherical"]),
    ("--density vae --covariance full", 2, ["unknown option 'covariance' of the density vae", "hidden"]),
    ("--density vae --components auto", 2, ["--components auto", "mixture", "vae"]),
    ("--density vae --components 1000", 1, ["--components 1000 is more than the 54 latents"]),
    ("--density vae --option hidden=0", 2, ["hidden must be a whole number of at least 1"]),
    ("--density flow --components 3", 2, ["unknown option 'components' of the density flow", "transforms"]),
    ("--density flow --option lr=0", 2, ["lr must be a finite number above 0"]),
    ("--density flow --option epochs=fifty", 2, ["epochs must be a whole number", "'fifty'"]),
]


@pytest.mark.parametrize(("arguments", "code", "fragments"), MISTAKES, ids=[row[0] for row in MISTAKES])
def test_a_wrong_option_is_a_clear_error(cli, world: World, tmp_path: Path, monkeypatch, arguments, code, fragments):
    monkeypatch.chdir(tmp_path)
    assert_mistake(cli, world, tmp_path, f"fit-density {{w}}/ckpt {arguments}", code, fragments)


def test_options_reach_the_density(cli, world: World, tmp_path: Path):
    def fit(*arguments):
        return cli("fit-density", tmp_path / "d", "--latents", world.path / "good.npy", *arguments, "--json").json

    assert fit("--density", "kde", "--option", "bandwidth=0.3")["options"] == {"bandwidth": 0.3}
    assert fit("--density", "kde", "--option", "bandwidth=2", "--name", "b")["options"] == {"bandwidth": 2.0}
    mixture = fit("--option", "covariance=diag", "--option", "components=2", "--option", "tol=1e-2")["options"]
    assert (mixture["covariance"], mixture["components"], mixture["tol"]) == ("diag", 2, 0.01)
    assert len(fit("--option", "components=auto", "--name", "auto")["tried"]) > 1
    short = ("--option", "epochs=2", "--option", "transforms=1", "--option", "hidden=4")
    flow = fit("--density", "flow", *short)
    assert (flow["density"], flow["bound"], flow["stats"]["epochs"]) == ("flow", False, 2)


def test_an_interrupted_fit_leaves_the_directory_as_it_was(cli, world: World, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("raectl.densities.flow.fit_network", interrupt)
    result = cli.run(
        "fit-density", world.path / "latents-only", "--latents", world.path / "good.npy", "--density", "flow"
    )
    assert_interrupted(result, 130, "interrupted; nothing is left half-written")
    assert_no_change = {path.name for path in (world.path / "latents-only" / "densities").iterdir()}
    assert assert_no_change == {"gmm-2"}


def test_several_values_that_look_alike(cli, world: World, tmp_path: Path):
    result = cli.run("fit-density", tmp_path / "d", "--latents", world.path / "good.npy", "--option", "components=03")
    assert result.code == 0
    result = cli.run("fit-density", tmp_path / "d", "--latents", world.path / "good.npy", "--option", "max_iter=1e2")
    assert_clear_error(result, 2, "max_iter must be a whole number")
