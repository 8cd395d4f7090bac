"""`fit-density --density NAME,KEY=VALUE...`: any density's options, and what is wrong with them."""

from pathlib import Path

import pytest
from support.cli import World, assert_interrupted, assert_mistake

MISTAKES = [
    ("--density kde,bandwidth", 2, ["--density kde,bandwidth: 'bandwidth' is not KEY=VALUE", "--density kde,help"]),
    ("--density kde,bandwidth=", 2, ["'bandwidth=' is not KEY=VALUE"]),
    ("--density kde,=0.3", 2, ["'=0.3' is not KEY=VALUE"]),
    ("--density kde=0.3", 2, ["only a regularizer has a weight", "--density kde,KEY=VALUE"]),
    ("--density kde,width=0.3", 2, ["--density kde has no option 'width'", "known: bandwidth"]),
    ("--density kde,bandwidht=0.3", 2, ["has no option 'bandwidht'", "did you mean bandwidth?"]),
    ("--density kde,bandwidth=wide", 2, ["--density kde,bandwidth='wide' is no finite number", "kde,bandwidth=0.425"]),
    ("--density kde,bandwidth=nan", 2, ["--density kde,bandwidth=nan is no finite number"]),
    ("--density kde,bandwidth=-1", 2, ["--density kde,bandwidth=-1 is out of range: above 0"]),
    ("--density gaussian,bandwidth=0.3", 2, ["--density gaussian has no option 'bandwidth'", "known: reg_covar"]),
    ("--density standard-normal,a=1", 2, ["--density standard-normal has no option 'a'", "it has none"]),
    ("--density gmm,components=4 --components 3", 2, ["components is given twice"]),
    ("--density gmm,tol=1,tol=2", 2, ["gives tol twice"]),
    ("--density gmm,components=2.5", 2, ["--density gmm,components=2.5 is no whole number"]),
    ("--density gmm,covariance=round", 2, ["full, tied, diag, spherical", "gmm,covariance=full"]),
    ("--covariance round", 2, ["covariance='round' is none of full, tied, diag, spherical"]),
    ("--density vae --covariance full", 2, ["--density vae has no option 'covariance'", "hidden"]),
    ("--density vae --components auto", 2, ["--components auto", "mixture", "vae"]),
    ("--density vae --components 1000", 1, ["1,000 components are more than the 54 latents"]),
    ("--density vae,hidden=0", 2, ["--density vae,hidden=0 is out of range: 1 to 10,000,000"]),
    ("--density flow --components 3", 2, ["--density flow has no option 'components'", "transforms"]),
    ("--density flow,lr=0", 2, ["--density flow,lr=0 is out of range: above 0"]),
    ("--density flow,epochs=fifty", 2, ["--density flow,epochs='fifty' is no whole number"]),
]


@pytest.mark.parametrize(("arguments", "code", "fragments"), MISTAKES, ids=[row[0] for row in MISTAKES])
def test_a_wrong_option_is_a_clear_error(cli, world: World, tmp_path: Path, monkeypatch, arguments, code, fragments):
    monkeypatch.chdir(tmp_path)
    assert_mistake(cli, world, tmp_path, f"fit-density {{w}}/ckpt {arguments}", code, fragments)


def test_options_reach_the_density(cli, world: World, tmp_path: Path):
    def fit(*arguments):
        return cli("fit-density", tmp_path / "d", "--latents", world.path / "good.npy", *arguments, "--json").json

    assert fit("--density", "kde,bandwidth=0.3")["options"] == {"bandwidth": 0.3}
    assert fit("--density", "kde,bandwidth=2", "--name", "b")["options"] == {"bandwidth": 2.0}
    mixture = fit("--density", "gmm,covariance=diag,components=2,tol=1e-2,max-iter=1e2")["options"]
    assert mixture["max_iter"] == 100
    assert (mixture["covariance"], mixture["components"], mixture["tol"]) == ("diag", 2, 0.01)
    assert len(fit("--density", "gmm,components=auto", "--name", "auto")["tried"]) > 1
    flow = fit("--density", "flow,epochs=2,transforms=1,hidden=4")
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


def test_a_component_says_what_its_keys_are(cli):
    assert "bandwidth" in cli("fit-density", "--density", "kde,help").out
    found = cli("fit-density", "--density", "flow,help", "--json").json
    assert found["density"] == "flow" and found["keys"]["bins"]["values"] == "whole number, 2 to 10,000"
    said = cli("train", "--reg", "tikhonov", "--reg", "gradient-penalty,help").out
    assert all(word in said for word in ("weight", "part", "above 0, up to 1", "default 0.25"))
    assert "start" in cli("train", "--reconstruction", "l1,help").out
    assert "has no keys" in cli("train", "--reg", "none,help").out
