"""Other processes, from an interpreter and from a program that says it is packaged."""

import subprocess
import sys

import pytest

import edgesdk
from edgesdk.devices import python_process
from edgesdk.devices.run_isolated import run_isolated
from edgesdk.errors import DeviceError

PROGRAM = """
import sys
sys.frozen = True
sys.argv = [sys.argv[0], *{arguments!r}]
import edgesdk
edgesdk.freeze_support()
print("the program itself")
"""


def packaged(*arguments):
    """What a packaged program does when it is started with these arguments."""
    code = PROGRAM.format(arguments=list(arguments))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_from_an_interpreter_it_is_the_interpreter():
    assert edgesdk.command_line("list") == [sys.executable, "-P", "-m", "edgesdk", "list"]
    edgesdk.freeze_support()
    assert run_isolated(("-c", "print(5)"), 30).text.strip() == "5"


def test_a_packaged_program_without_support_starts_nothing(monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(python_process, "_supported", False)
    monkeypatch.setattr(sys, "executable", "/nowhere/program")
    with pytest.raises(DeviceError, match=r"call edgesdk\.freeze_support\(\) first"):
        edgesdk.command_line("list")
    ended = run_isolated(("-c", "print(5)"), 30)
    assert ended.text == ""
    assert "freeze_support" in ended.reason


def test_a_packaged_program_with_support_is_started_with_a_mark(monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(python_process, "_supported", False)
    monkeypatch.setattr(sys, "argv", ["program", "a file"])
    edgesdk.freeze_support()
    assert edgesdk.command_line("list") == [sys.executable, "--edgesdk-python", "-m", "edgesdk", "list"]


def test_what_it_was_started_for_is_run_in_its_place():
    assert packaged().stdout == "the program itself\n"
    assert packaged("a file").stdout == "the program itself\n"
    _, *arguments = ["", "--edgesdk-python", "-m", "edgesdk", "--version"]
    assert packaged(*arguments).stdout.startswith("edgesdk, version")
    code = "import sys; print(sys.argv[1:]); sys.exit(3)"
    done = packaged("--edgesdk-python", "-c", code, "x")
    assert (done.stdout, done.returncode) == ("['x']\n", 3)


@pytest.mark.parametrize("arguments", [(), ("-m", "http.server"), ("-m",), ("x",)])
def test_only_parts_of_edgesdk_are_run_by_name(arguments):
    done = packaged("--edgesdk-python", *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "expects -m and a module of edgesdk" in done.stderr
