"""What one rendering of a template may use: steps, text, and depth of values.

Every loop, call, filter, comparison and piece of output pays here before or right after it happens, so
that no template takes more than a few seconds or some hundred megabytes, however it is written. What is
counted does not depend on the machine; the processor time is looked at besides, for what is dearer than
it looks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

MOST_STEPS = 2_000_000
"""A template of 50 operations a message has room for 40,000 messages."""

MOST_MADE_CHARS = 1 << 28
"""Of all texts that a rendering makes on its way, output included."""

MOST_CHARS = 4 << 20
"""Of one text, and of the whole output: a million tokens of prompt or so."""

DEEPEST_VALUE = 100
_MOST_CPU_S = 20.0
_STEPS_A_LOOK = 256

_ENTRY_CHARS = 16
"""What an entry of a list costs besides its content, in characters."""


class TooMuch(Exception):  # noqa: N818 - reads as what happened
    """The budget is spent; the message says which part, as the end of "the chat template ..."."""


class RenderBudget:
    """Steps and text that one rendering has left."""

    __slots__ = ("_end_s", "_made", "_next_look", "_steps")

    def __init__(self) -> None:
        self._steps = 0
        self._made = 0
        self._next_look = _STEPS_A_LOOK
        self._end_s = time.thread_time() + _MOST_CPU_S

    def spend(self, steps: int, chars: int = 0) -> None:
        """Pays for work and for text made.

        Raises:
            TooMuch: the budget does not have it.
        """
        self._steps += steps
        self._made += chars
        if self._steps >= self._next_look or self._made > MOST_MADE_CHARS:
            self._look()

    def pay_text(self, text: str) -> None:
        """Pays for a text that was made or is read from end to end."""
        size = len(text)
        if size > MOST_CHARS:
            self.refuse_longer(size)
        self.spend(1 + (size >> 8), size)

    def refuse_longer(self, chars: int) -> None:
        """Raises TooMuch where a text that is about to be made would be too long."""
        if chars > MOST_CHARS or self._made + chars > MOST_MADE_CHARS:
            raise TooMuch(f"makes too long a text ({chars} characters, at most {MOST_CHARS})")

    def walk(self, value: object) -> int:
        """Pays for a value and all that is in it, as often as it is in it.

        Returns:
            About the characters that the value has when it is written out.

        Raises:
            TooMuch: it is nested too deeply, or too large.
        """
        if isinstance(value, str):
            self.pay_text(value)
            return len(value)
        size = 0
        waiting: list[tuple[object, int]] = [(value, 0)]
        while waiting:
            part, depth = waiting.pop()
            if isinstance(part, str):
                size += len(part) + 2
                self.spend(1 + (len(part) >> 8), len(part))
                continue
            size += _ENTRY_CHARS
            self.spend(1, _ENTRY_CHARS)
            inner: Sequence[object]
            if isinstance(part, dict):
                inner = [*part.keys(), *part.values()]
            elif isinstance(part, list | tuple):
                inner = part
            else:
                continue
            if depth >= DEEPEST_VALUE:
                raise TooMuch(f"nests a value more than {DEEPEST_VALUE} deep")
            waiting.extend((each, depth + 1) for each in inner)
        return size

    def _look(self) -> None:
        if self._steps > MOST_STEPS:
            raise TooMuch(f"takes more than {MOST_STEPS} steps")
        if self._made > MOST_MADE_CHARS:
            raise TooMuch(f"makes more than {MOST_MADE_CHARS} characters of text on its way")
        if time.thread_time() > self._end_s:
            raise TooMuch(f"takes more than {_MOST_CPU_S:.0f} s")
        self._next_look = self._steps + _STEPS_A_LOOK
