"""No data make the program crash, run what they hold, or write to the terminal.

`tests/hostile_corpus.py` has the kinds, and what must come of each; `test_hostile_memory.py` measures the dangerous.
"""

import os
from pathlib import Path

import pytest
from support.cli import Cli, assert_clear_error
from support.hostile_corpus import CANARY, GOOD, KINDS


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAECTL_CACHE", str(tmp_path / "cache"))


def test_there_are_many_kinds() -> None:
    print(f"{len(KINDS)} kinds of hostile data, {sum(kind.dangerous for kind in KINDS.values())} of them measured")
    assert len(KINDS) >= 40


def _make(name: str, tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return KINDS[name].build(home)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if not kind.dangerous])
@pytest.mark.usefixtures("bounded_memory")
def test_hostile_data_are_skipped_or_refused(cli: Cli, tmp_path: Path, name: str) -> None:
    kind, source = KINDS[name], _make(name, tmp_path)
    train = ("train", "--dry-run", "--data", source)
    if kind.outcome == "error":
        for command in (("check", source), train):
            assert_clear_error(cli.run(*command), 1, kind.said)
            assert_clear_error(cli.run(*command, "--json"), 1, kind.said)
    else:
        checked = cli("check", source, "--json").json
        assert checked["ok"] and checked["error"] is None
        shown = cli("check", source)
        trained = cli(*train)
        assert trained.json["data"]["n"] == checked["items"]
        for result in (shown, trained):
            assert all(c.isprintable() or c == "\n" for c in result.out + result.err), "nothing acts on the terminal"
        bad = [item for item in checked["bad"] if "hostile" in item["name"]]
        if kind.outcome == "fine":
            assert (checked["items"], checked["bad"]) == (GOOD + 1, [])
            cli("check", source, "--strict")
        else:
            assert len(bad) == len(checked["bad"]) == 1 and checked["items"] == GOOD
            assert kind.said in bad[0]["reason"]
            assert "hostile" in shown.out
            assert len([line for line in trained.err.splitlines() if "hostile" in line]) == 1
            for command in (("check", source), train):
                assert_clear_error(cli.run(*command, "--strict"), 1, f"1 of {GOOD + 1} images", "hostile")
    assert not (tmp_path / "home" / CANARY).exists(), "code was run"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_files_without_permission_are_skipped(cli: Cli, tmp_path: Path) -> None:
    source = _make("one pixel", tmp_path)
    (source / "hostile.png").chmod(0)
    assert "Permission denied" in cli("check", source).out


def test_unreadable_folders_are_an_error(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, real = _make("one pixel", tmp_path), os.scandir

    def refuse(path: str) -> object:
        if Path(path) == source:
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert_clear_error(cli.run("check", source), 1, "cannot read", "Permission denied")


# -- how many are too many --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bad", "options", "passes"), [
    (5, (), True), (6, (), False), (6, ("--max-bad", "0.2"), True), (6, ("--max-bad", "0.1"), False),
    (5, ("--max-bad", "0"), True), (6, ("--max-bad", "0"), False), (1, ("--strict",), False), (0, ("--strict",), True),
    (34, ("--max-bad", "1"), True), (1, ("--strict", "--max-bad", "1"), False),
])  # fmt: skip
def test_max_bad_and_strict(cli: Cli, tmp_path: Path, bad: int, options: tuple[str, ...], passes: bool) -> None:
    from support.data import fill, noise, png, pngs

    header_only = png(noise(8, 8, 3))[:-40]
    spoilt = {f"bad{index:02}.png": header_only if index % 2 else b"no image" for index in range(bad)}
    source = fill(tmp_path / "data", pngs(40 - bad) | spoilt)
    for command in (("check", source), ("train", "--dry-run", "--data", source)):
        result = cli.run(*command, *options)
        if passes:
            assert result.code == 0, result.err
        else:
            assert_clear_error(result, 1, "of 40 images", "--max-bad")
            assert "bad0" in result.out + result.err
    values = cli.run("check", source, *options, "--json")
    assert values.json["ok"] is passes
    assert len(values.json["bad"]) == bad, "all of them, also when fewer are too many"


def test_a_tolerance_is_remembered_and_may_change(cli: Cli, tmp_path: Path) -> None:
    from support.cli import SMALL, write_pictures

    data, out = write_pictures(tmp_path / "data", 40), tmp_path / "out"
    for index in range(10):
        (data / f"{index:04}.png").write_bytes(b"rubbish")
    cli("train", "--data", data, "--out", out, "--max-bad", "0.3", *SMALL)
    for options in ((), ("--max-bad", "0.4")):
        cli("train", "--resume", "--out", out, *options, "--dry-run")
    cli("train", "--resume", "--out", out, "--epochs", 2)
    cli("fit-density", out, "--components", 2)
    result = cli.run("train", "--resume", "--out", out, "--epochs", 3, "--strict")
    assert_clear_error(result, 1, "10 of 40 images")
