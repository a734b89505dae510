"""`edgesdk chat`: a conversation on the terminal, or one turn for each line of standard input."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgesdk.cli.options import (
    Answering,
    Loading,
    answer_options,
    bundle_argument,
    load_options,
    template_option,
)
from edgesdk.cli.output import show_changes, show_receipt, show_speed
from edgesdk.errors import CapacityError

if TYPE_CHECKING:
    from edgesdk.bundle.records import JsonValue
    from edgesdk.model import Model
    from edgesdk.text.chat_template import Message

EXAMPLES = """\b
Examples:
  edgesdk chat smollm2
  edgesdk chat smollm2 --system "You answer in French." --temperature 0.7
  printf 'Hello.\\nAnd again.\\n' | edgesdk chat smollm2
"""

_LEAVE = "/exit"


@click.command(short_help="Talk with a model.", epilog=EXAMPLES)
@bundle_argument
@click.option("--system", metavar="TEXT", help="First message, for the model's behaviour. Default: none.")
@load_options
@answer_options
@template_option
def command(
    bundle: Path,
    system: str | None,
    loading: Loading,
    answering: Answering,
    template_variables: Mapping[str, JsonValue],
) -> None:
    """Talks with the model in BUNDLE; it remembers the conversation.

    Ctrl-C stops an answer; /exit or the end of the input (Ctrl-D) leaves.
    """
    from edgesdk.errors import UnsupportedOption
    from edgesdk.load_model import load

    interactive = sys.stdin.isatty()
    if interactive:
        # Line editing for input(); there is none on Windows, whose console has its own.
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401
    with load(bundle, **loading) as model:
        if model.chat_template is None:
            raise UnsupportedOption(f"{model.bundle.manifest.name} has no chat template; use `edgesdk run`")
        show_receipt(model.receipt)
        messages: list[Message] = [] if system is None else [{"role": "system", "content": system}]
        while (line := _read_line(interactive)) is not None:
            if line:
                _take_turn(model, messages, line, answering, template_variables, interactive)


def _read_line(interactive: bool) -> str | None:
    """The next line without surrounding space; None to leave."""
    try:
        line = input("> " if interactive else "").strip()
    except EOFError:
        if interactive:
            click.echo()
        return None
    except KeyboardInterrupt:
        if not interactive:
            raise
        click.echo(f"\n{_LEAVE} or Ctrl-D leaves", err=True)
        return ""
    return None if line == _LEAVE else line


def _take_turn(
    model: Model,
    messages: list[Message],
    line: str,
    answering: Answering,
    variables: Mapping[str, JsonValue],
    interactive: bool,
) -> None:
    """Answers one line and adds both to the conversation."""
    asked: Message = {"role": "user", "content": line}
    receipt = model.receipt
    answer: list[str] = []
    completion = None
    try:
        for chunk in model.chat_stream([*messages, asked], template_variables=variables, **answering):
            click.echo(chunk.text, nl=False)
            answer.append(chunk.text)
            completion = chunk.completion
    except KeyboardInterrupt:
        if not interactive:
            raise
    except CapacityError as error:
        if not interactive:
            raise
        click.echo(f"error: {error}; start `edgesdk chat` again for a new conversation", err=True)
        return
    click.echo()
    messages += [asked, {"role": "assistant", "content": "".join(answer)}]
    show_changes(receipt, model.receipt)
    if completion is not None:
        show_speed(completion)
