"""docs/cli.md says what the commands say."""

import importlib.util
from pathlib import Path

import click
import pytest

from edgesdk.cli.main import COMMANDS, cli

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("make_cli_reference", DOCS / "make_cli_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_reference()


def test_the_file_is_current(reference):
    written = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert written == reference, "run python docs/make_cli_reference.py"


def test_every_command_is_there(reference):
    for name in COMMANDS:
        assert f"\n## {name}\n" in reference


def test_every_command_module_is_a_command():
    """A module of edgesdk/cli that defines a command is listed, or is called after its group too."""
    folder = DOCS.parent / "edgesdk" / "cli"
    starts = ("@click.command(", "@click.group(short_help")
    defined = {
        p.stem.replace("_", "-")
        for p in folder.glob("*.py")
        if any(s in p.read_text("utf-8") for s in starts)
    }
    found = {name: cli.get_command(click.Context(cli), name) for name in COMMANDS}
    groups = {f"{name}-{sub}" for name, group in found.items() for sub in getattr(group, "commands", ())}
    assert defined - groups == set(COMMANDS)


def test_an_argument_that_may_be_left_out_is_in_brackets(reference):
    assert "\nedgesdk devices [BUNDLE] [OPTIONS]\n" in reference
    assert "\nedgesdk inspect BUNDLE [OPTIONS]\n" in reference
