"""The program: its commands, and the one boundary where errors become lines and exit codes."""

import ctypes
import functools
import importlib
import json
import os
import signal
import sys
from collections.abc import Iterable
from types import FrameType
from typing import Annotated, NoReturn

import typer

from raectl._version import __version__
from raectl.cli import output
from raectl.cores import usable_cores
from raectl.errors import Interrupted, RaectlError


class _Terminated(BaseException):
    """SIGTERM. Not a `RaectlError`, which some callers catch to go on without what failed."""


_INTERRUPTED = 130
_PACKAGES = {  # module: what pip calls it
    **{name: name for name in ("torch", "numpy", "scipy", "safetensors", "threadpoolctl", "zuko")},
    **{"sklearn": "scikit-learn", "PIL": "pillow"},
}
_WHOLE = "nothing is left half-written"
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # of malloc.h
_MIB = 2**20

# In the order of the help. `a-b` is the function `a_b` of the file `commands/a_b.py`.
_COMMANDS = (
    *("demo", "train", "fit-density", "sharpen", "sample", "reconstruct", "interpolate", "evaluate", "compare"),
    *("score", "nearest", "optimize", "info", "presets", "check"),
)


def _version(value: bool) -> None:
    if value:
        print(f"raectl {__version__}")
        raise typer.Exit


def _help(context: typer.Context, value: bool) -> None:
    if value:
        context.get_help()  # which prints it
        raise typer.Exit


def program(commands: Iterable[str] = _COMMANDS) -> typer.Typer:
    """The program, of all commands or of some."""
    app = typer.Typer(
        name="raectl",
        no_args_is_help=True,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
    )
    # The help option is our own: Typer's costs every command the import of pydantic, half of what `--help` takes.
    app.callback(add_help_option=False)(_program)
    for name in commands:
        function = name.replace("-", "_")
        app.command(name)(getattr(importlib.import_module(f"raectl.cli.commands.{function}"), function))
    return app


def _program(
    show_help: Annotated[
        bool, typer.Option("--help", "-h", help="Show this message and exit.", callback=_help, is_eager=True)
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Train a Regularized Autoencoder on your images, fit a density to its latents, and sample from it.

    Start with [bold]raectl demo[/], then [bold]raectl train ./imgs --reg tikhonov[/].
    """


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, 130 and 143 interrupted."""
    # On a shared machine OpenMP's busy waiting was seen to stretch a step of 12 ms to 170 ms; without any, the threads
    # of small nets sleep and wake at every layer. So wait some 50 microseconds, then sleep. Both are read when torch is
    # loaded, so they are set before any command runs.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if (cores := usable_cores()) < (os.cpu_count() or 1):
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))
    keep_freed_memory()
    signal.signal(signal.SIGTERM, _terminated)
    sys.exit(_run())


@functools.cache
def keep_freed_memory() -> bool:
    """Make glibc's malloc keep freed memory instead of returning it to the system; False if there is no glibc.

    Otherwise page faults take a sixth of a training step (see benchmarks/README.md). Peak memory does not change. It
    is for the whole process, which is the program's own; the library leaves it to the program that imports it.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  # AttributeError unless glibc
        wanted = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 64 * _MIB}
        return bool(min(libc.mallopt(option, value) for option, value in wanted.items()))
    except (AttributeError, OSError, TypeError):
        return False


def _terminated(signum: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated(signum)


def _run() -> int:
    try:
        # A command is registered in a few milliseconds, so only the one that is asked for.
        commands = [name for name in _COMMANDS if name in sys.argv[1:2]]
        result = program(commands or _COMMANDS)(standalone_mode=False)
        if result == _INTERRUPTED:  # what Typer makes of Ctrl-C, without a word
            raise KeyboardInterrupt
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except RaectlError as error:
        kind = "" if isinstance(error, Interrupted) else "error: "
        return _fail(error, error.message, error.hint, error.exit_code, kind)
    except typer.TyperException as error:  # wrong usage, found by Typer
        if not error.format_message():  # `raectl` alone: the help has been printed
            return error.exit_code
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "raectl"
        message = error.format_message()
        return _fail(error, message[:1].lower() + message[1:].rstrip("."), f"{command} --help", error.exit_code)
    except (KeyboardInterrupt, typer.Abort) as error:
        if isinstance(error.__cause__, EOFError):  # which Typer takes for the end of what is typed: nothing is
            return _defect(error.__cause__)
        return _fail(error, f"interrupted; {_WHOLE}", None, _INTERRUPTED, "")
    except _Terminated as error:
        return _fail(error, f"terminated; {_WHOLE}", None, 128 + error.args[0], "")
    except BrokenPipeError:  # the reader of our output has gone: `raectl info ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError as error:
        return _fail(error, "out of memory", "a smaller --batch-size, --width or --image-size", 1)
    except Exception as error:
        return _defect(error)


def _defect(error: BaseException) -> int:
    if isinstance(error, ModuleNotFoundError) and error.name in _PACKAGES:
        return _fail(
            error, f"this needs {error.name}, which is not installed", f"pip install {_PACKAGES[error.name]}", 1
        )
    hint = "this is a defect of raectl: run it again with --debug, and report what it shows"
    return _fail(error, f"{type(error).__name__}: {error}", hint, 1)


def _fail(error: BaseException, message: str, hint: str | None, code: int, kind: str = "error: ") -> int:
    if output.show_tracebacks:
        import traceback

        traceback.print_exception(error)
    output.complain(message, hint, kind)
    if "--json" in sys.argv:
        print(json.dumps({"error": message, "hint": hint}))
    return code
