"""Many questions about one text: as many answers, in order, each saying how it came about.

It plans and reads; the engine runs. An answer that is missing, empty or broken is asked for again, alone. A
text that is longer than the context is split, asked part by part, and the answers merged.

Paper: Query-OPT (many queries, one prompt); `fork` is ours, and equal to separate calls.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Unpack

from edgesdk.decoding.grammar import check_grammar
from edgesdk.decoding.option_types import whole_text
from edgesdk.decoding.options import GenerationOptions
from edgesdk.errors import CapacityError, UnsupportedOption
from edgesdk.orchestration.ask_forked import ask_forked, ask_single
from edgesdk.orchestration.ask_together import LIST_TOKENS, ask_together, together_prompt
from edgesdk.orchestration.desk import Desk
from edgesdk.orchestration.hosted_engine import engine_on
from edgesdk.orchestration.merge_answers import merge_answers
from edgesdk.orchestration.prompt_writer import PromptWriter
from edgesdk.orchestration.split_text import split_text
from edgesdk.plans.allowance import Allowance
from edgesdk.plans.ask_options import AskKeywords, AskOptions, check_queries, split_ask_keywords
from edgesdk.plans.many_answers import ItemAnswer, ManyAnswers
from edgesdk.plans.model_or_engine import ModelOrEngine
from edgesdk.text.prompt_limit import check_text_fits

_SOMETHING = r"[^\s](.|\n)*"
"""An answer that is not empty."""

_SLACK_TOKENS = 8
"""What the tokens of a text may gain where it is joined to others."""


def ask_many(
    on: ModelOrEngine, context: str, queries: Sequence[str], **options: Unpack[AskKeywords]
) -> ManyAnswers:
    """Answers many questions about one text; `Model.ask_many` and `Engine.ask_many` say more.

    Args:
        on: a loaded model or an engine.
        context: the text.
        queries: questions about it.
        **options: fields of `AskOptions` and `GenerationOptions`.

    Raises:
        UnsupportedOption: an option has no meaning, or the backend keeps its cache to itself.
        CapacityError: not even a small part of the text fits beside a question.
        DeviceError: the model or the engine is closed.
    """
    began = time.perf_counter()
    asking, answering = split_ask_keywords(options)
    text, asked = whole_text("context", context), check_queries(queries, asking)
    _check_together(asking, answering)
    allowance = Allowance(asking.deadline_s, asking.cancelled)
    with engine_on(on) as engine:
        writer = PromptWriter(engine.model, asking.template_variables)
        desk = Desk(engine, writer, asking, answering, allowance)
        parts = _parts(desk, text, asked)
        found = [_ask_part(desk, part, asked) for part in parts]
        items = found[0]
        if len(parts) > 1:
            columns = list(zip(*found, strict=True))
            items = [merge_answers(desk, place, column) for place, column in enumerate(columns)]
    account = desk.account
    return ManyAnswers(
        asking.mode,
        tuple(items),
        len(parts),
        account.list_kept,
        account.prompt_tokens,
        account.apart,
        account.new_tokens,
        time.perf_counter() - began,
    )


def _check_together(asking: AskOptions, answering: GenerationOptions) -> None:
    """Refuses rules that one list for all answers cannot keep, and those that nothing can keep."""
    schemas = [schema for schema in asking.json_schemas or () if schema is not None]
    for schema in schemas:
        check_grammar(GenerationOptions(json_schema=schema))
    check_grammar(answering)
    if asking.mode in ("fork", "single"):
        if schemas and (answering.regex is not None or answering.lark is not None):
            raise UnsupportedOption("an answer follows one of json_schemas, regex and lark; give one of them")
        return
    for name in ("regex", "lark", "stop"):
        if getattr(answering, name):
            raise UnsupportedOption(
                f"{name} goes for single answers, and mode {asking.mode} has one list for all; use mode fork"
            )
    if asking.mode == "paper" and (schemas or answering.json_schema is not None):
        raise UnsupportedOption("a plain prompt cannot keep to a schema; use mode constrained or fork")


def _ask_part(desk: Desk, text: str, queries: Sequence[str]) -> list[ItemAnswer]:
    """Answers about a text that fits, those that failed asked for again."""
    asked = dict(enumerate(queries))
    lengths = [len(desk.prompt(text, query).ids) for query in queries]
    desk.account.apart += sum(lengths)
    if desk.asking.mode == "fork":
        items = ask_forked(desk, text, asked)
    elif desk.asking.mode == "single":
        items = ask_single(desk, text, asked)
    else:
        items = ask_together(desk, text, asked, forced=desk.asking.mode == "constrained")
    broken = {place: asked[place] for place, item in items.items() if item.error is not None}
    if broken and not (desk.allowance.is_over() or desk.allowance.is_cancelled()):
        items |= _ask_again(desk, text, broken, items, max(lengths))
    return [items[place] for place in asked]


def _ask_again(
    desk: Desk, text: str, queries: Mapping[int, str], before: Mapping[int, ItemAnswer], longest: int
) -> dict[int, ItemAnswer]:
    """Has each question that failed answered in a request of its own, with as many tokens as it may take."""
    most = desk.asking.retry_tokens or 2 * desk.answer_tokens
    changed: dict[str, object] = {"max_tokens": min(most, desk.engine.model.context - longest + 1)}
    found: dict[int, ItemAnswer] = {}
    for ruled in (True, False):
        group = {p: q for p, q in queries.items() if _is_ruled(desk, p) == ruled}
        if not group:
            continue
        if not ruled and importlib.util.find_spec("llguidance") is not None:
            # Greedily, the same prompt alone would be as empty as before.
            changed = changed | {"regex": _SOMETHING}
        found |= ask_forked(desk, text, group, "alone", **changed)
    for place, again in found.items():
        first = before[place]
        found[place] = replace(again, note=first.error, text=again.text or first.text)
    return found


def _is_ruled(desk: Desk, place: int) -> bool:
    """Whether an answer has a grammar."""
    return desk.schema(place) is not None or bool(desk.answering.regex or desk.answering.lark)


def _parts(desk: Desk, text: str, queries: Sequence[str]) -> list[str]:
    """The text, or as many parts as it takes for each to fit beside the questions.

    Raises:
        CapacityError: not even a small one does.
    """
    model = desk.engine.model
    tokenizer, limit = model.tokenizer, model.context
    together = desk.asking.mode in ("paper", "constrained")

    def needed(part: str) -> int:
        """Most tokens of a request about a part: its own, and those of an answer."""
        alone = max(len(desk.prompt(part, query).ids) for query in queries) + desk.answer_tokens
        if not together:
            return alone
        every = len(queries) * (desk.answer_tokens + LIST_TOKENS)
        return max(alone, len(together_prompt(desk, part, queries).ids) + every)

    try:
        check_text_fits(text, tokenizer, limit)
        if needed(text) <= limit:
            return [text]
    except CapacityError:
        pass  # far too long to be tokenised with a question
    most = limit - needed("") - _SLACK_TOKENS
    while True:
        parts = [part.text for part in split_text(text, tokenizer, most, desk.asking.overlap_tokens)]
        over = max(map(needed, parts)) - limit
        if over <= 0:
            return parts
        most -= max(over, _SLACK_TOKENS)
