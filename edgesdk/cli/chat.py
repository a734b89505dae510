"""`edgesdk chat`: a conversation on the terminal, or one turn for each line of standard input."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgesdk.bundle.printable import printable
from edgesdk.bundle.write_file import write_file
from edgesdk.cli.load_options import load_options_with_drafts
from edgesdk.cli.options import (
    Answering,
    adapter_option,
    answer_options,
    model_argument,
    template_option,
    thinking_option,
)
from edgesdk.cli.output import show_changes, show_receipt, show_speed, show_thought
from edgesdk.errors import CapacityError

if TYPE_CHECKING:
    from edgesdk.bundle.records import JsonValue
    from edgesdk.load_options import LoadOptions
    from edgesdk.model import Model
    from edgesdk.text.chat_template import Message

EXAMPLES = """\b
Examples:
  edgesdk chat smollm2
  edgesdk chat smollm2 --system "You answer in French." --temperature 0.7
  printf 'Hello.\\nAnd again.\\n' | edgesdk chat smollm2
"""

_LEAVE = "/exit"
_HELP = """\
/help       shows this
/reset      begins a new conversation
/save FILE  writes the conversation as JSON to a new file
/exit       leaves, as Ctrl-D does
//TEXT      asks /TEXT
Ctrl-C stops an answer."""


@click.command(short_help="Talk with a model.", epilog=EXAMPLES)
@model_argument
@click.option("--system", metavar="TEXT", help="First message, for the model's behaviour. Default: none.")
@load_options_with_drafts
@answer_options
@template_option
@thinking_option
@adapter_option
def command(
    model: str,
    system: str | None,
    loading: LoadOptions,
    answering: Answering,
    template_variables: Mapping[str, JsonValue],
    thinking_tokens: int | None,
    adapter: dict[str, float] | None,
) -> None:
    """Talks with MODEL, which is named as for `edgesdk run`; it remembers the conversation.

    Ctrl-C stops an answer; /exit or the end of the input (Ctrl-D) leaves. /reset begins a new conversation,
    /save FILE writes this one as JSON, /help lists these.
    """
    from edgesdk.bundle.whole_text import expect_causal
    from edgesdk.cli.convert_once import find_or_convert
    from edgesdk.errors import UnsupportedOption
    from edgesdk.load_model import load

    interactive = sys.stdin.isatty()
    if interactive:
        # Line editing for input(); there is none on Windows, whose console has its own.
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401
    with load(find_or_convert(model), loading) as opened:
        expect_causal(opened.decoder)
        if opened.chat_template is None:
            raise UnsupportedOption(f"{opened.bundle.manifest.name} has no chat template; use `edgesdk run`")
        show_receipt(opened.receipt, loading)
        if interactive:
            click.echo("/help lists commands", err=True)
        first: list[Message] = [] if system is None else [{"role": "system", "content": system}]
        messages = list(first)
        while (line := _read_line(interactive)) is not None:
            if line.startswith("/") and not line.startswith("//"):
                _obey(line, messages, first)
            elif line:
                _take_turn(
                    opened,
                    messages,
                    line.removeprefix("/") if line.startswith("//") else line,
                    answering,
                    template_variables,
                    thinking_tokens,
                    adapter,
                    interactive,
                )


def _obey(line: str, messages: list[Message], first: list[Message]) -> None:
    """Does what a line that begins with a slash says; nothing of it reaches the model."""
    word, _, rest = line.partition(" ")
    if word == "/help":
        click.echo(_HELP, err=True)
    elif word == "/reset":
        messages[:] = first
        click.echo("a new conversation", err=True)
    elif word == "/save":
        _save(rest.strip(), messages)
    else:
        click.echo(
            f"there is no command {printable(word[:40])}; /help lists them, //TEXT asks /TEXT", err=True
        )


def _save(file: str, messages: list[Message]) -> None:
    """Writes a conversation to a new file; what goes wrong does not end the chat."""
    if not file:
        click.echo("/save needs a file: /save talk.json", err=True)
        return
    if os.path.lexists(file):
        click.echo(f"error: {printable(file)} is there already; choose another file", err=True)
        return
    try:
        write_file(Path(file), json.dumps(messages, indent=2, ensure_ascii=False) + "\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        click.echo(f"error: {printable(file)} cannot be written: {reason}", err=True)
    else:
        click.echo(f"{len(messages)} messages in {file}", err=True)


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
    thinking_tokens: int | None,
    adapter: dict[str, float] | None,
    interactive: bool,
) -> None:
    """Answers one line and adds both to the conversation."""
    asked: Message = {"role": "user", "content": line}
    receipt = model.receipt
    answer: list[str] = []
    completion, thought = None, False
    try:
        for chunk in model.chat_stream(
            [*messages, asked],
            template_variables=variables,
            thinking_tokens=thinking_tokens,
            adapter=adapter,
            **answering,
        ):
            if chunk.thought:
                show_thought(chunk.thought)
                thought = True
            if chunk.text and thought:
                click.echo("\n", err=True)
                thought = False
            click.echo(chunk.text, nl=False)
            answer.append(chunk.text)
            completion = chunk.completion
    except KeyboardInterrupt:
        if not interactive:
            raise
    except CapacityError as error:
        if not interactive:
            raise
        click.echo(f"error: {error}; /reset begins a new conversation", err=True)
        return
    click.echo()
    messages += [asked, {"role": "assistant", "content": "".join(answer)}]
    show_changes(receipt, model.receipt)
    if completion is not None:
        show_speed(completion)
