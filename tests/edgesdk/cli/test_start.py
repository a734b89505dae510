"""An end in the first moments, before the command line is there to catch it."""

import os
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


WAITING = """
import os, runpy, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in ("numpy", "edgesdk.cli.main"):
            print(name, os.environ.get("OPENBLAS_THREAD_TIMEOUT"))

sys.meta_path.insert(0, Watch())
sys.argv = ["edgesdk", "--version"]
runpy.run_module("edgesdk", run_name="__main__")
"""


@pytest.mark.parametrize("given", [None, "9"])
def test_threads_of_products_sleep_unless_the_user_says_otherwise(given):
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_THREAD_TIMEOUT"}
    environment |= {} if given is None else {"OPENBLAS_THREAD_TIMEOUT": given}
    done = subprocess.run([sys.executable, "-c", WAITING], capture_output=True, text=True, env=environment)
    assert done.stdout.startswith(f"edgesdk.cli.main {given or 4}\n"), done.stderr  # before NumPy


END = """
import atexit, runpy, signal, sys

atexit.register(lambda: print("taken down", file=sys.stderr))
import edgesdk.cli.main as commands

def struck(*_, **__):
    if sys.argv[1] == "busy":
        import jax
        import jax.numpy as jnp
        # Dispatched and never waited for, as by a call that is interrupted.
        jax.jit(lambda x: jax.lax.fori_loop(0, 10_000, lambda _, y: jnp.sin(y @ y), x))(jnp.ones((500, 500)))
    print("said", end="")
    signal.raise_signal(getattr(signal, sys.argv[2]))

if sys.argv[3:] == ["again"]:  # while the first end unwinds, past where the command line catches it
    commands.main = struck
else:
    commands.cli.main = struck
runpy.run_module("edgesdk", run_name="__main__")
"""


@pytest.mark.parametrize(("number", "code", "word"), [("SIGINT", 1, "interrupted\n"), ("SIGTERM", 143, "")])
def test_an_end_while_jax_computes_takes_nothing_down(number, code, word):
    pytest.importorskip("jax", reason="needs the extra 'train'")
    for state, after in (("busy", ""), ("idle", "taken down\n")):
        done = subprocess.run(
            [sys.executable, "-c", END, state, number], capture_output=True, text=True, timeout=120
        )
        assert (done.returncode, done.stdout, done.stderr) == (code, "said", word + after)


def test_a_second_interrupt_takes_nothing_down_either():
    pytest.importorskip("jax", reason="needs the extra 'train'")
    done = subprocess.run(
        [sys.executable, "-c", END, "busy", "SIGINT", "again"], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "said", "interrupted\n")
