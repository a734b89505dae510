"""Makes one answer of the answers to several parts of a text: the second half of map and reduce.

What says nothing is left out first, and a lone answer is taken as it is. The rest goes to the caller's own
function, or to the model as notes, in groups that fit, until one answer is left.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from edgesdk.errors import CapacityError
from edgesdk.orchestration.ask_forked import ask_one
from edgesdk.orchestration.desk import Desk
from edgesdk.orchestration.prompt_writer import WrittenPrompt
from edgesdk.plans.ask_options import NOT_SAID
from edgesdk.plans.many_answers import ItemAnswer

_INTRODUCTION = "These notes were taken from the parts of one text, in order:"


def merge_answers(desk: Desk, place: int, found: Sequence[ItemAnswer]) -> ItemAnswer:
    """One answer of several.

    Args:
        desk: where the model is asked.
        place: of the question.
        found: the answers to the parts of the text, in order; at least two.

    Raises:
        UnsupportedOption: `merge` gives no text.
        CapacityError: not even two answers fit beside the question.
        DeviceError: the engine is closed.
    """
    broken = [f"part {n}: {item.error}" for n, item in enumerate(found, 1) if item.error is not None]
    note = "; ".join(broken) or None
    saying = [item for item in found if item.error is None]
    if not saying:
        return replace(found[0], error=note, note=None, parts=len(found))
    if desk.asking.merge is None:
        saying = _distinct([item for item in saying if not _says_nothing(item.text)]) or saying[:1]
    if len(saying) == 1:
        return replace(saying[0], note=note, parts=len(found), how="merged")
    query = found[0].query
    if desk.asking.merge is not None:
        return _by_caller(desk, place, query, saying, note, len(found))
    texts = [item.text for item in saying]
    while True:
        groups = _groups(desk, query, texts)
        answers = []
        for group in groups:
            answer = ask_one(desk, place, query, _prompt(desk, query, group))
            if answer.error is not None:
                # What the parts said is still there, and better than nothing.
                both = f"the answers could not be merged: {answer.error}"
                return ItemAnswer(query, "\n".join(texts), None, "merged", error=both, parts=len(found))
            answers.append(answer)
        texts = [answer.text for answer in answers]
        if len(texts) == 1:
            return replace(answers[0], how="merged", note=note, parts=len(found))


def _by_caller(
    desk: Desk, place: int, query: str, saying: Sequence[ItemAnswer], note: str | None, parts: int
) -> ItemAnswer:
    if desk.asking.merge is None:
        raise CapacityError("there is nothing to merge with")
    text = desk.asking.merge(place, [item.text for item in saying])
    value = json.loads(text) if desk.schema(place) is not None else None
    return ItemAnswer(query, text, value, "merged", saying[-1].finish_reason, note=note, parts=parts)


def _groups(desk: Desk, query: str, texts: Sequence[str]) -> list[list[str]]:
    """Neighbours that fit into a prompt together, two at least."""
    limit = desk.engine.model.context - desk.answer_tokens
    groups: list[list[str]] = []
    for text in texts:
        if groups and len(_prompt(desk, query, [*groups[-1], text]).ids) <= limit:
            groups[-1].append(text)
        else:
            groups.append([text])
    if len(groups) == len(texts):
        raise CapacityError(
            f"the answers to {len(texts)} parts of the text do not fit beside the question in a context of "
            f"{desk.engine.model.context}; lower max_tokens, or convert with a larger --context"
        )
    return groups


def _prompt(desk: Desk, query: str, texts: Sequence[str]) -> WrittenPrompt:
    notes = "\n".join(f"- {text}" for text in texts)
    return desk.prompt(f"{_INTRODUCTION}\n{notes}", query)


def _says_nothing(text: str) -> bool:
    """Whether it is what the default instruction asks for where the text does not say."""
    return text.casefold().strip(" .\"'") == NOT_SAID


def _distinct(items: Sequence[ItemAnswer]) -> list[ItemAnswer]:
    """The first of those that say the same."""
    return list({item.text.casefold(): item for item in reversed(items)}.values())[::-1]
