"""Marks that begin a call of a function, told from those that an answer only speaks of.

It does not know how calls are written between marks.
"""

from __future__ import annotations

import re

_SENTENCE = re.compile(r"[`\"'\u2019\u201d\xbb.,;:!?)*]")
_WORDS = re.compile(r" [^\W\d]")
_CALLING = re.compile(r"[{\[(<=]")


def next_mark(answer: str, mark: str, end: str, at: int = 0, *, words: bool = True) -> int:
    """Where the next mark stands that begins a call; -1 if none does.

    A mark that an answer speaks of begins none: it is followed by what ends a quotation or a sentence, or
    (with `words`) by words, and by nothing like a call before its end mark or, without one, in the same line.

    Args:
        answer: text in which calls are looked for.
        mark: before a call.
        end: after it; empty where there is none.
        at: where to begin.
        words: a call never begins with a space and a word.
    """
    while (at := answer.find(mark, at)) >= 0:
        after = at + len(mark)
        if not _SENTENCE.match(answer, after) and not (words and _WORDS.match(answer, after)):
            return at
        closed = answer.find(end, after) if end else -1
        others = [answer.find(mark, after), len(answer)]
        if closed < 0 or -1 < others[0] < closed:
            closed = min(place for place in (answer.find("\n", after), *others) if place >= 0)
        if _CALLING.search(answer, after, closed):
            return at
        at = after
    return -1
