"""The thought before an answer, as far as it decides what is chosen: when it ends, and when a grammar begins.

A thought that has used its tokens is ended by the model's own mark, whose tokens are forced, so that the
answer comes after it as the model was trained; a thought that was cut would leave no answer at all. What the
answer must follow does not hold for the thought.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgesdk.text.find_thought import AnswerReader
from edgesdk.text.tokenizer import Tokenizer


class Thinking:
    """Where one answer stands in its thought."""

    def __init__(
        self, tokenizer: Tokenizer, reader: AnswerReader, most: int | None, *, vocab_size: int, rules: bool
    ) -> None:
        """Starts before the first token.

        Args:
            tokenizer: of the model.
            reader: tells the thought from the answer; new.
            most: tokens that the thought may have; None for any number.
            vocab_size: V.
            rules: whether a grammar waits for the end of the thought; then the answer may not end within it.
        """
        self._tokenizer = tokenizer
        self._reader = reader
        self._most = most
        self._count = 0
        self._began = reader.waits
        self.over = rules and not reader.waits
        """Whether what is chosen from now on belongs to the answer."""
        self.allowed: NDArray[np.bool_] | None = None
        """(V,) what may be chosen within the thought; None for everything."""
        if rules:
            self.allowed = np.ones(vocab_size, np.bool_)
            self.allowed[[token for token in tokenizer.record.eos_ids if token < vocab_size]] = False
        self.due = self._ending() if reader.waits and most == 0 else ()
        """Tokens that must come next, because the thought has no room."""

    def push(self, token: int) -> tuple[int, ...]:
        """Adds a chosen token; returns those that must follow it, which it has added, too."""
        forced: tuple[int, ...] = ()
        self._read(token)
        if self._reader.thinking and self._most is not None and self._count >= self._most:
            forced = self._ending()
            for each in forced:
                self._read(each)
        return forced

    def _read(self, token: int) -> None:
        if self.over:
            return
        self._count += self._reader.thinking
        self._reader.push(token)
        self._began = self._began or self._reader.waits
        # Between two thoughts there is only space, and a grammar does not wait for a second one.
        self.over = self._reader.done or (self._began and not self._reader.waits)

    def _ending(self) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(self._reader.ending, add_bos=False))
