"""Stop strings in a stream of text, wherever its pieces begin and end.

Text that might be the start of a stop string is held back until that is decided, so that nothing
is given out which must be taken back. The stop string that is complete first wins, the longest among
those that end at the same place; this does not depend on how the text is cut into pieces. It knows
nothing of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgesdk.decoding.option_types import stop_texts

FinishReason = Literal["stop", "stop_string", "length", "cancelled", "deadline"]
"""`stop`: the model said an end token, or a grammar is complete; `stop_string`: its text reached one of
the caller's; `length`: the caller's limit or the end of the context; `cancelled`: somebody stopped it;
`deadline`: its time was over."""


class StopStrings:
    """Watches one stream of text for stop strings."""

    def __init__(self, strings: Sequence[str] | None) -> None:
        """Starts with no text.

        Args:
            strings: any of these ends the text, and is no part of it.

        Raises:
            UnsupportedOption: one is empty, too long or no text, or `strings` is a single text.
        """
        self._strings = stop_texts(strings)
        self._held = ""
        self.found: str | None = None
        """The stop string that ended the text, once there is one."""

    def push(self, text: str) -> str:
        """Adds text; returns what is certainly before any stop string."""
        if self.found is not None:
            return ""
        text = self._held + text
        hits = [(at + len(stop), at, stop) for stop in self._strings if (at := text.find(stop)) >= 0]
        if hits:
            _, start, self.found = min(hits)
            self._held = ""
            return text[:start]
        keep = max((_overlap(text, stop) for stop in self._strings), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """Ends the text; returns what was held back for a stop string that never came."""
        rest, self._held = self._held, ""
        return rest


def _overlap(text: str, stop: str) -> int:
    """Length of the longest start of `stop`, short of all of it, that `text` ends with."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
