"""Choosing the next token from logits: greedy, or drawn after the filters of `processors`.

They are composed in the order that transformers uses: bias and penalties on the whole vocabulary,
then, on the candidates, temperature, top-k, top-p, min-p and typical. The same seed draws the same
tokens from the same logits. Choosing has three parts: logits become candidates (shape), one of them is
taken (pick), and joins the history that penalties look at (record); drafts that were drawn need the first and
change the second. It knows nothing of sequences, text or grammars: what a grammar allows comes in as a mask.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.protocol import Float
from edgesdk.decoding.accept_drawn import accept_drawn
from edgesdk.decoding.draft import Chances
from edgesdk.decoding.processors import (
    Candidates,
    Filter,
    Ids,
    add_bias,
    heat,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    keep_typical,
    penalise,
    penalise_counts,
    weights,
)
from edgesdk.errors import DeviceError, UnsupportedOption, quoted

_LARGEST = 1e30
"""Times a logit, it is still a float32."""


@dataclass(frozen=True)
class SamplingOptions:
    """How the next token is chosen.

    Attributes:
        temperature: 0 takes the most likely token, the lowest id among equals; else logits are
            divided by it.
        top_k: keep this many of the most likely tokens; None keeps all.
        top_p: keep the fewest most likely tokens whose probabilities reach this sum; 1 keeps all.
        min_p: drop tokens less likely than this share of the most likely one; 0 drops none.
        repetition_penalty: logits of tokens already in the sequence are divided by it when
            positive and multiplied when negative; 1 changes nothing.
        seed: of the random numbers; None takes another one each time.
        typical_p: keep the tokens whose surprise is nearest to the expected one, up to this sum of
            probabilities; 1 keeps all.
        presence_penalty: taken off the logits of tokens already chosen.
        frequency_penalty: taken off them once for each time they were chosen.
        logit_bias: added to the logits of these token ids; minus infinity bans a token.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    typical_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses values without meaning.

        Raises:
            UnsupportedOption: naming the option.
        """
        _expect(0 <= self.temperature < math.inf, "temperature", self.temperature, "0 or more")
        _expect(self.top_k is None or self.top_k >= 1, "top_k", self.top_k, "1 or more")
        _expect(0 < self.top_p <= 1, "top_p", self.top_p, "above 0 and at most 1")
        _expect(0 <= self.min_p <= 1, "min_p", self.min_p, "between 0 and 1")
        _expect(0 < self.typical_p <= 1, "typical_p", self.typical_p, "above 0 and at most 1")
        penalty = self.repetition_penalty
        _expect(1 / _LARGEST <= penalty <= _LARGEST, "repetition_penalty", penalty, "above 0, below 1e30")
        for name in ("presence_penalty", "frequency_penalty"):
            value = getattr(self, name)
            _expect(abs(value) <= _LARGEST, name, value, "a finite number, below 1e30")
        for token, bias in self.logit_bias.items():
            _expect(bias <= _LARGEST, f"logit_bias of token {token}", bias, "below infinity (1e30)")
        _expect(self.seed is None or self.seed >= 0, "seed", self.seed, "0 or more")


class Sampler:
    """Chooses tokens of one sequence."""

    def __init__(self, options: SamplingOptions, vocab_size: int) -> None:
        """Starts with an empty history.

        Args:
            options: how to choose.
            vocab_size: V.

        Raises:
            UnsupportedOption: a biased token is not in the vocabulary.
        """
        self.greedy = options.temperature == 0
        """Whether it takes the likeliest token."""
        self._penalty = options.repetition_penalty
        self._seen = np.zeros(vocab_size, np.bool_)
        self._presence, self._frequency = options.presence_penalty, options.frequency_penalty
        self._counts = np.zeros(vocab_size, np.int32)
        for token in options.logit_bias:
            if not 0 <= token < vocab_size:
                raise UnsupportedOption(
                    f"logit_bias names token {quoted(token)}, expected ids from 0 to {vocab_size - 1}"
                )
        self._bias_ids = np.array(sorted(options.logit_bias), np.int64)
        with np.errstate(over="ignore"):  # below the smallest float32 is as good as minus infinity
            self._bias = np.array([options.logit_bias[int(i)] for i in self._bias_ids], np.float32)
        self._filters = filters_for(options)
        self._random = np.random.Generator(np.random.PCG64(options.seed))

    def observe(self, tokens: Iterable[int]) -> None:
        """Adds tokens of the prompt to the history that the repetition penalty looks at."""
        if self._penalty != 1:
            self._seen[np.fromiter(tokens, np.int64)] = True

    def record(self, token: int) -> None:
        """Adds a token of the answer to the history that every penalty looks at."""
        self._seen[token] = True
        self._counts[token] += 1

    def choose(
        self,
        logits: Float,
        allowed: NDArray[np.bool_] | None = None,
        drawn: Sequence[tuple[int, Chances]] = (),
    ) -> int:
        """The next token; it is added to the history.

        Args:
            logits: (V,) float32; left as they are.
            allowed: (V,) what may be chosen; None for everything.
            drawn: tokens that were drawn to come next, as for `accept_drawn`. What is chosen is distributed
                as without them. They are nothing to one that takes the likeliest token.

        Raises:
            DeviceError: the logits are not numbers.
            UnsupportedOption: `allowed` and the bans of `logit_bias` leave nothing.
        """
        ids, logits, best = self._adjust(logits, allowed)
        if drawn and not self.greedy:
            token = self._pick_drawn(ids, logits, drawn)
        else:
            at = best if self.greedy else self._draw(logits)
            token = at if ids is None else int(ids[at])
        self.record(token)
        return token

    def shape(
        self, logits: Float, allowed: NDArray[np.bool_] | None = None, after: Sequence[int] = ()
    ) -> Chances:
        """The distribution that a token would be drawn from.

        Args:
            logits: (V,) float32; left as they are.
            allowed: as for `choose`.
            after: tokens that are taken to be in the history, too.

        Raises:
            DeviceError: as `choose`.
            UnsupportedOption: likewise.
        """
        ids, adjusted, _ = self._adjust(logits, allowed, after)
        return Chances(*_shares(self._filter(ids, adjusted)))

    def _adjust(
        self, logits: Float, allowed: NDArray[np.bool_] | None, after: Sequence[int] = ()
    ) -> tuple[Ids | None, Float, int]:
        """Biases, penalties and what is allowed: ids (None for all), their logits, and where the best is."""
        if len(self._bias_ids):
            logits = add_bias(logits, self._bias_ids, self._bias)
        if self._penalty != 1:
            seen = self._seen
            if after:
                seen = seen.copy()
                seen[list(after)] = True
            logits = penalise(logits, seen, self._penalty)
        if self._presence or self._frequency:
            counts = self._counts
            if after:
                counts = counts.copy()
                np.add.at(counts, list(after), 1)
            logits = penalise_counts(logits, counts, self._presence, self._frequency)
        ids = None
        if allowed is not None:
            count = int(np.count_nonzero(allowed))
            if not count:
                raise UnsupportedOption("the grammar allows none of the model's tokens here; change it")
            # Gathering a few and banning a few are both cheap; each is slow where most are concerned.
            if 2 * count <= len(logits):
                ids = np.flatnonzero(allowed)
                logits = logits[ids]
            else:
                logits = logits.copy()
                logits[np.flatnonzero(~allowed)] = -np.inf
        # argmax takes the first among equals, and the first NaN if there is one.
        best = int(np.argmax(logits))
        if not math.isfinite(logits[best]):
            if logits[best] == -math.inf and len(self._bias_ids):  # NaN would have been found first
                raise UnsupportedOption("logit_bias bans every token that may come here; ban fewer")
            raise DeviceError("the backend returned logits that are not finite numbers; try another backend")
        return ids, logits, best

    def _filter(self, ids: Ids | None, logits: Float) -> Candidates:
        candidates: Candidates = np.arange(len(logits)) if ids is None else ids, logits
        for apply in self._filters:
            candidates = apply(candidates)
        return candidates

    def _pick_drawn(self, ids: Ids | None, logits: Float, drawn: Sequence[tuple[int, Chances]]) -> int:
        """One of the drawn tokens, or one that makes up for not taking them."""
        may_come, p = _shares(self._filter(ids, logits))
        token, left = accept_drawn(may_come, p, drawn, self._random)
        return int(may_come[draw(left, self._random)]) if token is None else token

    def _draw(self, logits: Float) -> int:
        ids, kept = self._filter(None, logits)
        return int(ids[draw(weights(kept).astype(np.float64), self._random)])


def draw(shares: NDArray[np.float64], random: np.random.Generator) -> int:
    """Draws an index with probabilities in proportion to (n,) `shares`; one random number."""
    sums = np.cumsum(shares)
    drawn = int(np.searchsorted(sums, random.random() * sums[-1], side="right"))
    if drawn == len(sums):  # rounding; the last ones may have probability 0
        drawn = int(np.searchsorted(sums, sums[-1]))
    return drawn


def _shares(candidates: Candidates) -> tuple[Ids, NDArray[np.float64]]:
    """Candidates with their probabilities, which sum to 1."""
    ids, logits = candidates
    relative = weights(logits).astype(np.float64)
    return ids, relative / relative.sum()


def filters_for(options: SamplingOptions) -> tuple[Filter, ...]:
    """The filters that `options` ask for, in order."""
    chosen: list[Filter] = []
    if options.temperature not in (0, 1):
        chosen.append(heat(options.temperature))
    if options.top_k is not None:
        chosen.append(keep_top_k(options.top_k))
    if options.top_p < 1:
        chosen.append(keep_top_p(options.top_p))
    if options.min_p > 0:
        chosen.append(keep_min_p(options.min_p))
    if options.typical_p < 1:
        chosen.append(keep_typical(options.typical_p))
    return tuple(chosen)


def _expect(holds: bool, option: str, found: object, expected: str) -> None:
    if not holds:
        raise UnsupportedOption(f"{option} is {quoted(found)}, expected {expected}")
