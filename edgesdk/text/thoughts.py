"""The part of an answer in which a reasoning model thinks, which is no answer yet: taken off before calls.

A thought stands at the beginning, between two marks; where the prompt ends with the first of them, as some
templates have it, the answer has the second alone. In channels there may be several, anywhere. It does not
keep or show thoughts.
"""

from __future__ import annotations

import re

MARKS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<thinking>", "</thinking>"),
    ("<seed:think>", "</seed:think>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel>thought", "<channel|>"),
)

_IN_CHANNELS = re.compile(r"\s*(?:to=[^<]*)?<\|channel\|>")
_ANALYSIS = re.compile(
    r"(?:<\|start\|>assistant)?<\|channel\|>analysis(?:(?!to=)[^<])*<\|message\|>.*?(?:<\|end\|>|\Z)",
    re.DOTALL,
)
"""A thought in channels (`read_channels`); one with a recipient is a call."""

TAIL_TOKENS = 16
"""More than any of these marks has, with the space after it."""


def open_thought(prompt: str) -> str | None:
    """The mark that ends the thought which a prompt has begun; None if it has begun none."""
    end = prompt.rstrip()
    return next((close for start, close in MARKS if end.endswith(start)), None)


def after_thought(answer: str, opened: str | None = None) -> str:
    """An answer without the thought that it begins with; empty if it never came to an end of it.

    Args:
        answer: the text, with its special tokens.
        opened: the mark that ends a thought begun by the prompt, from `open_thought`.
    """
    if _IN_CHANNELS.match(answer):
        return _ANALYSIS.sub("", answer)
    rest = answer
    while True:
        head = rest.lstrip()
        begun = next(((start, close) for start, close in MARKS if head.startswith(start)), None)
        if begun is None and opened is None:
            return rest
        close = opened if begun is None else begun[1]
        assert close is not None
        opened = None
        _, _, rest = rest.partition(close)
