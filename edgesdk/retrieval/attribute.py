"""Which passages an answer stands on: those that it names, else those whose words it has."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgesdk.retrieval.passage import Passage

_CITED = re.compile(r"\[(\d{1,3})\]")
_WORD = re.compile(r"[^\W_]{2,}")
_LEAST_SHARE = 0.5
"""Of the answer's own words, that a passage must have to count as its source."""


def named(answer: str, count: int) -> tuple[int, ...]:
    """Numbers in brackets that an answer names, of passages that there are, rising.

    Args:
        answer: its text.
        count: how many passages were numbered, from 1.
    """
    found = {int(number) for number in _CITED.findall(answer)}
    return tuple(sorted(number for number in found if 1 <= number <= count))


def shared(answer: str, question: str, passages: Sequence[Passage]) -> tuple[int, ...]:
    """The number of the passage that most of an answer's words are in; none where it is not half of them.

    Words of the question count for nothing: every passage that was found has them. Of passages with equally
    many, the first is taken.

    Args:
        answer: its text.
        question: that it answers.
        passages: numbered from 1.
    """
    own = _words(answer) - _words(question)
    shares = [len(own & _words(f"{passage.title} {passage.text}")) for passage in passages]
    most = max(shares, default=0)
    if not own or most < _LEAST_SHARE * len(own):
        return ()
    return (shares.index(most) + 1,)


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)}
