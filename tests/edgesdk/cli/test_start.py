"""An end in the first moments, before the command line is there to catch it."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

INTERRUPT = """
import runpy, signal, sys

module = sys.argv[1]

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
sys.argv = ["edgesdk", "--version"]
runpy.run_module("edgesdk", run_name="__main__")
"""


@pytest.mark.parametrize("module", ["edgesdk.cli.main", "click", "edgesdk.errors", "edgesdk.version"])
def test_an_interrupt_during_imports_is_one_word(module):
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPT, module], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "interrupted\n")


def test_the_installed_command_begins_here():
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["scripts"] == {"edgesdk": "edgesdk.cli.start:main"}
