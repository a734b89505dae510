"""Everything one request needs to choose its next token: sampling, grammar, log-probabilities.

Pure host code, one object for one sequence; `Model` and the engine call it in the same way:

    chooser.observe(prompt)
    chooser.start_mask()               # optional: the grammar works while the model does
    choice = chooser.choose(logits)    # then run choice.token and choice.forced as one chunk

It knows nothing of sequences, end tokens or text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import GenerationDefaults
from edgesdk.decoding.draft import Chances, Draft, DraftGrammar, DraftSampling
from edgesdk.decoding.grammar import Grammar, GrammarState
from edgesdk.decoding.logprobs import logprobs_of
from edgesdk.decoding.options import GenerationOptions
from edgesdk.decoding.sampling import Sampler, draw
from edgesdk.decoding.thinking import Thinking
from edgesdk.errors import UnsupportedOption


@dataclass(frozen=True)
class TokenChoice:
    """A chosen token, and what follows from it.

    Attributes:
        token: the token.
        logprob: natural logarithm of its probability by the model's raw logits, before penalties,
            grammar and temperature; None unless asked for.
        top_logprobs: the likeliest tokens by the same logits, with their log-probabilities, best first.
        forced: tokens that the grammar, or the end of a thought, leaves no choice about after this one. They
            count as chosen: run them with `token` as one chunk and ask for the logits after the last only.
        finished: the grammar is complete with these tokens; there is nothing more to choose.
    """

    token: int
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()
    forced: tuple[int, ...] = ()
    finished: bool = False


class Chooser:
    """Chooses the tokens of one sequence."""

    def __init__(
        self,
        options: GenerationOptions,
        defaults: GenerationDefaults,
        vocab_size: int,
        *,
        grammar: Grammar | None = None,
        thinking: Thinking | None = None,
    ) -> None:
        """Starts with an empty history.

        Args:
            options: how to choose.
            defaults: what the bundle recommends where `options` say nothing.
            vocab_size: V.
            grammar: what the answer must follow, compiled for the model.
            thinking: the thought before the answer, where it may be ended or the grammar waits for it; new.

        Raises:
            UnsupportedOption: a value has no meaning.
        """
        sampling = options.sampling(defaults)
        self._sampler = Sampler(sampling, vocab_size)
        self._logprobs = options.logprobs
        self._grammar = None if grammar is None else grammar.start()
        self._thinking = thinking
        self.draft_sampling: DraftSampling | None = None
        """How it samples, for drafters; None if it takes the likeliest token."""
        if not self._sampler.greedy:
            self.draft_sampling = _Shaping(self._sampler, self._grammar, sampling.seed)

    @property
    def draft_grammar(self) -> Callable[[], DraftGrammar | None] | None:
        """What tells drafters how the answer must go on; None where it follows no grammar, or not yet."""
        if self._grammar is None or not (self._thinking is None or self._thinking.over):
            return None
        return self._grammar.ahead

    def observe(self, tokens: Sequence[int]) -> None:
        """Tells it the prompt, for the repetition penalty."""
        self._sampler.observe(tokens)

    def start_mask(self) -> None:
        """Lets the grammar work out the next choice in another thread; `choose` waits for it.

        `choose` does so itself for the choice after it. May be called again.
        """
        if self._grammar is not None:
            self._grammar.start_mask()

    def choose(self, logits: NDArray[np.float32], drawn: Sequence[tuple[int, Chances]] = ()) -> TokenChoice:
        """The next token; it joins the history.

        Args:
            logits: (V,) float32; left as they are.
            drawn: tokens that were drawn to come next, as for `accept_drawn`; they change how the token is
                found, not how it is distributed.

        Raises:
            DeviceError: the logits are not numbers.
            UnsupportedOption: the grammar became too complex, or leaves nothing to choose.
        """
        if self._thinking is not None and not self._thinking.over:
            return self._think(self._thinking, logits, drawn)
        grammar = self._grammar
        token = self._sampler.choose(logits, None if grammar is None else grammar.allowed(), drawn)
        forced: tuple[int, ...] = ()
        finished = False
        if grammar is not None:
            forced = grammar.advance(token)
            for each in forced:
                self._sampler.record(each)
            finished = grammar.finished
        return self._choice(logits, token, forced, finished)

    def fit_draft(self, draft: Draft, most: int, deepest: int) -> Draft | None:
        """A draft without what the grammar forbids, and with what it forces after a chain.

        Args:
            draft: of tokens that may come next.
            most: most tokens that it may have.
            deepest: likewise, one after the other.

        Returns:
            None if nothing is left. Drafts that were drawn are left as they are: taking some away by what
            they are would distort what is drawn in their stead.
        """
        grammar = self._grammar
        if grammar is None or draft.chances is not None or self.draft_grammar is None:
            return draft
        try:
            if draft.streams is not None:
                return draft.pick(_allowed(grammar, draft))
            return _fit(grammar, draft, min(most, deepest))
        except UnsupportedOption:  # `choose` meets it again
            return None

    def _think(
        self, thinking: Thinking, logits: NDArray[np.float32], drawn: Sequence[tuple[int, Chances]]
    ) -> TokenChoice:
        """The next token of a thought, or of what shows whether there is one."""
        due = thinking.due
        if due:
            thinking.due = ()
            for each in due:
                self._sampler.record(each)
                thinking.push(each)
            return self._choice(logits, due[0], due[1:], finished=False)
        token = self._sampler.choose(logits, thinking.allowed, drawn)
        forced = thinking.push(token)
        for each in forced:
            self._sampler.record(each)
        return self._choice(logits, token, forced, finished=False)

    def _choice(
        self, logits: NDArray[np.float32], token: int, forced: tuple[int, ...], finished: bool
    ) -> TokenChoice:
        if self._logprobs is None:
            return TokenChoice(token, forced=forced, finished=finished)
        logprob, top = logprobs_of(logits, token, self._logprobs)
        return TokenChoice(token, logprob, top, forced, finished)


def _allowed(grammar: GrammarState, draft: Draft) -> list[bool]:
    """Which rows of a draft may be there; streams stay where what they stand behind does."""
    streams = [0] * len(draft.tokens) if draft.streams is None else draft.streams.tolist()
    return [
        number > 0 or grammar.count_allowed(path) == len(path)
        for number, path in zip(streams, draft.paths(), strict=True)
    ]


def _fit(grammar: GrammarState, draft: Draft, most: int) -> Draft | None:
    if not draft.is_chain:
        return draft.pick(_allowed(grammar, draft))
    tokens = draft.tokens.tolist()
    tokens = tokens[: grammar.count_allowed(tokens)]
    forced = grammar.forced_after(tokens) if len(tokens) < most else ()
    tokens = [*tokens, *forced][:most]
    return Draft.chain(tokens) if tokens else None


class _Shaping:
    """Implements `DraftSampling` by the rules of one chooser, whose state it leaves as it is."""

    def __init__(self, sampler: Sampler, grammar: GrammarState | None, seed: int | None) -> None:
        self._sampler = sampler
        self._grammar = grammar
        # Other numbers than the answer's: who draws both a draft and its judgement from one stream distorts.
        self._random = np.random.default_rng(None if seed is None else [seed, 1])

    def shape(self, logits: NDArray[np.float32], drafted: Sequence[int]) -> Chances:
        """As `DraftSampling.shape`; what a grammar does not allow has no chance, as far as it can tell."""
        allowed = None if self._grammar is None else self._grammar.allowed_after(drafted)
        return self._sampler.shape(logits, allowed, drafted)

    def draw(self, chances: Chances) -> int:
        """As `DraftSampling.draw`."""
        return int(chances.ids[draw(chances.shares, self._random)])
