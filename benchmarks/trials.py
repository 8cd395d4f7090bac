"""Tests of mutants: which tests execute a line, and whether one of them fails."""

import ast
import compileall
import contextlib
import gc
import importlib
import json
import math
import os
import py_compile
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NoReturn

import pytest
from mutations import ROOT, Row

_NOT_TRIED = 70  # exit code
KEPT = ("torch", "numpy", "scipy", "sklearn", "zuko", "PIL", "typer", "rich", "safetensors", "threadpoolctl")


def in_function(path: str, line: int) -> bool:
    """Whether a line is executed by calls, not by the import."""
    tree = ast.parse((ROOT / path).read_text())
    return any(isinstance(node, ast.FunctionDef) and line in _body(node) for node in ast.walk(tree))


def lines_of(path: str, line: int) -> set[int]:
    """The lines of functions that a line counts for: its own statement's, if it is in one.

    Importing executes a signature, a decorator and the lines of a class, which count for all of the function or class;
    a private constant counts where it is named; any other line for the whole module.
    """
    tree = ast.parse((ROOT / path).read_text())
    around = [n for n in ast.walk(tree) if isinstance(n, ast.stmt | ast.ExceptHandler) and line in _span(n)]
    innermost, owners = around[-1], [n for n in around if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    if owners and line in _body(owners[-1]) and isinstance(owners[-1], ast.FunctionDef):
        block = getattr(innermost, "body", None)
        return {line, *range(innermost.lineno, block[0].lineno if block else (innermost.end_lineno or 0) + 1)}
    within = _span(owners[-1]) if owners else range(10**6)
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.lineno in within]
    counted = {each for function in functions for each in _body(function)}
    if not owners and isinstance(innermost, ast.Assign):
        own = {n.id for target in innermost.targets for n in ast.walk(target) if isinstance(n, ast.Name)}
        uses = {n.lineno for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id in own} & counted
        if uses and all(name.startswith("_") for name in own):
            return set().union(*(lines_of(path, use) for use in uses))
    return counted


def _span(node: Any) -> range:
    first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
    return range(first, node.end_lineno + 1)


def _body(node: Any) -> range:
    return range(node.body[0].lineno, node.end_lineno + 1)


def preload(names: Iterable[str]) -> None:
    """Import what then need not be imported in each fork."""
    for name in names:
        with contextlib.suppress(Exception):  # some are there for other systems, or for who asks for them in order
            importlib.import_module(name)


class Watch:
    """A pytest plugin: what each test executes, and how long it takes."""

    def __init__(self, coverage: Any) -> None:
        self._coverage = coverage
        self.tests: dict[str, Row] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        self._coverage.switch_context(item.nodeid)
        began = time.process_time()
        try:
            return (yield)
        finally:
            self.tests[item.nodeid] = {"seconds": round(time.process_time() - began, 4), "lines": {}}
            self._coverage.switch_context("")


class Choice:
    """A pytest plugin: some tests only, in an order of ours, those without a trained checkpoint first."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds = seconds

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid in self._seconds]
        items.sort(key=lambda item: ("original" in item.fixturenames, self._seconds[item.nodeid]))


class Collected:
    """A pytest plugin: instead of running the tests, hand them out, collected once for many forks."""

    def __init__(self, use: Callable[[pytest.Session], None]) -> None:
        self._use = use

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._use(session)
        return True


def replace_functions(path: Path, before: str, after: str) -> None:
    """Give the functions of a file the code of its new source, if it has been imported; only these may differ."""
    name = ".".join(path.with_suffix("").parts[len(path.parts) - path.parts[::-1].index("raectl") - 1 :])
    if name not in sys.modules:
        return
    replaced = False
    old, new = ({*_codes(compile(source, str(path), "exec"))} for source in (before, after))
    codes = {(code.co_qualname, code.co_firstlineno): code for code in new - old}
    for function in [each for each in gc.get_objects() if type(each) is FunctionType]:
        code = function.__code__
        if code.co_filename == str(path) and (code.co_qualname, code.co_firstlineno) in codes:
            function.__code__, replaced = codes[code.co_qualname, code.co_firstlineno], True
    if not replaced:
        raise RuntimeError(f"no function of {name} was replaced")


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def run_collected(session: pytest.Session, seconds: dict[str, float]) -> int:
    """Run some of the collected tests, up to the first that fails."""
    items = [*session.items]
    Choice(seconds).pytest_collection_modifyitems(items)
    for item, following in zip(items, [*items[1:], None], strict=True):
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            print(f"\nFAILED {item.nodeid}", flush=True)
            return 1
    return 0


class Tree:
    """A copy of the repository, in which tests are run in forks of this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        shutil.copytree(ROOT, path, ignore=shutil.ignore_patterns(".*", "__pycache__", "runs", "ckpt", "*.jsonl"))
        # Compiled files that are compared by content, not by the second in which the source was written.
        compileall.compile_dir(path / "raectl", quiet=1, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
        os.environ.update(PYTHONPATH=str(path), RAECTL_CACHE=str(path / "cache"), PYTHONDONTWRITEBYTECODE="1")

    def fork(self, act: Callable[[], int], seconds: float) -> int | None:
        """What `act` returns in a process of its own, or None if that takes more seconds of a processor than that."""
        child = os.fork()
        if child == 0:
            self._be(act, math.ceil(seconds))
        end = time.monotonic() + 30 * seconds  # it may also wait for ever
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            if time.monotonic() > end:
                os.killpg(child, signal.SIGKILL)
            time.sleep(0.02)
        code = os.waitstatus_to_exitcode(ended[1])
        return None if -code in (signal.SIGXCPU, signal.SIGKILL) else code

    def _be(self, act: Callable[[], int], seconds: int) -> NoReturn:
        code = _NOT_TRIED
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
            out = os.open(self.path / "out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            os.chdir(self.path)
            sys.path[0] = str(self.path)
            code = act()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def run(self, files: list[str], plugin: object, *options: str) -> int:
        home = self.path / "tmp"
        return pytest.main(
            ["-q", "-n0", "-pno:cacheprovider", f"--basetemp={home}", *options, *files], plugins=[plugin]
        )

    def measure(self, file: str, sources: Iterable[str]) -> tuple[dict[str, Row], list[str]]:
        """What each test of a file executes of the sources, and the modules that others wrote which it imports."""

        def act() -> int:
            import coverage

            watching = coverage.Coverage(data_file=None, source=[str(self.path / "raectl")], config_file=False)
            watch = Watch(watching)
            watching.start()
            code = self.run([file], watch)
            watching.stop()
            for path in sources:
                for line, contexts in watching.get_data().contexts_by_lineno(str(self.path / path)).items():
                    for context in contexts:
                        watch.tests.setdefault(context, {"lines": {}})["lines"].setdefault(path, []).append(line)
            (self.path / "watched").write_text(json.dumps([watch.tests, [*sys.modules]]))
            return code

        if self.fork(act, 3600) not in (0, pytest.ExitCode.NO_TESTS_COLLECTED):
            sys.exit(f"{file} fails on the source as it is:\n{(self.path / 'out').read_text()[-3000:]}")
        tests, modules = json.loads((self.path / "watched").read_text())
        return tests, [name for name in modules if name.partition(".")[0] in KEPT]

    def collected(self, files: Iterable[str], use: Callable[[pytest.Session], None]) -> None:
        """Collect tests, in a fork, as that imports raectl, and use them there."""
        child = os.fork()
        if child == 0:
            code = 70
            try:
                os.chdir(self.path)
                sys.path[0] = str(self.path)
                code = self.run([*files], Collected(use), "-s")
            finally:
                sys.stdout.flush()
                os._exit(code)
        if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            sys.exit(f"some mutants were not tried: {code}")

    def attempt(
        self,
        source: str,
        row: Row,
        tests: dict[str, dict[str, Row]],
        limit: float,
        most: float,
        session: pytest.Session | None,
    ) -> Row:
        """Run the tests that execute a mutant: those of a session, or collected anew."""
        own = lines_of(row["path"], row["line"])
        candidates: list[tuple[bool, float, str]] = []
        for held in tests.values():
            by = {name for name, test in held.items() if not own.isdisjoint(test["lines"].get(row["path"], ()))}
            wanted = held if "" in by else by  # "": outside of a test, in what is made for many
            candidates += [(name not in by, held[name]["seconds"], name) for name in wanted if name]
        executed: dict[str, float] = {}
        for _, seconds, name in sorted(candidates):
            if sum(executed.values()) + seconds <= most or not executed:
                executed[name] = seconds
        limit += 2 * sum(executed.values())
        path = self.path / row["path"]
        former = path.read_text()
        if not executed:
            return {**row, "outcome": "survived", "tests": 0, "by": "", "seconds": 0.0}
        files = [file for file in tests if any(name.startswith(file + "::") for name in executed)]

        def act() -> int:
            if session is None:
                return self.run(files, Choice(executed), "-x")
            replace_functions(path, former, source)
            return run_collected(session, executed)

        began = time.monotonic()
        path.write_text(source)
        sys.dont_write_bytecode = True
        try:
            code = self.fork(act, limit)
        finally:
            path.write_text(former)
            sys.dont_write_bytecode = False
        outcome = {0: "survived", None: "timed out"}.get(code, "killed")
        if code == _NOT_TRIED:
            sys.exit(f"{row} was not tried:\n{(self.path / 'out').read_text()}")
        last = (self.path / "out").read_text().strip().splitlines()
        by = next((text for text in reversed(last) if text.startswith(("FAILED", "ERROR"))), "")
        return {**row, "outcome": outcome, "tests": len(executed), "by": by[:200], "seconds": time.monotonic() - began}
