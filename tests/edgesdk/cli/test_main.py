"""Exit codes, one-line errors, lazy imports, and ends from outside."""

import errno
import os
import signal
import subprocess
import sys

import click
import pytest

from edgesdk.cli.main import COMMANDS, cli
from edgesdk.errors import CapacityError

INSPECT = "edgesdk.cli.inspect"


def commands():
    context = click.Context(cli, info_name="edgesdk")
    return [(name, cli.get_command(context, name)) for name in COMMANDS]


def run_process(*arguments, **options):
    command = [sys.executable, "-m", "edgesdk", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def raise_in_inspect(monkeypatch, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr("edgesdk.bundle.reader.open_bundle", fail)


@pytest.mark.parametrize(("name", "command"), commands(), ids=COMMANDS)
def test_every_command_explains_itself(name, command, edgesdk):
    assert command.short_help
    assert f"edgesdk {name}" in command.epilog
    for option in (p for p in command.params if isinstance(p, click.Option)):
        assert option.help, option.name
        says_default = option.show_default or "Default: " in option.help or option.required or option.is_flag
        assert says_default, option.name
    result = edgesdk(name, "--help")
    assert result.code == 0
    assert "Examples:" in result.out


def test_help_lists_every_command(edgesdk):
    result = edgesdk("--help")
    assert result.code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in result.out
    assert "..." not in result.out.partition("Commands:")[2]  # no summary is cut


def test_a_nearly_right_command_is_answered_by_the_right_one(edgesdk):
    result = edgesdk("srve", "smollm2")
    assert result.code == 2
    assert "No such command 'srve'; did you mean serve?" in result.err
    assert "did you mean" not in edgesdk("frobnicate").err


def test_the_version(edgesdk):
    from edgesdk.version import read_version

    assert edgesdk("--version").out == f"edgesdk, version {read_version()}\n"


def test_help_imports_nothing_heavy():
    code = (
        "import sys, edgesdk.cli.main as m\n"
        "try: m.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'onnxruntime', 'ai_edge_litert', 'tokenizers', 'rich', 'jinja2'}\n"
        "heavy |= {'edgesdk_converters'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["inspect"],
        ["inspect", "a", "b"],
        ["run", "b", "p", "--threads", "0"],
        ["run", "b", "p", "--threads", "257"],
        ["profile", "b", "--threads", "257"],
        ["explain", "b", "--threads", "257"],
        ["run", "b", "p", "--nonsense"],
        ["run", "b", "p", "--device", "tpu"],
        ["bench", "b", "--repeat", "many"],
        ["convert", "c", "b", "--context", "15"],
        ["eval", "b"],
        ["eval", "b", "--text", "/nowhere/at/all"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(arguments, edgesdk):
    result = edgesdk(*arguments)
    assert result.code == 2
    assert "Usage: edgesdk" in result.err
    assert result.out == ""


@pytest.mark.parametrize("command", ["inspect", "verify", "bench"])
def test_a_folder_without_bundle_is_one_line(command, edgesdk, tmp_path):
    result = edgesdk(command, tmp_path)
    assert result.code == 1
    assert (
        result.err
        == f"error: {tmp_path} has no manifest.json; expected a bundle as `edgesdk convert` writes it\n"
    )
    assert result.out == ""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CapacityError("two\nlines \x1b[31mand red"), "error: two lines ?[31mand red"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "error: No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "error: /x/y: Permission denied"),
        (MemoryError(), "error: there is not enough memory; use a smaller model, context or recipe"),
        (
            ZeroDivisionError("oh"),
            "error: internal: ZeroDivisionError: oh; set EDGESDK_DEBUG=1 to see where, and report it",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_are_one_line(error, line, edgesdk, monkeypatch, tmp_path):
    raise_in_inspect(monkeypatch, error)
    result = edgesdk("inspect", tmp_path)
    assert (result.code, result.err, result.out) == (1, f"{line}\n", "")


def test_an_internal_error_keeps_its_traceback_when_asked(monkeypatch, tmp_path):
    from edgesdk.cli.main import main

    monkeypatch.setenv("EDGESDK_DEBUG", "1")
    raise_in_inspect(monkeypatch, ZeroDivisionError("oh"))
    with pytest.raises(ZeroDivisionError):
        main(["inspect", str(tmp_path)])


def test_an_interrupt_is_one_word(edgesdk, monkeypatch, tmp_path):
    raise_in_inspect(monkeypatch, KeyboardInterrupt())
    result = edgesdk("inspect", tmp_path)
    assert (result.code, result.err.strip(), result.out) == (1, "interrupted", "")


def test_python_m_is_the_same_program(tmp_path):
    done = run_process("inspect", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert run_process("inspect").returncode == 2
    assert run_process("--help").stdout.startswith("Usage: edgesdk ")


def test_a_reader_that_goes_away_is_no_error(tiny_bundle):
    process = subprocess.Popen(
        [sys.executable, "-m", "edgesdk", "inspect", tiny_bundle, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 1
    process.stderr.close()


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 1), (signal.SIGTERM, 143)])
def test_a_conversion_that_is_ended_leaves_nothing(number, code, tiny_checkpoint, tmp_path):
    out = tmp_path / "new" / "bundle"
    process = subprocess.Popen(
        [sys.executable, "-m", "edgesdk", "convert", tiny_checkpoint, out, "--recipe", "f32,f16,w8,w4b32"],
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if "writing" in line:
            break
    process.send_signal(number)
    rest = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == code
    assert "Traceback" not in rest
    assert list(tmp_path.glob("new*")) == []
