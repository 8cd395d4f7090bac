"""docs/cli.md is what the program says of itself."""

import runpy
from pathlib import Path

from raectl import registry
from raectl.config import FLAGS

ROOT = Path(__file__).parents[2]


def test_the_reference_is_up_to_date() -> None:
    reference = runpy.run_path(str(ROOT / ".ci" / "cli_reference.py"))["reference"]()
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert page == reference, "python .ci/cli_reference.py > docs/cli.md"


def test_every_command_and_option_is_in_it() -> None:
    from raectl.cli.main import _COMMANDS

    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert all(f"## raectl {name}" in page for name in _COMMANDS)
    for option in ("--reg NAME[=WEIGHT][,KEY=VALUE...]", "--components K", "-n N", "--latents FILE.npy", "`-o OUT`"):
        assert option in page


def test_every_key_of_every_component_is_in_it() -> None:
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    for kind, flag in FLAGS.items():
        for name in registry.names(kind):
            for key, option in registry.resolve(kind, name).options.items():
                assert f"| `{flag} {name},{key}` | {option.help} | {option.describe()} | {option.shown} |" in page
