"""Guesses by the grammar that an answer follows: text that must come, in the tokens that it usually comes in.

A grammar forces tokens, which are run with the token that they follow; between them it forces text whose
tokens are open (`edgesdk.decoding.grammar_ahead`). The guess there is the token that came when the same
text was due before, or the usual spelling; what the grammar forces behind it comes along, and so on until
the answer is free. No model is asked: a guess costs some tens of microseconds.

(Forced text between tokens is SGLang's compressed finite state machine, arXiv 2312.07104, section 4, which
retokenises it, and guidance's fast-forward tokens, which leave it to the model.)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from edgesdk.backends.protocol import Int
from edgesdk.decoding.draft import DraftGrammar, DraftRequest
from edgesdk.drafts.guess import Guess
from edgesdk.errors import UnsupportedOption

_USUAL, _AS_BEFORE, _FORCED = range(3)
_PRIORS = (0.6, 0.85, 0.99)
_REMEMBERED_TEXTS = 4096
_LONGEST_TEXT = 256
"""Bytes of a text that are looked at: what begins alike comes alike."""


@dataclass(frozen=True, slots=True)
class _Due:
    """Where a text was due in a guess.

    Attributes:
        place: in the answer's tokens.
        text: the text.
    """

    place: int
    text: bytes


class GrammarDrafts:
    """Implements `Source` over what grammars say, and what came of it before."""

    def __init__(self) -> None:
        """Remembers nothing."""
        self._came: OrderedDict[bytes, int] = OrderedDict()
        self._due: dict[int, tuple[int, list[_Due], Guess]] = {}

    @property
    def name(self) -> str:
        """What it is called."""
        return "grammar"

    @property
    def priors(self) -> Sequence[float]:
        """Kinds: the usual spelling, the token that came before, and forced tokens behind one of these."""
        return _PRIORS

    @property
    def asks_model(self) -> bool:
        """It asks the grammar."""
        return False

    @property
    def price_s(self) -> float:
        """Nothing to speak of."""
        return 0.0

    @property
    def nbytes(self) -> int:
        """Bytes of what it remembers, about."""
        return sum(200 + len(text) for text in self._came)

    def guess(self, asked: Sequence[DraftRequest]) -> list[Guess | None]:
        """A guess for each answer, or None where it is free, or follows no grammar."""
        return [self._guess(request) for request in asked]

    def forget(self, key: int) -> None:
        """Drops an answer."""
        self._due.pop(key, None)

    def close(self) -> None:
        """Forgets everything."""
        self._came.clear()
        self._due.clear()

    def _guess(self, request: DraftRequest) -> Guess | None:
        self._learn(request.key, request.tokens)
        if request.grammar is None:
            return None
        tokens: list[int] = []
        kinds: list[int] = []
        due: list[_Due] = []
        most = min(request.most, request.deepest)
        try:
            state = request.grammar()
            while state is not None and len(tokens) < most:
                text = state.next_text()[:_LONGEST_TEXT]
                if not text:
                    break
                token, kind = self._next(state, text)
                forced = None if token is None else state.take(token)
                if token is None or forced is None:
                    break
                due.append(_Due(len(request.tokens) + len(tokens), text))
                tokens += [token, *forced]
                kinds += [kind, *[_FORCED] * len(forced)]
        except UnsupportedOption:  # the choice meets it again
            return None
        if not tokens:
            return None
        count = min(len(tokens), most)
        guess = Guess(tuple(tokens[:count]), tuple(range(-1, count - 1)), tuple(kinds[:count]))
        self._due[request.key] = (len(request.tokens), due, guess)
        return guess

    def _next(self, state: DraftGrammar, text: bytes) -> tuple[int | None, int]:
        """The token to guess where a text is due, and of which kind it is."""
        came = self._came.get(text)
        return (state.spell(text), _USUAL) if came is None else (came, _AS_BEFORE)

    def _learn(self, key: int, tokens: Int) -> None:
        """Remembers what came where a text was due, as far as the last guess was right up to there."""
        known = self._due.pop(key, None)
        if known is None:
            return
        start, due, guess = known
        for each in due:
            if each.place >= len(tokens):
                return
            before = guess.tokens[: each.place - start]
            if tuple(tokens[start : each.place].tolist()) != before:
                return
            self._came[each.text] = int(tokens[each.place])
            self._came.move_to_end(each.text)
            if len(self._came) > _REMEMBERED_TEXTS:
                self._came.popitem(last=False)
