"""`edgesdk run`: one prompt, one answer."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgesdk.cli.options import (
    Answering,
    Loading,
    Ruling,
    answer_options,
    bundle_argument,
    grammar_options,
    json_option,
    load_options,
    template_option,
)
from edgesdk.cli.output import print_json, show_changes, show_receipt, show_speed
from edgesdk.errors import CapacityError

if TYPE_CHECKING:
    from edgesdk.bundle.records import JsonValue

_LONGEST_PROMPT_BYTES = 16 << 20
"""More than any context holds; a device or pipe without end must not fill the memory."""

EXAMPLES = """\b
Examples:
  edgesdk run smollm2 "What is the capital of France?"
  edgesdk run smollm2 --raw "Once upon a time" --temperature 0.8 --seed 1
  edgesdk run smollm2 "Who wrote Hamlet?" --json-schema person.json
  edgesdk run smollm2 "Is the sea blue?" --regex "(yes|no)"
  edgesdk run qwen3.edge "What is 7 times 8?" --template-var enable_thinking=false
  cat letter.txt | edgesdk run smollm2 - --json
"""


@click.command(short_help="Answer one prompt.", epilog=EXAMPLES)
@bundle_argument
@click.argument("prompt")
@load_options
@answer_options
@grammar_options
@click.option(
    "--raw", is_flag=True, help="Continue the prompt as it is, although the model has a chat template."
)
@template_option
@json_option
def command(
    bundle: Path,
    prompt: str,
    loading: Loading,
    answering: Answering,
    ruling: Ruling,
    raw: bool,
    template_variables: Mapping[str, JsonValue],
    as_json: bool,
) -> None:
    """Answers PROMPT with the model in BUNDLE; the prompt - is read from standard input.

    The answer streams to standard output. What ran it, what was refused on the way, and its speed go to
    standard error.
    """
    from edgesdk.load_model import load

    if prompt == "-":
        prompt = _read_prompt()
    with load(bundle, **loading) as model:
        ids = model.render_prompt(prompt, raw=raw, template_variables=template_variables)
        receipt = model.receipt
        show_receipt(receipt)
        if as_json:
            print_json({"completion": model.generate(ids, **answering, **ruling), "receipt": model.receipt})
            return
        completion = None
        for chunk in model.stream(ids, **answering, **ruling):
            click.echo(chunk.text, nl=False)
            completion = chunk.completion
        click.echo()
        show_changes(receipt, model.receipt)
        if completion is not None:
            show_speed(completion)


def _read_prompt() -> str:
    """Standard input as text, without the newline that ends it."""
    data = sys.stdin.buffer.read(_LONGEST_PROMPT_BYTES + 1)
    if len(data) > _LONGEST_PROMPT_BYTES:
        raise CapacityError(
            f"standard input has more than {_LONGEST_PROMPT_BYTES >> 20} MiB; no context holds that"
        )
    return data.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")
