"""The shape of the package: what import-linter and ruff do not hold."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import raectl
from raectl import registry

PROJECT = Path(__file__).parents[1]
ROOT = PROJECT / "raectl"
FILES = {path.relative_to(ROOT).as_posix(): path for path in ROOT.rglob("*.py")}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items()}
MOST = 10  # files of a folder
# Folders of registered components, in which a file is a component.
COMPONENTS = {
    "data/sources",
    "model/architectures",
    "model/reconstructions",
    "model/regularizers",
    "metrics",
    "extractors",
    "objectives",
    "cli/commands",
}


def layers() -> list[str]:
    """Folders and root files as the import contract has them, the highest first."""
    contract = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    return [name for layer in contract["layers"] for name in layer.split(" | ")]


def folder(name: str) -> str:
    """The folder or root file that a module of the package belongs to."""
    return name.split(".")[1]


def test_folders_are_small() -> None:
    counts: dict[str, int] = {}
    for name in FILES:
        where, _, file = name.rpartition("/")
        counts[where] = counts.get(where, 0) + (file != "__init__.py" or not where)
    assert {where: n for where, n in counts.items() if n > MOST and where not in COMPONENTS} == {}


def test_files_are_short() -> None:
    folders = (ROOT, *(PROJECT / name for name in ("tests", "benchmarks", "examples", ".ci")))
    sources = [path for folder in folders for path in folder.rglob("*.py")]
    assert len(sources) > 200
    assert {str(path): n for path in sources if (n := len(path.read_text("utf-8").splitlines())) > 400} == {}


def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT, tmp_path / "raectl", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    return tmp_path / "raectl"


def lint_imports(project: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("file", "planted", "said"),
    [
        ("rng.py", "", "2 kept, 0 broken"),
        ("rng.py", "def late():\n    from raectl.cli import output\n    return output", "raectl.rng is not allowed"),
        ("densities/kde.py", "import raectl.checkpoint.directory", "raectl.densities is not allowed"),
        ("data/images/decode.py", "import raectl.data.images.files", "1 kept, 1 broken"),
    ],
    ids=["as it is", "upward, in a function", "upward", "a circle"],
)
def test_an_import_against_the_order_is_found(tmp_path: Path, file: str, planted: str, said: str) -> None:
    path = copy(tmp_path) / file
    path.write_text(f"{path.read_text('utf-8')}\n\n{planted}\n", "utf-8")
    done = lint_imports(tmp_path)
    assert said in done.stdout + done.stderr
    assert (done.returncode == 0) == (not planted)


def test_registered_components_obey_the_order() -> None:
    """A module resolves only kinds whose components lie in its own folder or below it."""
    order = layers()
    own = {
        kind: [path for path in table.values() if path.startswith("raectl.")] for kind, table in registry._TABLE.items()
    }
    homes = {kind: {folder(path) for path in paths} for kind, paths in own.items()}
    assert all(len(found) == 1 for found in homes.values()), "the components of a kind live in one folder"
    seen = set()
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in ("resolve", "registry.resolve") and isinstance(node.args[0], ast.Constant):
                kind, own = node.args[0].value, name.removesuffix(".py").split("/")[0]
                seen.add(kind)
                assert order.index(own) <= order.index(*homes[kind]), f"{name} resolves a {kind}, which lies above it"
    assert seen == set(homes), "every kind is resolved somewhere"


def test_every_registered_path_resolves() -> None:
    for kind in registry._TABLE:
        for name in registry.names(kind):
            assert registry.resolve(kind, name) is not None


def test_nothing_asks_for_a_registered_name() -> None:
    """Names are for the registry: no `if modality == "images"`. A source, though, recognises its own name."""
    names = {name for kind in registry._TABLE for name in registry.names(kind)} - {"none"}
    for name, tree in TREES.items():
        if name.startswith("data/"):
            continue
        for node in ast.walk(tree):
            compared = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            if isinstance(node, ast.MatchValue):
                compared = [node.value]
            constants = {c.value for part in compared for c in ast.walk(part) if isinstance(c, ast.Constant)}
            assert not names & {c for c in constants if isinstance(c, str)}, f"{name}:{getattr(node, 'lineno', 0)}"


def test_only_data_and_modalities_know_images() -> None:
    for name, tree in TREES.items():
        if not name.startswith(("data/", "modalities/", "metrics/", "model/architectures/", "registry", "cli/")):
            found = [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Constant) and n.value == "images"]
            assert not found, f"{name}:{found}"


def test_public_methods_of_base_classes_are_explained() -> None:
    """An override says what its base said; the rest of the docstrings is held by ruff."""
    missing = [
        f"{name}: {node.name}.{method.name}"
        for name, tree in TREES.items()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.bases and not node.name.startswith("_")
        for method in node.body
        if isinstance(method, ast.FunctionDef) and not method.name.startswith("_") and not method.decorator_list
        if not ast.get_docstring(method)
    ]
    assert missing == []


# In the grammars' parser, `_Stack` is a stack, which is another meaning.
RETIRED = {
    *("Crew", "Helper", "Ahead", "Job", "Promise", "Partial", "Stack", "uniform", "listing", "Frame", "Normals"),
    *("Climb", "climb", "roots", "colour", "held", "grasp", "sign", "settle", "settled", "sweep", "Report", "subjects"),
    *("store", "layout", "card", "reading", "noise", "models", "crew", "job", "frame", "maximized"),
}


def test_no_definition_carries_a_retired_name() -> None:
    named = {Path(name).stem for name in FILES}
    for tree in TREES.values():
        named |= {n.name for n in ast.walk(tree) if isinstance(n, ast.ClassDef | ast.FunctionDef)}
    assert named & set(RETIRED) == set()


def test_names_of_the_package() -> None:
    assert all(getattr(raectl, name) is not None for name in raectl.__all__)
    assert set(raectl.__all__) <= set(dir(raectl))
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = raectl.nothing_here


def test_the_registry_and_the_densities_come_with_the_package_and_torch_does_not() -> None:
    program = "import sys, raectl; print(raectl.registry.names('model')); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == repr(registry.names("model"))
    program = "import raectl; print(raectl.densities.GMM.name)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "gmm", done.stderr


def test_the_tree_that_contributing_prints_is_the_tree() -> None:
    text = (PROJECT / "CONTRIBUTING.md").read_text("utf-8")
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert {name for name in folders if not re.search(rf"^\s*{name}/ ", text, re.MULTILINE)} == set()


@pytest.mark.parametrize("name", FILES)
def test_an_assert_does_nothing(name):
    """`python -O` leaves asserts out, so they may only look."""
    asserts = [node for node in ast.walk(TREES[name]) if isinstance(node, ast.Assert)]
    calls = [call for node in asserts for call in ast.walk(node.test) if isinstance(call, ast.Call)]
    assert {ast.unparse(call.func) for call in calls} <= {"isinstance", "len"}
