"""The thought of an answer told from the answer itself, token by token.

A thought stands at the beginning, between two marks that may be special tokens or spread over several; where
the prompt has begun it, the first mark is missing. What turns out to be no thought is given back as the
tokens that it came in, so that an answer without one reads as if nobody had looked.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgesdk.text.detokenize import Detokenizer
from edgesdk.text.thoughts import MARKS
from edgesdk.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class ThoughtStep:
    """What a token added.

    Attributes:
        thought: a piece of the thought that is certain.
        text: of the answer, behind the mark within the token that ends the thought.
        tokens: of the answer, in order, after `text`.
    """

    thought: str = ""
    text: str = ""
    tokens: tuple[int, ...] = ()


_NOTHING = ThoughtStep()


class ThoughtReader:
    """Reads the beginning of one answer."""

    def __init__(self, tokenizer: Tokenizer, opened: str | None = None) -> None:
        """Starts before the first token.

        Args:
            tokenizer: of the model.
            opened: the mark that ends a thought begun by the prompt, from `thoughts.open_thought`.
        """
        self._detokenizer = Detokenizer(tokenizer, skip_special=False)
        self._close = opened
        self._held = ""
        """Text that may be a part of a mark, or space at an end of a thought."""
        self._waiting: list[int] = []
        """The tokens of it, where it may be the beginning of the answer."""
        self._lead = ""
        """Text of the answer that has no token of its own."""
        self._said = False
        self.thinking = opened is not None
        """Whether it is within a thought."""
        self.done = False
        """Whether what follows is the answer; there is nothing more to read here then."""
        self.spent = 0
        """Tokens that were no part of the answer."""

    @property
    def waits(self) -> bool:
        """Whether what must follow rules of the answer has not begun."""
        return self.thinking

    @property
    def ending(self) -> str:
        """Text that ends the thought in which it is, so that the answer follows."""
        return f"\n{self._close}\n\n"

    def push(self, token: int) -> ThoughtStep:
        """Adds a token."""
        self.spent += 1
        self._held += self._detokenizer.push(token)
        if self._close is None:
            self._waiting.append(token)
        return self._read()

    def finish(self) -> ThoughtStep:
        """Ends the answer; returns what was held back."""
        self._held += self._detokenizer.finish()
        thought, self._held = (self._held.rstrip(), "") if self.thinking else ("", self._held)
        return self._hand_on(thought, self._lead)

    def _read(self) -> ThoughtStep:
        thought = ""
        while True:
            if self._close is None:
                head = self._held.lstrip()
                begun = next(((start, end) for start, end in MARKS if head.startswith(start)), None)
                if begun is None:
                    if any(start.startswith(head) for start, _ in MARKS):
                        return ThoughtStep(thought) if thought else _NOTHING
                    return self._hand_on(thought, self._lead.lstrip())
                self._held = head[len(begun[0]) :]
                self._close, self._waiting, self._lead, self.thinking = begun[1], [], "", True
            before, found, after = self._held.partition(self._close)
            if not found:
                piece = self._certain(before)
                self._held = before[len(piece) :]
                return ThoughtStep(thought + self._shown(piece))
            thought += self._shown(before.rstrip())
            self._held = self._lead = after
            self._close, self._said, self.thinking = None, False, False

    def _hand_on(self, thought: str, lead: str) -> ThoughtStep:
        self.done, self.thinking = True, False
        self.spent -= len(self._waiting)
        return ThoughtStep(thought, lead, tuple(self._waiting))

    def _certain(self, text: str) -> str:
        """The text without what may be a part of the mark at its end, and without space there."""
        close = self._close or ""
        for length in range(min(len(text), len(close) - 1), 0, -1):
            if text.endswith(close[:length]):
                return text[:-length].rstrip()
        return text.rstrip()

    def _shown(self, piece: str) -> str:
        """A piece of the thought, without space at its beginning."""
        if not self._said:
            piece = piece.lstrip()
            self._said = bool(piece)
        return piece
