"""The command `edgesdk`: finds a command, runs it, and turns whatever goes wrong into one line.

Commands are imported when they are needed, and import what they need when they run, so that help is
immediate. Exit codes: 0 done, 1 an error of the domain or an interruption (as click has it), 2 wrong
usage.
"""

from __future__ import annotations

import difflib
import io
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import FrameType
from typing import NoReturn

import click

from edgesdk.bundle.printable import printable
from edgesdk.errors import EdgeError
from edgesdk.version import read_version

COMMANDS = (
    "demo",
    "pull",
    "add",
    "list",
    "show",
    "rm",
    "alias",
    "convert",
    "adapter",
    "compile",
    "run",
    "chat",
    "serve",
    "ask-many",
    "skeleton",
    "embed",
    "classify",
    "index",
    "ask",
    "inspect",
    "verify",
    "eval",
    "bench",
    "profile",
    "vocab",
    "layers",
    "train",
    "sweep",
    "devices",
    "explain",
)
"""In the order of the help; `NAME` is the object `command` of `edgesdk.cli.NAME`, `_` for `-`."""

DEBUG_VARIABLE = "EDGESDK_DEBUG"

_INTERRUPTED = 1  # as click has it
_TERMINATED = 143


class LazyGroup(click.Group):
    """Imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"edgesdk.cli.{cmd_name.replace('-', '_')}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click has it, with a nearly right name answered by the right one."""
        near = difflib.get_close_matches(args[0][:100], COMMANDS, 1) if args else []
        if near and args[0] not in COMMANDS:
            ctx.fail(f"No such command {args[0][:100]!r}; did you mean {near[0]}?")
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(read_version(), prog_name="edgesdk")
def cli() -> None:
    """Converts language models to LiteRT, ONNX and Core ML, proves them, and runs them.

    Results go to standard output, progress and receipts to standard error.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits.

    Args:
        arguments: without the program's name; None for the process's own.
    """
    sys.exit(_run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: Sequence[str]) -> int:
    # An end from outside unwinds like any other, so that nothing half-written stays behind.
    signal.signal(signal.SIGTERM, _terminate)
    # A terminal that cannot show a character shows a mark in its place; it is no reason to fail.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        code = cli.main(list(arguments), prog_name="edgesdk", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return _INTERRUPTED
    except EdgeError as error:
        return _fail(str(error))
    except BrokenPipeError:
        # The reader has gone. Python flushes once more when it ends, and must not fail there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError:
        return _fail("there is not enough memory; use a smaller model, context or recipe")
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        return _fail(f"{where}{error.strerror or error}")
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        what = f"{type(error).__name__}: {error}"[:300]
        return _fail(f"internal: {what}; set {DEBUG_VARIABLE}=1 to see where, and report it")
    return code if isinstance(code, int) else 0


def _fail(line: str) -> int:
    click.echo(f"error: {printable(line)}", err=True)
    return 1


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    sys.exit(_TERMINATED)
