"""CONTRIBUTING.md's recipe "Add a regularizer", performed on a copy of the package."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = "from raectl.cli.main import main; main()"


def recipe(title: str) -> tuple[str, str, str]:
    """The new file's path and text, and the registry's new line."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    part = text.split(f"## {title}\n", 1)[1] if f"\n## {title}\n" in text else text.split(f"### {title}\n", 1)[1]
    path = re.search(r"`(raectl/model/regularizers/\w+\.py)`", part)
    content, line = re.findall(r"```python\n(.*?)```", part, re.DOTALL)[:2]
    assert path
    return path[1], content, line


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which the recipe was followed."""
    home = tmp_path_factory.mktemp("recipe")
    for name in ("raectl", "tests"):
        shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    (home / ".ci").mkdir()
    for name in ("pyproject.toml", "README.md", ".ci/cli_reference.py"):
        shutil.copy(ROOT / name, home / name)
    path, content, line = recipe("Add a regularizer")
    assert not (home / path).exists()
    (home / path).write_text(content, "utf-8")
    registry = home / "raectl" / "registry.py"
    text = registry.read_text("utf-8")
    (last,) = re.findall(r'\n        "noise": [^\n]*\n', text)
    registry.write_text(text.replace(last, f"{last}        {line.strip()}\n"), "utf-8")
    return home


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(project), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    for name in [name for name in environment if name.startswith("PYTEST_")]:
        del environment[name]
    return subprocess.run(
        [sys.executable, *arguments], cwd=project, env=environment, capture_output=True, text=True, check=False
    )


def name_of(line: str) -> str:
    found = re.search(r'"([a-z-]+)":', line)
    assert found
    return found[1]


SMALL = ("--width", "2", "--latent-dim", "4", "--batch-size", "100", "--device", "cpu", "--precision", "fp32")


def raectl(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(project, "-c", PROGRAM, *arguments)


def test_it_is_in_the_help(project: Path) -> None:
    name = name_of(recipe("Add a regularizer")[2])
    done = raectl(project, "train", "--help")
    assert done.returncode == 0 and name in done.stdout, done.stderr
    done = raectl(project, "train", "--reg", f"{name},help")
    assert all(word in done.stdout for word in ("weight", "1e-5 D", "scale", "above 0, up to 1,000")), done.stderr
    page = run(project, ".ci/cli_reference.py").stdout
    assert f"| `--reg {name},scale` | s, which the" in page and "| number, above 0, up to 1,000 | 1 |" in page


def test_it_trains_and_its_penalty_falls(project: Path) -> None:
    name = name_of(recipe("Add a regularizer")[2])
    typed = f"{name},scale=0.5"
    done = raectl(project, "train", "digits", "--reg", typed, "--epochs", "2", "--out", "ckpt", *SMALL)
    assert done.returncode == 0, done.stderr
    stored = json.loads((project / "ckpt" / "config.json").read_text())["config"]["reg"]
    assert stored[name]["scale"] == 0.5 and stored[name]["weight"] > 0
    first, second = map(json.loads, (project / "ckpt" / "log.jsonl").read_text().splitlines())
    assert second["train"][name] != first["train"][name] > 0 and second["weights"][name] > 0


def test_its_option_is_checked_wherever_it_is_given(project: Path) -> None:
    name = name_of(recipe("Add a regularizer")[2])
    file = project / "options.toml"
    file.write_text(f'reg = "{name}=0.1,scale=0.5"')
    config = ("train", "--config", str(file), "--dry-run", *SMALL)
    assert json.loads(raectl(project, *config).stdout)["config"]["reg"] == {name: {"weight": 0.1, "scale": 0.5}}
    file.write_text(f"[reg.{name}]\nscale = 0")
    said = f"error: --reg {name},scale=0 is out of range: above 0, up to 1,000\nhint: --reg {name},scale=1\n"
    assert raectl(project, *config).stderr == said
    assert raectl(project, "train", "--reg", f"{name},scale=0", "--out", "new", *SMALL).stderr == said
    python = f"from raectl import registry; registry.resolve('regularizer', '{name}')(scale=0)"
    assert "UsageError: scale=0 is out of range: above 0, up to 1,000" in run(project, "-c", python).stderr


def test_a_stored_value_that_is_wrong_is_refused(project: Path) -> None:
    name = name_of(recipe("Add a regularizer")[2])
    done = raectl(project, "train", "digits", "--reg", name, "--epochs", "1", "--out", "bad", *SMALL)
    assert done.returncode == 0, done.stderr
    config = project / "bad" / "config.json"
    config.write_text(config.read_text().replace('"scale": 1.0', '"scale": -1.0'))
    for command in (("reconstruct", "bad", "--data", "digits", "-o", "x.png"), ("train", "--resume", "--out", "bad")):
        done = raectl(project, *command)
        assert done.returncode == 1 and "config.json is damaged" in done.stderr, done.stderr
        assert f"--reg {name},scale=-1 is out of range" in done.stderr


def test_it_passes_the_contract_tests(project: Path) -> None:
    name = name_of(recipe("Add a regularizer")[2])
    chosen = ["-k", f"(regularizer or options) and {name}", "-n0", "-q", "-p", "no:cacheprovider"]
    done = run(project, "-m", "pytest", "tests/test_contracts.py", *chosen)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"(\d+) passed", done.stdout)
    assert found and int(found[1]) >= 6
