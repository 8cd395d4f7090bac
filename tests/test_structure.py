"""The shape of the package, read from its source: which file may import which, and how large and explained it is."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import raectl
from raectl import registry

ROOT = Path(raectl.__file__).parent
FILES = {".".join(("raectl", *path.relative_to(ROOT).with_suffix("").parts)): path for path in ROOT.rglob("*.py")}
MODULES = {name.removesuffix(".__init__"): path for name, path in FILES.items()}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in MODULES.items()}

# Lower layers first; a module imports its own layer and those below. `a.b` stands for all modules below it.
LAYERS = [
    ["raectl.allocator", "raectl.errors", "raectl.reporting"],
    ["raectl.registry", "raectl.reading", "raectl.lock", "raectl.device"],
    ["raectl.files", "raectl.grammars"],
    ["raectl.config", "raectl.presets", "raectl.noise"],
    ["raectl.data", "raectl.objectives", "raectl.pictures", "raectl.tangent", "raectl.state"],
    [
        "raectl.modalities",
        "raectl.densities",
        "raectl.metrics",
        "raectl.extractors",
        "raectl.regularizers",
        "raectl.architectures",
        "raectl.codes",
        "raectl.latent_terms",
    ],
    ["raectl.models", "raectl.autoencoder"],
    ["raectl.objective"],
    ["raectl.build"],
    ["raectl.directory", "raectl.schedule", "raectl.signals"],
    ["raectl.card", "raectl.features", "raectl.store", "raectl.latents", "raectl.fitting", "raectl.layout"],
    ["raectl.resuming"],
    ["raectl.checkpoint"],
    ["raectl.trainer", "raectl.sampling", "raectl.reconstructing", "raectl.interpolation"],
    ["raectl.surrogate", "raectl.optimizing"],
    ["raectl.subjects"],
    ["raectl.evaluation", "raectl.comparing"],
    ["raectl.cli", "raectl.__main__"],
]
# The parts of one layer that must not know of each other.
APART = ["modalities", "densities", "metrics", "extractors", "regularizers", "architectures", "data"]
TORCHLESS = ["raectl.errors", "raectl.registry", "raectl.config", "raectl.presets", "raectl.reporting", "raectl.cli"]


def layer(module: str) -> int:
    found = [i for i, names in enumerate(LAYERS) for name in names if module == name or module.startswith(name + ".")]
    assert len(found) == 1, f"{module} has no place among the layers: give it one"
    return found[0]


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def statements(node: ast.AST, inside: bool) -> Iterator[ast.stmt]:
    """Every import below a node, those for type checkers aside; those inside functions only if asked for."""
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child) or (isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and not inside):
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        yield from statements(child, inside)


def imports(module: str, inside: bool = True) -> set[str]:
    """Full names of the modules that a module imports, submodules imported by `from` among them."""
    names: set[str] = set()
    for node in statements(TREES[module], inside):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{module}: relative imports hide the layers"
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in MODULES else node.module for name in below}
    return names


def own(names: set[str]) -> set[str]:
    return {name for name in names if name in MODULES and name != "raectl"}


def package(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("module", [name for name in MODULES if name != "raectl"])
def test_imports_point_down(module):
    for name in own(imports(module)):
        assert layer(name) <= layer(module), f"{module} imports {name}, which lies above it"
        if package(module) in APART and package(name) in APART:
            assert package(name) == package(module), f"{module} imports {name}"


def test_only_the_command_line_imports_the_command_line():
    users = {module for module in MODULES for name in own(imports(module)) if package(name) == "cli"}
    assert {package(module) for module in users} <= {"cli", "__main__"} and users


def test_no_cycles():
    edges = {module: own(imports(module, inside=False)) - {module} for module in MODULES}
    for module in list(edges):  # importing a.b runs a's __init__ first
        edges[module] |= {name for name in edges if module.startswith(name + ".") and name != "raectl"} - {module}
    # A package's __init__ may collect its own modules, which is no cycle unless one of them imports from it.
    for module, names in edges.items():
        for name in [*names]:
            if module.startswith(name + ".") and name not in own(imports(module, inside=False)):
                names.remove(name)
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for name in edges[module]:
                visit(name, (*path, module))
            done.add(module)

    for module in edges:
        visit(module, ())
    assert done == set(MODULES)


BASIC = ["raectl.errors", "raectl.registry", "raectl.config", "raectl.presets"]
BASIC += [module for module in MODULES if module.startswith("raectl.grammars")]


@pytest.mark.parametrize("module", BASIC)
def test_names_and_options_need_the_standard_library_only(module):
    for name in imports(module):
        assert name.partition(".")[0] in sys.stdlib_module_names or name == "raectl" or name in BASIC, name


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith(("raectl.data", *TORCHLESS)) or m == "raectl"])
def test_what_is_read_before_torch_does_not_import_it(module):
    assert not {"torch", "sklearn", "scipy"} & {name.partition(".")[0] for name in imports(module, inside=False)}
    if package(module) == "data":
        assert not {"torch", "scipy"} & {name.partition(".")[0] for name in imports(module)}
    if package(module) == "cli":
        quick = {"numpy", "PIL", "raectl.checkpoint", "raectl.trainer", "raectl.build", "raectl.data"}
        assert not quick & imports(module, inside=False)


@pytest.mark.parametrize("module", [module for module in MODULES if package(module) != "data"])
def test_nothing_asks_for_a_registered_name(module):
    """Names are for the registry: no `if modality == "images"`, nor the like for any other component.

    In `data` a source recognises its own name, which is how a SOURCE is typed.
    """
    names = {name for kind in registry._TABLE for name in registry.names(kind)} - {"none"}
    for node in ast.walk(TREES[module]):
        compared = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        if isinstance(node, ast.MatchValue):
            compared = [node.value]
        constants = {c.value for part in compared for c in ast.walk(part) if isinstance(c, ast.Constant)}
        assert not names & {c for c in constants if isinstance(c, str)}, f"{module}:{getattr(node, 'lineno', 0)}"


@pytest.mark.parametrize("module", MODULES)
def test_only_data_modalities_and_pictures_know_images(module):
    if package(module) in ("data", "modalities", "metrics", "pictures", "architectures", "registry", "cli"):
        return
    assert not any(name.startswith(("PIL", "raectl.pictures", "raectl.modalities.images")) for name in imports(module))
    for node in ast.walk(TREES[module]):
        assert not (isinstance(node, ast.Constant) and node.value == "images"), f"{module}:{node.lineno}"


SOURCES = [
    path
    for folder in (ROOT, *(Path(__file__).parents[1] / name for name in ("tests", "benchmarks", "examples", ".ci")))
    for path in folder.rglob("*")
    if path.suffix == ".py" or (path.parent.name == ".ci" and path.is_file())
]


def test_every_folder_of_sources_is_looked_at():
    assert {"raectl", "tests", "benchmarks", "examples", ".ci"} <= {path.parent.name for path in SOURCES}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_files_are_short(path):
    assert len(path.read_text("utf-8").splitlines()) <= 400


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in registry._TABLE for name in registry.names(kind)])
def test_every_registered_path_resolves(kind, name):
    found = registry.resolve(kind, name)
    assert found is not None
    module = registry._TABLE[kind][name].partition(":")[0]
    assert importlib.import_module(module).__doc__


def undocumented(tree: ast.Module) -> Iterator[str]:
    """Public functions and classes without a docstring, and public methods of classes that inherit nothing.

    An override says what its base said, a property what its name says; they need one where there is more to say.
    """
    if not ast.get_docstring(tree):
        yield "the module"
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            yield node.name
        if isinstance(node, ast.ClassDef) and not node.bases:
            for method in node.body:
                public = isinstance(method, ast.FunctionDef) and not method.name.startswith("_")
                if public and not method.decorator_list and not ast.get_docstring(method):
                    yield f"{node.name}.{method.name}"


@pytest.mark.parametrize("module", MODULES)
def test_everything_public_is_explained(module):
    assert not [*undocumented(TREES[module])]


def test_names_of_the_package():
    assert all(getattr(raectl, name) is not None for name in raectl.__all__)
    assert set(raectl.__all__) <= set(dir(raectl)) and set(raectl.__all__) - set(raectl._HOMES) == {
        "densities",
        "registry",
    }
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = raectl.nothing_here


def test_the_registry_and_the_densities_come_with_the_package_and_torch_does_not():
    program = "import sys, raectl; print(raectl.registry.names('model')); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == repr(registry.names("model"))
    program = "import raectl; print(raectl.densities.GMM.name)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "gmm", done.stderr
