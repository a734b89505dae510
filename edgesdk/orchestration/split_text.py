"""Splits a long text into parts of so many tokens, which overlap.

Parts end where a line ends, or at least a sentence or a word, if one does in their last quarter. No character
is lost: every one is in a part.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgesdk.errors import CapacityError
from edgesdk.text.sound_text import check_sound_text
from edgesdk.text.tokenizer import Tokenizer

_ENDS = (re.compile(r"\n+"), re.compile(r"[.!?]+\s+"), re.compile(r"\s+"))
"""Good places to cut, the best first."""

_LEAST_PART = 16
"""Tokens below which a part says nothing."""


@dataclass(frozen=True)
class TextPart:
    """A part of a text.

    Attributes:
        start: of its first character in the text.
        text: of the part.
    """

    start: int
    text: str


def split_text(text: str, tokenizer: Tokenizer, most_tokens: int, overlap_tokens: int) -> list[TextPart]:
    """The parts of a text, in order.

    Args:
        text: to be split.
        tokenizer: counts tokens.
        most_tokens: of each part.
        overlap_tokens: about how many neighbours have in common; at most half of a part.

    Raises:
        CapacityError: parts would be too small to be worth reading.
        UnsupportedOption: the text has half a character.
    """
    if most_tokens < _LEAST_PART:
        raise CapacityError(
            f"beside the questions and answers there is room for {max(most_tokens, 0)} tokens of the text, "
            f"expected at least {_LEAST_PART}; ask shorter or fewer questions, lower max_tokens, or convert "
            "with a larger --context"
        )
    check_sound_text(text, "the text")
    offsets = tokenizer.engine.encode(text, add_special_tokens=False).offsets
    starts = [start for start, _ in offsets]
    overlap = min(overlap_tokens, most_tokens // 2)
    parts: list[TextPart] = []
    first = 0
    while True:
        begin = starts[first] if first else 0
        last = first + most_tokens
        if last >= len(starts):
            parts.append(TextPart(begin, text[begin:]))
            return parts
        end = _good_end(text, starts[first + most_tokens * 3 // 4], starts[last])
        parts.append(TextPart(begin, text[begin:end]))
        # The first token of the next part: so many before the end, and further than this one's first.
        after = next(index for index in range(last, first, -1) if starts[index] <= end)
        following = max(after - overlap, first + 1)
        first = _line_start(text, starts, following, after)


def _good_end(text: str, low: int, high: int) -> int:
    """A place to cut within [low, high], the last one of the best kind that there is."""
    for pattern in _ENDS:
        found = [match.end() for match in pattern.finditer(text, low, high)]
        if found:
            return found[-1]
    return high


def _line_start(text: str, starts: list[int], low: int, high: int) -> int:
    """The first token of [low, high] that begins a line, or `low` where none does."""
    for index in range(low, high + 1):
        if starts[index] and text[starts[index] - 1] == "\n":
            return index
    return low
