"""Molecules: files of them, what RDKit makes of them, and the way from a file to samples."""

import sys
import tracemalloc

import numpy as np
import pytest
import torch
from rdkit import Chem, rdBase
from support.cli import Cli, assert_clear_error

import raectl
from raectl import grammars, registry
from raectl.checkpoint.checkpoint import Checkpoint
from raectl.data import DataOptions, open_dataset
from raectl.data.sources import text
from raectl.errors import RaectlError, UsageError
from raectl.extractors.molecules import Molecules
from raectl.extractors.strings import Strings
from raectl.grammars.parser import LONGEST, parser_of
from raectl.metrics.reference import Reference
from raectl.metrics.strings import validity
from raectl.modalities.strings import Strings as Modality
from raectl.objectives.penalized_logp import PenalizedLogP

SMILES = grammars.read("smiles")
CHAINS = ["C" * n + end for n in range(1, 9) for end in ("", "O", "N", "Cl", "(=O)O")]


def smiles(dataset) -> list[str | None]:
    return [SMILES.string(row) for row in dataset.items]


# -- files of molecules --------------------------------------------------------------------------------------------


def test_a_smi_file_has_molecules_and_their_names(tmp_path):
    (tmp_path / "my.smi").write_bytes(b"CCO\tethanol\r\nc1ccccc1 benzene ring\nC[C@H](N)C(=O)O\n")
    dataset = open_dataset(tmp_path / "my.smi")
    assert smiles(dataset) == ["CCO", "c1ccccc1", "C[C@H](N)C(=O)O"] and dataset.notes == ()
    assert dataset.options.grammar == SMILES.text()


def test_what_is_no_molecule_is_named(tmp_path):
    (tmp_path / "my.smi").write_text("smiles name\nCCO 1\n\nC9CC9 2\nCCN\n")
    dataset = open_dataset(tmp_path / "my.smi")
    assert smiles(dataset) == ["CCO", "CCN"]
    assert [name for name, _ in dataset.skipped] == ["line 1", "line 4"]
    assert dataset.skipped[1][1].startswith("C9CC9: ") and "no '9'" in dataset.skipped[1][1]


def test_only_what_stands_before_the_space_is_read(tmp_path):
    names = [b"", b" name\xe9", b"\t" + b"x" * 20_000, b" \xff" * 10_000, b" " * 40_000, b" " + b"y" * 10_000_000]
    spaces = b" " * 16_384  # the end of what is read at once lies in the molecule after them
    (tmp_path / "my.smi").write_bytes(b"".join(b"CCO" + n + b"\n" for n in names) + spaces + b"CCN name\xe9\r\nCC \xe9")
    tracemalloc.start()
    lines = list(text._read(tmp_path / "my.smi", first=True))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert lines == [("CCO", None)] * len(names) + [("CCN", None), ("CC", None)] and peak < 2**20
    dataset = open_dataset(tmp_path / "my.smi")
    assert smiles(dataset) == ["CCO"] * len(names) + ["CCN", "CC"] and dataset.notes == ()


def test_what_stands_before_the_space_is_judged(tmp_path):
    long = b"C" * (LONGEST + 1)
    lines = [b"CCO", b"CC\xe9 name", b" \t", long + b" name", long * 5 + b" name", b"", b"CC"]
    (tmp_path / "my.smi").write_bytes(b"\n".join(lines))
    dataset = open_dataset(tmp_path / "my.smi", DataOptions(max_bad=0.9))
    assert smiles(dataset) == ["CCO", "CC"]
    longer = f"longer than {LONGEST:,} characters"
    assert [name for name, _ in dataset.skipped] == ["line 2", "line 4", "line 5"]
    assert [why for _, why in dataset.skipped] == [
        "not UTF-8 text: save it as UTF-8",
        f"{'C' * 24}...: {longer}",
        longer,
    ]


def test_the_same_bytes_are_other_strings_in_a_txt(tmp_path):
    """The cache goes by content, but a name after a molecule is no part of a string in one of the two."""
    for suffix in ("smi", "txt"):
        (tmp_path / f"my.{suffix}").write_text("CCO\nCCN name\n")
    options = DataOptions(grammar="smiles")
    assert smiles(open_dataset(tmp_path / "my.smi", options)) == ["CCO", "CCN"]
    assert smiles(open_dataset(tmp_path / "my.txt", options)) == ["CCO"]


def test_a_second_open_parses_nothing(tmp_path, monkeypatch):
    (tmp_path / "my.smi").write_text("CCO\nCCN\n")
    first = open_dataset(tmp_path / "my.smi")
    monkeypatch.delattr("raectl.grammars.parser.Parser.derivation")
    assert open_dataset(tmp_path / "my.smi").fingerprint == first.fingerprint


def test_a_smi_file_may_be_of_another_grammar(tmp_path):
    (tmp_path / "my.smi").write_text("a one\naa two\n")
    dataset = open_dataset(tmp_path / "my.smi", DataOptions(grammar="S -> 'a' S | 'a'"))
    assert dataset.items.tolist() == [[1, 2, 2], [0, 1, 2]]


# -- what RDKit makes of them --------------------------------------------------------------------------------------


@pytest.fixture
def chemistry() -> Molecules:
    return Molecules()


def test_valid_is_what_chemistry_allows(chemistry, capfd):
    good, bad = ["CCO", "c1ccccc1", "C[N+](C)(C)C"], ["", "C1CC", "C(C)(C)(C)(C)C", "c1cccc1", "FC=F=C", "nonsense"]
    assert chemistry(np.array(good + bad))[:, 0].tolist() == [1] * 3 + [0] * 6
    assert capfd.readouterr() == ("", "")


def test_two_names_of_one_molecule_are_the_same(chemistry):
    rows = chemistry(np.array(["OCC", "CCO", "CCN", "C1=CC=CC=C1", "c1ccccc1"]))
    assert torch.equal(rows[0], rows[1]) and torch.equal(rows[3], rows[4]) and not torch.equal(rows[0], rows[2])
    reference = Reference(rows, lambda: chemistry(np.array(["C(O)C"])))
    measured = {
        name: m.value for name, m in validity(reference, chemistry(np.array(["OCC", "CCO", "CCN", "C1"]))).items()
    }
    assert measured == {"valid": 3 / 4, "unique": 2 / 3, "novel": 1 / 2}


def test_the_features_say_which_rdkit(chemistry):
    assert chemistry.key.endswith(rdBase.rdkitVersion) and chemistry.key != Strings().key


def test_without_rdkit_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(RaectlError) as error:
        Molecules()
    assert error.value.hint == "pip install 'raectl[molecules]'"


def test_features_have_no_weights(tmp_path):
    with pytest.raises(UsageError, match="no weights"):
        Molecules(tmp_path / "w.pth")


def test_molecules_are_judged_by_chemistry_and_others_are_not():
    assert Modality(SMILES.text()).extractors == ("molecules", "penalized-logp", "strings")
    assert Modality(grammars.read("expressions").text()).extractors == ("expressions", "strings")


# -- the whole way -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("molecules")
    (folder / "my.smi").write_text("".join(f"{text} {n}\n" for n, text in enumerate(CHAINS)))
    config = raectl.Config(arch="conv-gru", width=16, latent_dim=8, batch_size=8, epochs=25, lr=0.01, beta=1e-3)
    raectl.train(config, folder / "my.smi", folder / "ckpt").fit_density("gaussian")
    return folder / "ckpt"


def test_evaluation_by_chemistry(cli: Cli, trained):
    told = cli("evaluate", trained, "--data", trained.parent / "my.smi", "--json").json
    numbers = {(line["of"], line["metric"]): line for line in told["numbers"]}
    assert numbers["real", "valid"]["value"] == 1 and "molecules-v1" in numbers["real", "valid"]["extractor"]
    cli("sample", trained, "-n", len(CHAINS), "-o", trained.parent / "s.txt")
    samples = (trained.parent / "s.txt").read_text().splitlines()
    with rdBase.BlockLogs():
        good = [text for text in samples if text and Chem.MolFromSmiles(text)]
    assert numbers["gaussian", "valid"]["value"] == pytest.approx(len(good) / len(samples)) and good
    canonical = {Chem.CanonSmiles(text) for text in good}
    assert numbers["gaussian", "unique"]["value"] == pytest.approx(len(canonical) / len(good))
    new = canonical - {Chem.CanonSmiles(text) for text in CHAINS}
    assert numbers["gaussian", "novel"]["value"] == pytest.approx(len(new) / len(canonical))


@pytest.fixture
def unclosed(monkeypatch):
    """Every latent decodes to a ring that is not closed, seven times of ten, or to one that is."""
    good, bad = (np.array([*parser_of(SMILES).derivation(ring)]) for ring in ("C1CCC1", "C1CCC2"))
    x_hat = torch.eye(SMILES.size)[good] * 0.3 + torch.eye(SMILES.size)[bad] * 0.7
    monkeypatch.setattr(
        Checkpoint, "sample_blocks", lambda self, n, seed=0, density=None: iter([x_hat.expand(n, -1, -1)])
    )


def test_samples_of_many_draws_are_molecules(cli: Cli, trained, tmp_path, unclosed):
    data = trained.parent / "my.smi"
    for draws, ring in (((), "C1CCC2"), (("--draws", 100), "C1CCC1")):
        cli("sample", trained, "-n", 20, *draws, "-o", tmp_path / "s.smi")
        assert (tmp_path / "s.smi").read_text().splitlines() == [ring] * 20
        for features in ((), ("--features", "strings")):
            told = cli("evaluate", trained, "--data", data, "--density", "gaussian", *draws, *features, "--json").json
            found = {line["of"]: line for line in told["numbers"] if line["metric"] == "valid"}
            assert found["real"]["draws"] is found["interpolation"]["draws"] is None
            of = found["gaussian, 100 draws" if draws else "gaussian"]
            assert of["density"] == "gaussian" and of["draws"] == (100 if draws else None)
            assert of["value"] == float(bool(draws or features))


def test_draws_without_rdkit(cli: Cli, trained, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    for command in (
        ("sample", trained, "-o", tmp_path / "no.smi"),
        ("evaluate", trained, "--data", trained.parent / "my.smi"),
    ):
        refused = cli.run(*command, "--draws", 1)
        assert_clear_error(refused, 1, "--draws: ", "need RDKit", "raectl[molecules]', or omit --draws")
    assert not (tmp_path / "no.smi").exists()


def test_evaluation_without_rdkit(cli: Cli, trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    data = trained.parent / "my.smi"
    assert_clear_error(
        cli.run("evaluate", trained, "--data", data), 1, "need RDKit", "raectl[molecules]'   (or: --features strings)"
    )
    told = cli("evaluate", trained, "--data", data, "--features", "strings", "--json").json
    assert {line["metric"] for line in told["numbers"]} >= {"valid", "unique", "novel", "exact-match"}


def test_evaluation_by_score(cli: Cli, trained):
    data = trained.parent / "my.smi"
    told = cli("evaluate", trained, "--data", data, "--features", "penalized-logp", "--json").json
    numbers = {(line["of"], line["metric"]): line["value"] for line in told["numbers"]}
    cli("sample", trained, "-n", len(CHAINS), "-o", trained.parent / "scored.smi")
    scores = PenalizedLogP()((trained.parent / "scored.smi").read_text().splitlines())
    assert numbers["gaussian", "score-of-valid"] == pytest.approx(scores[np.isfinite(scores)].mean())
    assert numbers["gaussian", "valid"] == np.isfinite(scores).mean()


def test_the_score_of_the_valid():
    extractor = registry.resolve("extractor", "penalized-logp")()
    texts = np.array(["CCO", "c1ccccc1", "C1", ""])
    features = extractor(texts)
    expected = PenalizedLogP()(["CCO", "c1ccccc1"])
    np.testing.assert_allclose(features[:, 3], [*expected, 0, 0], rtol=1e-6)
    assert torch.equal(features[:, :3], Molecules()(texts))
    measure = registry.resolve("set-metric", "score-of-valid")
    found = measure(Reference(features), features)["score-of-valid"]
    assert found.value == pytest.approx(expected.mean()) and found.se == pytest.approx(expected.std(ddof=1) / 2**0.5)
    assert measure(Reference(features), extractor(np.array(["CCO", "C1"]))) == {}
