"""All questions in one prompt, which asks for one JSON list: as the paper has it, or held to it by a grammar.

Paper: Query-OPT: Optimizing Inference of Large Language Models via Multi-Query Instructions in Meeting
Summarization. The order of its prompt is kept: instruction, format, questions, text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from edgesdk.bundle.records import JsonValue
from edgesdk.decoding.options import JsonSchema
from edgesdk.errors import EdgeError
from edgesdk.orchestration.desk import Desk, failed, stopped
from edgesdk.orchestration.prompt_writer import WrittenPrompt
from edgesdk.orchestration.read_list import read_list
from edgesdk.plans.many_answers import HowAnswered, ItemAnswer

_CHARS_PER_TOKEN = 4
"""About as many as a token has: a text of the list may be as long as a single answer, so that the first
cannot take the tokens of all."""

LIST_TOKENS = 8
"""Tokens of brackets, quotes and commas for each item, at most."""


def together_prompt(desk: Desk, text: str, queries: Sequence[str]) -> WrittenPrompt:
    """What asks all questions at once."""
    count = len(queries)
    # Placeholders with words in them are what a small model answers.
    example = ", ".join(['"..."'] * min(count, 3)) + (", ..." if count > 3 else "")
    form = (
        f"There are {count} questions about the text. Answer with a JSON list of exactly {count} items, one "
        f"answer for each question, in order, and nothing else: [{example}]"
    )
    numbered = "\n".join(f"{place}. {query}" for place, query in enumerate(queries, 1))
    return desk.writer.write(
        desk.asking.instruction, form, f"Questions:\n{numbered}", f"Text:\n{text}", "JSON list:"
    )


def ask_together(desk: Desk, text: str, asked: Mapping[int, str], *, forced: bool) -> dict[int, ItemAnswer]:
    """Asks all questions in one request; items that are missing say why.

    Args:
        desk: where they are asked.
        text: that they are about.
        asked: the questions by their places, from 0.
        forced: whether a grammar makes the answer a list of as many items.

    Raises:
        UnsupportedOption: an option has no meaning.
        CapacityError: the prompt does not fit.
        DeviceError: the engine is closed.
    """
    how: HowAnswered = "constrained" if forced else "paper"
    queries = list(asked.values())
    prompt = together_prompt(desk, text, queries)
    schema = _list_schema(desk, len(queries)) if forced else None
    most = len(queries) * (desk.answer_tokens + LIST_TOKENS)
    options = desk.options(0, json_schema=schema, max_tokens=most)
    with prompt.submit(desk.engine, options) as generation:
        try:
            completion = desk.wait(generation)
        except EdgeError as error:
            return {place: failed(query, how, str(error)) for place, query in asked.items()}
        desk.ran(generation, completion)
    found = read_list(completion.text, len(queries))
    kept = desk.account.list_kept
    desk.account.list_kept = found.kept if kept is None else kept and found.kept
    reason = completion.finish_reason
    problem = found.problem
    if problem is not None and reason in ("cancelled", "deadline"):
        problem = stopped(reason, completion.new_tokens)
    items = {}
    for place, query in asked.items():
        if place >= len(found.items):
            items[place] = ItemAnswer(query, "", None, how, reason, error=problem)
            continue
        value = found.items[place]
        shown = _shown(value)
        kept_value = None if desk.schema(place) is None else value
        problem_here = None if shown else "the answer is empty"
        items[place] = ItemAnswer(query, shown, kept_value, how, reason, error=problem_here)
    return items


def _list_schema(desk: Desk, count: int) -> JsonSchema:
    """A schema of a list of exactly so many items."""
    text = {"type": "string", "minLength": 1, "maxLength": desk.answer_tokens * _CHARS_PER_TOKEN}
    items = [desk.schema(place) for place in range(count)]
    return {
        "type": "array",
        "prefixItems": [
            text if schema is None else _moved(schema, f"#/prefixItems/{place}")
            for place, schema in enumerate(items)
        ],
        "items": False,
        "minItems": count,
        "maxItems": count,
    }


def _moved(schema: object, root: str) -> object:
    """A schema whose references to its own parts hold where it stands now."""
    if isinstance(schema, Mapping):
        return {
            key: root + value[1:]
            if key == "$ref" and isinstance(value, str) and value[:2] in ("#", "#/")
            else _moved(value, root)
            for key, value in schema.items()
        }
    return [_moved(each, root) for each in schema] if isinstance(schema, list | tuple) else schema


def _shown(value: JsonValue) -> str:
    """An item as text."""
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
