"""The whole tool on strings of a grammar: what the commands write, and what they say of wrong ones."""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support.cli import Cli, assert_clear_error, assert_same_run, tree
from support.strings import GRAMMAR, lines, write_lines

import raectl
from raectl import rng
from raectl.errors import UsageError
from raectl.generation.drawing import check_draws, modes
from raectl.grammars.parser import parser_of
from raectl.metrics.derivations import production_accuracy
from raectl.storage.atomic import write_json

N = 60
SMALL = ["--width", "4", "--latent-dim", "4", "--batch-size", "10", "--seed", "1", "--lr", "0.01"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of 60 expressions in a text file, with a mixture."""
    folder = tmp_path_factory.mktemp("strings")
    data = write_lines(folder / "lines.txt", N)
    config = raectl.Config(grammar="expressions", width=4, latent_dim=4, batch_size=10, epochs=5, seed=1, lr=0.01)
    checkpoint = raectl.train(config, data, folder / "ckpt")
    checkpoint.fit_density("gmm", components=2)
    return folder / "ckpt"


def are_of_the_grammar(text: str) -> None:
    for string in filter(None, text.replace("\t", "\n").splitlines()):
        parser_of(GRAMMAR).derivation(string)


@pytest.fixture
def data(trained) -> Path:
    return trained.parent / "lines.txt"


def test_commands_write_what_training_in_python_does(cli: Cli, trained, data, tmp_path) -> None:
    arguments = ["train", "--data", data, "--grammar", "expressions", *SMALL]
    cli(*arguments, "--epochs", 1, "--out", tmp_path / "ckpt")
    cli("train", "--resume", "--epochs", 5, "--grammar", "expressions", "--out", tmp_path / "ckpt")
    assert_same_run(tmp_path / "ckpt", trained)
    result = cli("fit-density", tmp_path / "ckpt", "--density", "gaussian")
    assert "-o samples.txt" in result.err
    assert "-o samples.txt" in (tmp_path / "ckpt" / "README.md").read_text()


def test_a_checkpoint_holds_its_grammar(trained) -> None:
    record = json.loads((trained / "config.json").read_text())
    assert record["config"]["grammar"] == record["data"]["options"]["grammar"] == GRAMMAR.text()
    assert record["config"]["beta"] == 1 / 4 and record["config"]["max_productions"] == 9


def test_samples(cli: Cli, trained, tmp_path) -> None:
    cli("sample", trained, "-n", 40, "-o", tmp_path / "s.txt")
    cli("sample", trained, "-n", 10, "--batch-size", 3, "-o", tmp_path / "t.txt")
    text = (tmp_path / "s.txt").read_text()
    assert text.count("\n") == 40 and any(text.splitlines())
    are_of_the_grammar(text)
    assert (tmp_path / "t.txt").read_text().splitlines() == text.splitlines()[:10]


def test_reconstructions(cli: Cli, trained, data, tmp_path) -> None:
    told = cli("reconstruct", trained, "--data", data, "-o", tmp_path / "p.txt", "--json").json
    pairs = [line.split("\t") for line in (tmp_path / "p.txt").read_text().splitlines()]
    assert [original for original, _ in pairs] == lines(N) and told["n"] == told["written"] == N
    are_of_the_grammar("\n".join(reconstruction for _, reconstruction in pairs))
    assert told["exact-match"] == pytest.approx(np.mean([a == b for a, b in pairs]))
    assert 0 < told["production-accuracy"] < 1


def test_walks(cli: Cli, trained, data, tmp_path) -> None:
    cli("interpolate", trained, "--data", data, "--pairs", 3, "--steps", 5, "-o", tmp_path / "w.txt")
    walks = [line.split("\t") for line in (tmp_path / "w.txt").read_text().splitlines()]
    assert [len(walk) for walk in walks] == [5] * 3
    are_of_the_grammar((tmp_path / "w.txt").read_text())


def test_evaluation(cli: Cli, trained, data, tmp_path) -> None:
    told = cli("evaluate", trained, "--data", data, "--json").json
    numbers = {(line["of"], line["metric"]): line["value"] for line in told["numbers"]}
    assert {of for of, _ in numbers} == {"real", "mean item", "reconstruction", "N", "gmm-2", "interpolation"}
    assert {metric for of, metric in numbers if of == "mean item"} == {"exact-match", "production-accuracy"}
    assert {metric for of, metric in numbers if of == "gmm-2"} == {"valid", "unique", "novel", "score"}
    assert numbers["real", "valid"] == numbers["real", "unique"] == 1
    assert ("real", "novel") not in numbers, "training data are not new by definition"
    assert 0 <= numbers["reconstruction", "exact-match"] <= numbers["reconstruction", "production-accuracy"] <= 1
    cli("sample", trained, "-n", N, "-o", tmp_path / "s.txt")
    samples = (tmp_path / "s.txt").read_text().splitlines()
    assert numbers["gmm-2", "valid"] == np.mean([bool(text) for text in samples])
    (tmp_path / "new.txt").write_text("x*x\n" * 20)
    others = cli("evaluate", trained, "--data", tmp_path / "new.txt", "--json").json["numbers"]
    novel = {line["of"] for line in others if line["metric"] == "novel"}
    assert novel == {"reconstruction", "N", "gmm-2", "interpolation"}
    result = cli("evaluate", trained, "--data", data, "--features", "strings")
    assert "no bound" in result.err
    assert "valid ↑" in result.out + result.err and "score" not in result.out


def test_features_of_another_grammar_are_others(tmp_path, monkeypatch) -> None:
    """The same derivations of two grammars are other strings, whatever the cache holds."""
    monkeypatch.setenv("RAECTL_CACHE", str(tmp_path / "cache"))
    scores = []
    for letter in "x1":
        data = tmp_path / f"{letter}.txt"
        data.write_text("".join("+".join([letter] * n) + "\n" for n in range(1, 25)))
        config = raectl.Config(grammar=f"S -> '{letter}+' S | '{letter}'", width=1, latent_dim=2, epochs=1)
        checkpoint = raectl.train(config, data, tmp_path / letter)
        real, *_ = raectl.Evaluation(checkpoint, data, features="expressions", n=20)
        scores.append(real.measured["score"].value)
    assert scores[0] != scores[1]


def test_comparison(cli: Cli, trained, data, tmp_path) -> None:
    cli("evaluate", trained, "--data", data)
    cli("compare", trained, trained, "--metric", "valid", "--data", data, "-o", tmp_path / "c.txt", "-n", 3)
    rows = [line.split("\t") for line in (tmp_path / "c.txt").read_text().splitlines()]
    assert rows[0] == ["real", *(lines(N)[row] for row in rng.choose(0, "compared items", N, 3))] and all(
        len(row) == 4 for row in rows
    )


def test_training_learns(data, tmp_path) -> None:
    """After 100 epochs, reconstructions are nearer than the one string that is nearest to all."""
    config = raectl.Config(
        grammar="expressions", batch_size=10, epochs=100, lr=0.003, width=16, latent_dim=8, beta=1e-3
    )
    checkpoint = raectl.train(config, data, tmp_path / "ckpt")
    items = torch.from_numpy(np.array(checkpoint.open_data().items))
    modality = checkpoint.modality
    x = modality.to_tensor(items)
    learnt = production_accuracy(x, modality.measured(checkpoint.decode(checkpoint.encode(items)))).mean()
    constant = max(production_accuracy(x, one.expand_as(x)).mean() for one in x)
    assert learnt > constant + 0.1


WRONG = {
    "train --data {d} --out {n}": (2, ["of which grammar?", "--grammar expressions"]),
    "train --data {d} --grammar nonesuch --out {n}": (2, ["--grammar 'nonesuch'", "expressions, smiles"]),
    "train --data {d} --grammar smiles --out {n}": (1, ["none of the 60 lines in"]),
    "train --data {d} --grammar expressions --max-productions 7 --out {n}": (1, ["productions are more than 7"]),
    "train --data {d} --grammar expressions --image-size 32 --out {n}": (2, ["--image-size has no effect", "strings"]),
    "train --data {d} --grammar expressions --arch conv32 --out {n}": (2, ["shape (C, H, W), not (9, 12)"]),
    "train --data digits --grammar expressions --out {n}": (2, ["--grammar has no effect on digits", "images"]),
    "check {d} --grammar expressions --image-size 32": (2, ["--image-size has no effect", "strings"]),
    "check {d} --grammar expressions --background red": (2, ["--background has no effect", "strings"]),
    "check digits --max-productions 9": (2, ["--max-productions has no effect on digits", "images"]),
    "check digits --grammar expressions": (2, ["--grammar has no effect on digits", "images"]),
    "train --data digits --arch conv-gru --out {n}": (2, ["shape (T, D), not (1, 8, 8)"]),
    "train --resume --out {c} --grammar smiles": (2, ["--grammar differs"]),
    "train --resume --out {c} --max-productions 30": (2, ["--max-productions differs"]),
    "sample {c} -o {n}.png": (2, ["cannot write items", "supported: .txt"]),
    "sample {c} -o {n}": (2, ["cannot write items", "supported: .txt"]),
    "evaluate {c} --data {d} --features pixels": (2, ["no features pixels of strings", "expressions, strings"]),
    "evaluate {c} --data digits": (1, ["digits: these are images, the model is for strings"]),
    "reconstruct {c} --data {l} -o {n}.txt": (
        1,
        ["line 2 (1+2+3+x+x+1: its 12 productions are more than 9)", "productions 9 lists"],
    ),
    "reconstruct {c} --data {l} --max-bad 0.5 -o {n}.txt": (1, ["6 of 7 lines"]),
    "fit-density {c} --data {l} --max-bad 0.5 --density gaussian": (1, ["6 of 7 lines", "--max-bad"]),
    "fit-density {c} --max-bad 0.5": (2, ["--max-bad is for other data", "--data SOURCE"]),
    "fit-density {n} --latents {n}.npy --max-bad 0.5": (2, ["--latents and --max-bad exclude each other"]),
    "compare {c} {c} --max-bad 0.5": (2, ["--max-bad needs --data"]),
    "sample {c} --latents --draws 5 -o {n}.npy": (2, ["--draws 5 is for decoded items", "omit --draws"]),
    "sample {c} --draws 10001 -o {n}.txt": (2, ["--draws 10001 is out of range: 1 to 10,000"]),
    "sample {c} --draws 0 -o {n}.txt": (2, ["--draws"]),
    "sample {c} -o {n}.smi": (2, ["cannot write items", "supported: .txt"]),
}


@pytest.mark.parametrize("command", WRONG)
def test_mistakes(cli: Cli, command: str, trained, data, tmp_path) -> None:
    (tmp_path / "long.txt").write_text("x\n" + "1+2+3+x+x+1\n" * 6)
    names = {"d": data, "c": trained, "n": tmp_path / "new", "l": tmp_path / "long.txt"}
    before = tree(trained)
    code, fragments = WRONG[command]
    result = cli.run(*[word.format(**names) for word in command.split()])
    assert_clear_error(result, code, *fragments)
    assert tree(trained) == before and {path.name for path in tmp_path.iterdir()} <= {"long.txt"}


def test_too_many_strings_that_are_too_long_may_be_skipped(cli: Cli, trained, tmp_path) -> None:
    (tmp_path / "long.txt").write_text("x\n1+x\n" * 20 + "1+2+3+x+x+1\n" * 60)
    given = ("--data", tmp_path / "long.txt", "--max-bad", "0.9")
    assert cli("reconstruct", trained, *given, "-o", tmp_path / "pairs.txt", "--json").json["n"] == 40
    assert len((tmp_path / "pairs.txt").read_text().splitlines()) == 40
    cli("interpolate", trained, *given, "--pairs", 1, "-o", tmp_path / "walk.txt")
    cli("optimize", trained, *given, "--objective", "expressions", "--rounds", 1, "--batch", 1, "--inducing", 5)
    hint = cli.run("reconstruct", trained, *given[:2], "-o", tmp_path / "none.txt").err
    words = shlex.split(hint[hint.index("; raectl check") + 2 : hint.index(" lists them")])
    assert len(cli.run(*words[1:], "--json").json["bad"]) == 60
    told = cli("evaluate", trained, *given, "--json").json["numbers"]
    assert {line["n"] for line in told if line["of"] == "reconstruction"} == {40}


def test_samples_that_came_to_no_end_are_counted(cli: Cli, data, tmp_path) -> None:
    given = ("--data", data, "--grammar", "expressions", "--width", 2, "--epochs", 1, "--lr", 1e-6, "--seed", 2)
    cli("train", *given, "--out", tmp_path / "ckpt")
    cli("fit-density", tmp_path / "ckpt", "--density", "gaussian")
    told = cli("sample", tmp_path / "ckpt", "-n", 300, "-o", tmp_path / "s.txt").err
    lines = (tmp_path / "s.txt").read_text().split("\n")[:-1]
    assert len(lines) == 300 and lines.count("") > 0
    assert f"{lines.count('')} of 300 lines are empty: what came to no end; more training" in told
    told = cli("sample", tmp_path / "ckpt", "-n", 300, "--draws", 2, "-o", tmp_path / "drawn.txt").err
    drawn = (tmp_path / "drawn.txt").read_text().split("\n")[:-1]
    assert 0 < drawn.count("") < lines.count("")
    assert f"{drawn.count('')} of 300 lines are empty: no draw was valid; more draws" in told


def test_samples_of_many_draws(cli: Cli, trained, tmp_path) -> None:
    def sample(name: str, *options: object) -> list[str]:
        assert cli("sample", trained, "-o", tmp_path / name, *options, "--json").json["draws"] == 30
        return (tmp_path / name).read_text().splitlines()

    lines = sample("s.txt", "-n", 70, "--draws", 30)
    assert len(lines) == 70
    are_of_the_grammar("\n".join(lines))
    assert lines[:66] == sample("fewer.txt", "-n", 66, "--draws", 30, "--batch-size", 3)
    assert lines != sample("other.txt", "-n", 70, "--draws", 30, "--seed", 1)
    checkpoint = raectl.load(trained)
    items = np.concatenate(list(modes(checkpoint, 70, 0, None, 30)))
    assert items.shape == (70, 9) and lines == checkpoint.modality.shown(items).tolist()
    for draws in (0, -3, 10_001, 2.5, True):
        with pytest.raises(UsageError, match=r"--draws .* is out of range: 1 to 10,000"):
            check_draws(checkpoint, draws)


def test_items_of_the_data_are_written_as_they_are(trained, data, tmp_path) -> None:
    checkpoint = raectl.load(trained)
    checkpoint.write(checkpoint.open_data().items[:5], tmp_path / "s.txt")
    assert (tmp_path / "s.txt").read_text().splitlines() == data.read_text().splitlines()[:5]


DAMAGED = ["S -> S", 3, "expressions", "/dev/stdin"]


@pytest.mark.parametrize(
    ("where", "grammar"),
    [*(("config", bad) for bad in DAMAGED), *(("data", bad) for bad in (*DAMAGED, "S -> 'x'", None))],
)
def test_a_damaged_grammar(cli: Cli, grammar, where, trained, tmp_path) -> None:
    shutil.copytree(trained, tmp_path / "ckpt")
    record = json.loads((trained / "config.json").read_text())
    (record["config"] if where == "config" else record["data"]["options"])["grammar"] = grammar
    write_json(tmp_path / "ckpt" / "config.json", record)
    result = cli.run("sample", tmp_path / "ckpt", "-o", tmp_path / "s.txt")
    assert_clear_error(result, 1)
    assert "a line is LEFT" not in result.err and result.err.count("hint:") <= 1


def test_a_damaged_grammar_is_told_in_one_short_line(cli: Cli, trained, tmp_path) -> None:
    shutil.copytree(trained, tmp_path / "ckpt")
    record = json.loads((trained / "config.json").read_text())
    record["config"]["grammar"] = record["data"]["options"]["grammar"] = "S -> 'x'\n" + "S' " * 1000
    write_json(tmp_path / "ckpt" / "config.json", record)
    result = cli.run("sample", tmp_path / "ckpt", "-o", tmp_path / "s.txt")
    assert_clear_error(result, 1, "config.json is damaged: the grammar, line 2: ", "has no ->")
    assert len(result.err) < 400


WIDE, LARGE = "S -> " + "'x' " * 300, "S -> " + "'x' " * 20_000


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["options"].update(grammar=WIDE),
        lambda data: data["options"].update(grammar=LARGE),
        lambda data: data.update(shape=[700_000]),
    ],
    ids=["wide production", "large grammar", "long derivations"],
)
def test_a_checkpoint_beyond_bounds_is_refused(cli: Cli, trained: Path, tmp_path: Path, change) -> None:
    path = tmp_path / "ckpt"
    shutil.copytree(trained, path)
    record = json.loads((path / "config.json").read_text())
    change(record["data"])
    (path / "config.json").write_text(json.dumps(record))
    assert_clear_error(cli.run("sample", path, "-n", 1, "-o", tmp_path / "out.txt"), 1, "config.json is damaged")


def test_a_tolerance_that_is_the_default_counts_when_resuming(cli: Cli, tmp_path: Path) -> None:
    data = write_lines(tmp_path / "lines.txt", N)
    data.write_text(data.read_text() + "x+\n" * 8)
    out = tmp_path / "ckpt"
    cli("train", "--data", data, "--grammar", "expressions", *SMALL, "--max-bad", "0.2", "--epochs", "1", "--out", out)
    result = cli.run("train", "--resume", "--out", out, "--epochs", "2", "--max-bad", "0.01")
    assert_clear_error(result, 1, "8 of 68 lines")
    cli("train", "--resume", "--out", out, "--epochs", "2")


def test_check_counts_blank_lines(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "m.smi").write_text("CCO\n\nCCN\n\n")
    assert "blank lines  2" in " ".join(cli("check", tmp_path / "m.smi").out.split("\n")).replace("   ", " ")
    assert cli("check", tmp_path / "m.smi", "--json").json["found"] == {"blank_lines": [2, 4]}
    (tmp_path / "n.smi").write_text("CCO\nCCN\n")
    assert "blank lines" not in cli("check", tmp_path / "n.smi").out
