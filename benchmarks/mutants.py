"""Would the tests notice a wrong formula? One small change to the source at a time, and the tests that execute it.

    pip install cosmic-ray coverage
    OMP_NUM_THREADS=1 python benchmarks/mutants.py --sample 320 --seed 0     change, test, log; goes on where it ended
    OMP_NUM_THREADS=1 python benchmarks/mutants.py --again                   the survivors, against the tests of today
    python benchmarks/mutants.py --report                                    results/mutants.md

The sample is one of places in the objective, the regularizers, the densities and the checkpoint, with one of
cosmic-ray's replacements drawn for each. Left out is what says nothing of the tests: `|`, which unites types or
dictionaries, `/` of paths, and numbers' operators replaced by those of bits, as they end in a type error wherever they
are executed; identity for equality; `@abstractmethod` taken away; what does not compile, or compiles to the same.

First each file of tests is run alone, on the source as it is, to learn which tests execute which lines. A mutant is
tried in a copy of the tree by those tests that execute its line, or by those of a file that makes something with it for
many; quick ones first, up to the first that fails, `--most` seconds of them. What a call executes is replaced in a fork
of a process that has collected the tests; what the import executes is imported and collected anew. A mutant is killed
if a test fails, and also if they take `--limit` seconds of a processor more than twice their usual, which is counted
apart.
"""

import argparse
import hashlib
import json
import re
import tempfile
from collections import Counter, defaultdict
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest
from mutations import ROOT, Row, found_again, sample
from timing import RESULTS
from trials import Tree, in_function, preload

Key = tuple[str, int, str, int]  # of a mutant: path, line, operator, number
_RESULTS = ("outcome", "tests", "by", "seconds")
LOG, PAGE = RESULTS / "mutants.jsonl", RESULTS / "mutants.md"
DENSITIES = tuple(
    f"densities/test_{name}" for name in ("densities", "oracles", "em", "sklearn", "units", "odd_latents")
)
DIRECTORIES = (
    "checkpoint/test_checkpoint",
    "checkpoint/test_damage",
    "checkpoint/test_writes",
    "faults/test_hostile_checkpoints",
)
SUITES = {  # the first that fits counts
    "raectl/model/loss.py": ("model/test_loss", "model/test_iwae"),
    "raectl/model/latent_terms.py": ("model/test_loss", "model/test_iwae"),
    "raectl/model/regularizers/spectral_norm.py": ("model/test_regularizers", "model/test_spectral_norm"),
    "raectl/model/regularizers/*.py": ("model/test_gradient_penalty", "model/test_regularizers", "model/test_loss"),
    "raectl/densities/flow.py": ("densities/test_flow", "densities/test_densities"),
    "raectl/densities/second_stage.py": ("densities/test_second_stage", "densities/test_densities"),
    "raectl/densities/networks.py": ("densities/test_networks", "densities/test_second_stage", "densities/test_flow"),
    "raectl/densities/mixtures/student_t.py": ("densities/test_student_t", "densities/test_densities"),
    "raectl/densities/*.py": (*DENSITIES, "densities/test_student_t"),
    "raectl/checkpoint/densities.py": (*DIRECTORIES, "cli/test_density_options"),
    "raectl/checkpoint/directory.py": (*DIRECTORIES, "storage/test_lock", "data/test_pieces"),
    "raectl/checkpoint/*.py": (*DIRECTORIES, "data/test_pieces", "test_contracts"),
    "raectl/storage/records.py": DIRECTORIES,
}


def sources() -> list[str]:
    paths = (path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "raectl").rglob("*.py")))
    return [path for path in paths if any(fnmatch(path, pattern) for pattern in SUITES)]


def suite(path: str) -> tuple[str, ...]:
    """The files of tests for a module, and itself for its examples."""
    names = next(tests for pattern, tests in SUITES.items() if fnmatch(path, pattern))
    return (path, *(f"tests/{name}.py" for name in names))


class Log:
    """Rows of mutants, and of files of tests with a digest of them and of the sources."""

    def __init__(self, path: Path) -> None:
        self._path = path
        rows = [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []
        self.mutants = [row for row in rows if "operator" in row]
        self.modules = {name for row in rows for name in row.get("modules", ())}
        self.measured = {(row["file"], row["digest"]): row["tests"] for row in rows if "file" in row}

    def add(self, row: Row) -> None:
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if "operator" in row:
            self.mutants.append(row)

    @property
    def latest(self) -> dict[Key, Row]:
        """The last row of each mutant."""
        return {key(row): row for row in self.mutants}


def key(row: Row) -> Key:
    return row["path"], row["line"], row["operator"], row["number"]


class Trials:
    """Tries mutants, and logs how each ended."""

    def __init__(self, tree: Tree, log: Log, limit: float, most: float) -> None:
        self._tree, self._log, self._limit, self._most = tree, log, limit, most
        preload(log.modules)

    def tests(self, path: str) -> dict[str, dict[str, Row]]:
        return {file: self._measured(file) for file in suite(path)}

    @cache  # noqa: B019
    def _measured(self, file: str) -> dict[str, Row]:
        content = b"".join((ROOT / path).read_bytes() for path in (file, *sources()))
        digest = hashlib.sha256(content).hexdigest()
        if (file, digest) not in self._log.measured:
            tests, modules = self._tree.measure(file, sources())
            self._log.add({"file": file, "digest": digest, "tests": tests})
            if new := sorted({*modules} - self._log.modules):
                self._log.add({"modules": new})
                self._log.modules |= {*new}
                preload(new)
            self._log.measured[file, digest] = tests
        return self._log.measured[file, digest]

    def first(self, size: int, seed: int) -> None:
        done = self._log.latest
        made = [(source, row, row) for source, row in sample(sources(), size, seed) if key(row) not in done]
        self._try(made)

    def again(self) -> None:
        made = []
        for row in [row for row in self._log.latest.values() if row["outcome"] == "survived"]:
            if found := found_again(row):
                made.append((*found, {**row, "again": True}))
            else:
                self._add({**row, "outcome": "gone", "again": True})
        self._try(made)

    def _try(self, made: list[tuple[str, Row, Row]]) -> None:
        """Try mutants, (source, row of today, row of the log): those in functions by tests collected once."""
        called = [each for each in made if in_function(each[1]["path"], each[1]["line"])]
        files = dict.fromkeys(file for _, row, _ in called for file in self.tests(row["path"]))
        self._tree.collected(files, lambda session: self._try_in(session, called))
        self._try_in(None, [each for each in made if each not in called])

    def _try_in(self, session: pytest.Session | None, made: list[tuple[str, Row, Row]]) -> None:
        for source, row, logged in made:
            tests = self.tests(row["path"])
            tried = self._tree.attempt(source, row, tests, self._limit, self._most, session)
            self._add({**tried, **{name: logged[name] for name in logged if name not in _RESULTS}})

    def _add(self, row: Row) -> None:
        self._log.add(row)
        print(f"{row['outcome']:>9} {row['seconds']:6.1f} s {row['path']}:{row['line']}  {row['after']}", flush=True)


def report(log: Log) -> str:
    """How many were killed of each module, and the survivors, with what the page that was there said of each."""
    first, latest = {key(row): row for row in reversed(log.mutants)}, log.latest
    by_module: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, row in first.items():
        by_module[name[0]].append((row["outcome"], latest[name]["outcome"]))
    lines = ["Killed by a test or by the time: at first, and with the tests that the survivors led to.", ""]
    lines += ["| module | mutants | killed | timed out | survived | killed now | left |", "|---" * 7 + "|"]
    everything = [pair for pairs in by_module.values() for pair in pairs]
    for module, pairs in [*sorted(by_module.items()), ("all", everything)]:
        then, now = (Counter(outcomes) for outcomes in zip(*pairs, strict=True))
        dead, left = (len(pairs) - each["survived"] for each in (then, now)), now["survived"]
        before, today = (f"{100 * number / len(pairs):.0f} %" for number in dead)
        lines.append(
            f"| {module} | {len(pairs)} | {before} | {then['timed out']} | {then['survived']} | {today} | {left} |"
        )
    # What the page says of a survivor is kept; a new one's "?" is for who looks at it.
    page = PAGE.read_text() if PAGE.exists() else ""
    said = dict(re.findall(r"^(\| raectl/.*? \| `` .*? `` \| `` .*? ``) \| (.*) \|$", page, re.MULTILINE))
    lines += ["", "| survivor | line | changed to | why |", "|---|---|---|---|"]
    for row in sorted((row for row in latest.values() if row["outcome"] == "survived"), key=key):
        before, after = (row[side].replace("|", "\\|") or "(nothing)" for side in ("before", "after"))
        place = f"| {row['path']}:{row['line']} | `` {before} `` | `` {after} ``"
        lines.append(f"{place} | {said.get(place, '?')} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=0, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--limit", type=float, default=30, metavar="SECONDS")
    parser.add_argument("--most", type=float, default=60, metavar="SECONDS")
    parser.add_argument("--log", type=Path, default=LOG)
    parser.add_argument("--report", action="store_true")
    asked = parser.parse_args()
    log = Log(asked.log)
    if asked.report:
        PAGE.write_text(report(log) + "\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        trials = Trials(Tree(Path(folder).resolve() / "tree"), log, asked.limit, asked.most)
        if asked.sample:
            trials.first(asked.sample, asked.seed)
        if asked.again:
            trials.again()


if __name__ == "__main__":
    main()
