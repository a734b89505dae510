"""`edgesdk run`: one prompt, one answer."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import click

from edgesdk.cli.load_options import load_options_with_drafts
from edgesdk.cli.options import (
    Answering,
    Ruling,
    adapter_option,
    answer_options,
    early_exit_option,
    grammar_options,
    json_option,
    model_argument,
    template_option,
    thinking_option,
)
from edgesdk.cli.output import print_json, show_changes, show_receipt, show_speed, show_thought
from edgesdk.errors import CapacityError

if TYPE_CHECKING:
    from edgesdk.bundle.records import JsonValue
    from edgesdk.decoding.options import GenerationKeywords
    from edgesdk.decoding.stream import Stream
    from edgesdk.load_options import LoadOptions
    from edgesdk.model import Model

_LONGEST_PROMPT_BYTES = 16 << 20
"""More than any context holds; a device or pipe without end must not fill the memory."""

_PATIENCE_S = 2.0
"""A pipe that nobody closes would wait for ever without a word."""

EXAMPLES = """\b
Examples:
  edgesdk run smollm2 "What is the capital of South Korea?"
  edgesdk run model.gguf "What is the plural of child?"
  edgesdk run smollm2 --raw "Once upon a time" --temperature 0.8 --seed 1
  edgesdk run smollm2 "Who wrote Hamlet?" --json-schema person.json
  edgesdk run smollm2 "Is the sea blue?" --regex "(yes|no)"
  edgesdk run styles "Write a letter to my bank." --adapter formal
  edgesdk run qwen3.edge "What is 7 times 8?" --template-var enable_thinking=false
  cat letter.txt | edgesdk run smollm2 "Sum this up in one sentence."
  cat module.py | edgesdk run smollm2 "Add a docstring to each function." --draft lookup
"""


@click.command(short_help="Answer one prompt.", epilog=EXAMPLES)
@model_argument
@click.argument("prompt", required=False)
@load_options_with_drafts
@answer_options
@grammar_options
@click.option(
    "--raw", is_flag=True, help="Continue the prompt as it is, although the model has a chat template."
)
@template_option
@thinking_option
@adapter_option
@early_exit_option
@json_option
def command(
    model: str,
    prompt: str | None,
    loading: LoadOptions,
    answering: Answering,
    ruling: Ruling,
    raw: bool,
    template_variables: Mapping[str, JsonValue],
    thinking_tokens: int | None,
    adapter: dict[str, float] | None,
    early_exit: str | None,
    as_json: bool,
) -> None:
    """Answers PROMPT with MODEL.

    MODEL is a bundle's folder, its name, or a checkpoint: a .gguf file, a Hugging Face folder, or a hub id,
    owner/name or owner/name@revision. A checkpoint is converted once, which takes minutes, and kept under a
    name made from it and the recipe; one whose weights have changed is converted anew. The hub is not asked
    again about what was converted from it.

    What is piped in is the prompt, or comes before PROMPT, with an empty line between. PROMPT - is what is
    piped in, too.

    The answer streams to standard output. What ran it, what was refused on the way, and its speed go to
    standard error.
    """
    from edgesdk.cli.convert_once import find_or_convert
    from edgesdk.load_model import load

    text = _whole_prompt(prompt)
    with load(find_or_convert(model), loading) as opened:
        asked = {**answering, **ruling, "thinking_tokens": thinking_tokens, "adapter": adapter}
        stream = _asking(opened, text, raw, template_variables, cast("GenerationKeywords", asked), early_exit)
        receipt = opened.receipt
        show_receipt(receipt, loading)
        if as_json:
            print_json({"completion": stream.result(), "receipt": opened.receipt})
            return
        completion, thought = None, False
        for chunk in stream:
            if chunk.thought:
                show_thought(chunk.thought)
                thought = True
            if chunk.text and thought:
                click.echo("\n", err=True)
                thought = False
            click.echo(chunk.text, nl=False)
            completion = chunk.completion
        click.echo()
        show_changes(receipt, opened.receipt)
        if completion is not None:
            show_speed(completion)


def _asking(
    model: Model,
    text: str,
    raw: bool,
    variables: Mapping[str, JsonValue],
    options: GenerationKeywords,
    early_exit: str | None,
) -> Stream:
    """The answer to a prompt, by the chat template where there is one and it is wished for."""
    if raw or model.chat_template is None:
        ids = model.render_prompt(text, raw=raw, template_variables=variables or None)
        return model.stream(ids, early_exit=early_exit, **options)
    messages = [{"role": "user", "content": text}]
    return model.chat_stream(messages, template_variables=variables or None, early_exit=early_exit, **options)


def _whole_prompt(prompt: str | None) -> str:
    """What is piped in, then the prompt of the command line."""
    if sys.stdin is None or sys.stdin.isatty():
        if prompt is None:
            raise click.UsageError("Missing argument 'PROMPT', and nothing is piped in.")
        return _read_prompt() if prompt == "-" else prompt
    piped = _read_prompt()
    if prompt in (None, "-"):
        if prompt is None and not piped:
            raise click.UsageError("Missing argument 'PROMPT', and what is piped in is empty.")
        return piped
    return f"{piped}\n\n{prompt}" if piped.strip() else str(prompt)


def _read_prompt() -> str:
    """Standard input as text, without the newline that ends it."""
    waiting = threading.Timer(
        _PATIENCE_S, click.echo, ["waiting for the end of standard input"], {"err": True}
    )
    waiting.daemon = True
    waiting.start()
    try:
        data = sys.stdin.buffer.read(_LONGEST_PROMPT_BYTES + 1)
    finally:
        waiting.cancel()
    if len(data) > _LONGEST_PROMPT_BYTES:
        raise CapacityError(
            f"standard input has more than {_LONGEST_PROMPT_BYTES >> 20} MiB; no context holds that"
        )
    return data.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")
