"""Token ids to text one at a time, never half a character.

Neither byte-level nor SentencePiece tokens map to text one by one: a character may spread over
several tokens, and a decoder treats the start of a text specially. So a short window of tokens is
decoded anew with each one, and what that adds to the text already given out is the answer. The
window is cut back as it grows, which keeps the cost per token constant.

Pieces joined are exactly the decoded whole whenever that is valid UTF-8. Bytes that never become a
character come out as U+FFFD, as they do in the whole, though not always as many of them.
"""

from __future__ import annotations

from edgesdk.text.tokenizer import Tokenizer

_BROKEN = "\N{REPLACEMENT CHARACTER}"

_LONGEST_WAIT = 3
"""Bytes of a character that can be waiting for its last one; some decoders show each as U+FFFD."""

_WINDOW = 16
"""Most tokens in the window; no character of valid text keeps it from being cut before."""


class Detokenizer:
    """Turns a stream of token ids into a stream of text."""

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True) -> None:
        """Starts an empty text.

        Args:
            tokenizer: decodes the windows.
            skip_special: leave special tokens out of the text.
        """
        self._tokenizer = tokenizer
        self._skipped = tokenizer.special_ids if skip_special else frozenset()
        self._window: list[int] = []
        self._shown = ""
        """The part of the window's text that has been given out."""
        self._boundary = 0
        """Where in the window the newest character boundary lies."""

    def push(self, token: int) -> str:
        """Adds a token; returns the text that is certain now, often empty within a character."""
        if token in self._skipped:
            return ""
        self._window.append(token)
        text = self._decode(self._window)
        if not text.startswith(self._shown):
            # Byte fallback shows a whole run of bytes as broken until its last character is complete.
            return self._give_up() if len(self._window) >= _WINDOW else ""
        waiting = min(len(text) - len(text.rstrip(_BROKEN)), _LONGEST_WAIT)
        added = text[len(self._shown) : len(text) - waiting]
        self._shown += added
        if self._shown == text:
            self._at_boundary(bool(added))
        elif len(self._window) >= _WINDOW:
            self._cut(len(self._window) - _WINDOW // 2, text[len(self._shown) :])
        return added

    def finish(self) -> str:
        """Ends the text; returns what was held back."""
        text = self._decode(self._window)
        if text.startswith(self._shown):
            rest = text[len(self._shown) :]
        else:
            rest = self._decode(self._window[self._boundary :])
        self._window, self._shown, self._boundary = [], "", 0
        return rest

    def _at_boundary(self, added: bool) -> None:
        """The text so far ends with a whole character: a good place to cut the window."""
        if not added and self._shown:
            self._window.pop()  # a token without text, of which there may be any number
            return
        previous, self._boundary = self._boundary, len(self._window)
        if len(self._window) >= _WINDOW // 2:
            self._cut(previous, "")

    def _cut(self, start: int, waiting: str) -> None:
        """Drops the tokens before `start`, unless what is left would then read differently."""
        tail = self._window[start:]
        text = self._decode(tail)
        # Without any text in front, a decoder takes what follows for the start and strips its space.
        if len(text) > len(waiting) and text.endswith(waiting):
            self._window = tail
            self._shown = text[: len(text) - len(waiting)]
            self._boundary = max(0, self._boundary - start)

    def _give_up(self) -> str:
        """Gives out bytes that waited longer than any character takes."""
        added = self._decode(self._window[self._boundary :])
        self._window = self._window[-1:]
        self._shown = self._decode(self._window)
        self._boundary = 1
        return added

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special=False)
