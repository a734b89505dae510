"""Where an answer would stand in its grammar if it went on in some way: for drafts of what must come.

What a grammar forces as *tokens* is run without being asked about. Often it forces a text whose tokens it
leaves open: after `"name":` come a space and a quote, but `' "'` is one token and `' "S'` another. Which of
them comes the model says; that it begins so is certain, and worth a draft.

It changes nothing of the answer's own state.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from edgesdk.bundle.native_calls import native_call
from edgesdk.errors import UnsupportedOption

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

_WHAT = "the grammar cannot go on"


class GrammarAhead:
    """A copy of a grammar's state that goes on by itself; implements `decoding.draft.DraftGrammar`."""

    def __init__(self, matcher: LLMatcher, table: LLTokenizer, vocab_size: int) -> None:
        """Takes over a parser.

        Args:
            matcher: a copy, after all tokens that are forced.
            table: spells text in tokens.
            vocab_size: V; tokens beyond it cannot be said.
        """
        self._matcher = matcher
        self._table = table
        self._vocab_size = vocab_size

    def next_text(self) -> bytes:
        """As `DraftGrammar.next_text`."""
        with native_call(_WHAT, UnsupportedOption):
            return b"" if self._matcher.is_stopped() else self._matcher.compute_ff_bytes()

    def spell(self, text: bytes) -> int | None:
        """As `DraftGrammar.spell`."""
        with native_call(_WHAT, UnsupportedOption):
            tokens = self._table.tokenize_bytes(text)
        return tokens[0] if tokens and tokens[0] < self._vocab_size else None

    def take(self, token: int) -> tuple[int, ...] | None:
        """As `DraftGrammar.take`."""
        matcher = self._matcher
        with native_call(_WHAT, UnsupportedOption):
            if matcher.is_stopped() or matcher.try_consume_tokens([token]) < 1:
                return None
            forced = forced_tokens(matcher, self._vocab_size)
            taken = matcher.try_consume_tokens(list(forced)) if forced else 0
        return forced[:taken]


def forced_tokens(matcher: LLMatcher, vocab_size: int) -> tuple[int, ...]:
    """Tokens that must come next, as far as the model can say them; the parser stays where it is."""
    if matcher.is_stopped():
        return ()
    return tuple(itertools.takewhile(lambda token: token < vocab_size, matcher.compute_ff_tokens()))
