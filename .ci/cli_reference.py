"""Write the reference of the command line, docs/cli.md, from the program itself.

python .ci/cli_reference.py > docs/cli.md
"""

import inspect
from collections.abc import Iterator
from typing import Any

import typer

from raectl import registry
from raectl.cli.main import program
from raectl.cli.output import plain
from raectl.config import FLAGS, Config, Option, options_of

_HEAD = """\
# Command line

Generated from the program by `python .ci/cli_reference.py > docs/cli.md`; `raectl COMMAND --help` says the same.
Every command takes `--json` (one JSON object on stdout and nothing else) and `--debug` (the traceback of an error).
Exit codes: 0 done, 1 failed, 2 wrong usage, 130 and 143 interrupted after saving.
"""
_COMPONENTS = """\
## Keys of regularizers, reconstruction terms and densities

`--reg NAME=WEIGHT,KEY=VALUE,...` gives a component its options, and so do `reg = "NAME=WEIGHT,KEY=VALUE"` and a table
`[reg.NAME]` in a TOML file; `NAME,help` prints what stands here.

| | | values | default |
|---|---|---|---|"""
_FILE = """\

## Options of TOML files only

`train --config FILE.toml` takes every option of `train` by its name, and these.

| | | values | default |
|---|---|---|---|"""
_COMMON = ("as_json", "debug", "show_help")


def reference() -> str:
    """The whole page."""
    commands = typer.main.get_command(program()).commands  # type: ignore[attr-defined]
    pages = (line for name in commands for line in _command(name, commands[name]))
    return "\n".join([_HEAD, *pages, _COMPONENTS, *_keys(), _FILE, *_of_files(), ""])


def _keys() -> Iterator[str]:
    """A line for each key of each registered component."""
    for kind, flag in FLAGS.items():
        for name in registry.names(kind):
            options = registry.resolve(kind, name).options
            yield from (_line(f"{flag} {name},{key}", option) for key, option in options.items())


def _of_files() -> Iterator[str]:
    yield from (_line(name, option) for name, option in options_of(Config).items() if option.panel is None)


def _line(typed: str, option: Option[Any]) -> str:
    return f"| `{typed}` | {_escaped(option.help)} | {option.describe()} | {_escaped(option.shown)} |"


def _command(name: str, command: Any) -> Iterator[str]:
    text = inspect.cleandoc(command.help or "").replace("[bold]", "`").replace("[/]", "`")
    arguments = [
        _metavar(p) if p.required else f"[{_metavar(p).strip('[]')}]"
        for p in command.params
        if p.param_type_name == "argument"
    ]
    yield f"## raectl {' '.join([name, *arguments])}\n\n{text}\n"
    yield "| | | default |\n|---|---|---|"
    for parameter in command.params:
        if parameter.name not in _COMMON and parameter.opts != ["--help", "-h"]:
            told = f"{parameter.help or ''}{_limits(parameter)}"
            yield f"| {_typed(parameter)} | {_escaped(told)} | {_escaped(_default(parameter))} |"
    yield ""


def _limits(parameter: Any) -> str:
    """The range of an option that `Config` declares under this name and help; its seed's says nothing."""
    option = options_of(Config).get(parameter.name)
    limits = option.limits() if option and option.help == parameter.help and option.high != 2**63 - 1 else ""
    return f" {limits[:1].upper()}{limits[1:]}." if limits else ""


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.bare_type().strip("<>").upper())


def _typed(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_metavar(parameter)}`"
    value = "" if parameter.is_flag else f" {_metavar(parameter)}"
    flags = ", ".join(f"`{flag}{value}`" for flag in parameter.opts)
    return flags.replace("|", "\\|") + (", repeatable" if parameter.multiple else "")


def _default(parameter: Any) -> str:
    shown = getattr(parameter, "show_default", None)
    if isinstance(shown, str):
        return shown
    if shown is False or parameter.default is None or getattr(parameter, "is_flag", False):
        return "required" if parameter.required else ""
    return str(parameter.default)


def _escaped(text: str) -> str:
    return plain(" ".join(text.split())).replace("|", "\\|")


if __name__ == "__main__":
    print(reference(), end="")
