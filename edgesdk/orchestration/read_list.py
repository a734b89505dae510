"""Reads the JSON list that a model was asked for, out of whatever it wrote around it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from edgesdk.bundle.records import JsonValue

_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class ReadList:
    """What was found.

    Attributes:
        items: values in order; those of a list that was cut are the complete ones before the cut.
        kept: whether the text is nothing but a list of the right length.
        problem: why not every item is there; None where all are.
    """

    items: tuple[JsonValue, ...]
    kept: bool
    problem: str | None


def read_list(text: str, expected: int) -> ReadList:
    """Finds a list of so many items.

    A whole list of another length is not used: nobody can say which item answers which question.

    Args:
        text: what the model wrote.
        expected: how many items.
    """
    begin = text.find("[")
    if begin < 0:
        return ReadList((), False, "the model wrote no JSON list")
    try:
        found, end = _DECODER.raw_decode(text, begin)
    except (ValueError, RecursionError):
        items = _cut_list(text, begin + 1)
        if not items or len(items) > expected:
            return ReadList((), False, "the model wrote no JSON list that can be read")
        return ReadList(items, False, f"the list ends after {len(items)} of {expected} items")
    if len(found) != expected:
        return ReadList((), False, f"the model wrote a list of {len(found)} items, expected {expected}")
    kept = not text[:begin].strip() and not text[end:].strip()
    return ReadList(tuple(found), kept, None)


def _cut_list(text: str, at: int) -> tuple[JsonValue, ...]:
    """The items of a list that ends too early, each followed by a comma."""
    items: list[JsonValue] = []
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        try:
            value, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            return tuple(items)
        while at < len(text) and text[at].isspace():
            at += 1
        if at >= len(text) or text[at] != ",":
            # Without a comma a number may be half of one, and what follows is no list.
            whole = at >= len(text) and isinstance(value, str | dict | list)
            return tuple([*items, value] if whole else items)
        items.append(value)
        at += 1
