"""Choosing the next token from logits: greedy, or drawn after temperature, top-k, top-p and min-p.

Filters are closures over candidates (ids with their logits), composed in the order that
transformers uses: repetition penalty, temperature, top-k, top-p, min-p. The same seed draws the same
tokens from the same logits. It knows nothing of sequences or text.

Papers: CTRL (section 4.1, repetition penalty); The Curious Case of Neural Text Degeneration (section 3,
top-p); Turning Up the Heat: Min-p Sampling (section 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.protocol import Float
from edgesdk.errors import DeviceError, UnsupportedOption

Ids = NDArray[np.int64]
Candidates = tuple[Ids, Float]
"""Token ids and their logits, both (n,); whatever is not among them has probability 0."""

Filter = Callable[[Candidates], Candidates]

_TOP_P_HEADS = (64, 1024)
"""How many of the most likely tokens to look at first for top-p."""


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
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        """Refuses values without meaning.

        Raises:
            UnsupportedOption: naming the option.
        """
        _expect(0 <= self.temperature < math.inf, "temperature", self.temperature, "0 or more")
        _expect(self.top_k is None or self.top_k >= 1, "top_k", self.top_k, "1 or more")
        _expect(0 < self.top_p <= 1, "top_p", self.top_p, "above 0 and at most 1")
        _expect(0 <= self.min_p <= 1, "min_p", self.min_p, "between 0 and 1")
        penalty = self.repetition_penalty
        _expect(0 < penalty < math.inf, "repetition_penalty", penalty, "above 0")
        _expect(self.seed is None or self.seed >= 0, "seed", self.seed, "0 or more")


class Sampler:
    """Chooses tokens of one sequence."""

    def __init__(self, options: SamplingOptions, vocab_size: int) -> None:
        """Starts with an empty history.

        Args:
            options: how to choose.
            vocab_size: V.
        """
        self._greedy = options.temperature == 0
        self._penalty = options.repetition_penalty
        self._seen = np.zeros(vocab_size, np.bool_)
        self._filters = filters_for(options)
        self._random = np.random.Generator(np.random.PCG64(options.seed))

    def observe(self, tokens: Iterable[int]) -> None:
        """Adds tokens to the history that the repetition penalty looks at."""
        if self._penalty != 1:
            self._seen[np.fromiter(tokens, np.int64)] = True

    def choose(self, logits: Float) -> int:
        """The next token; it is added to the history.

        Args:
            logits: (V,) float32; left as they are.

        Raises:
            DeviceError: the logits are not numbers.
        """
        if self._penalty != 1:
            logits = penalise(logits, self._seen, self._penalty)
        # argmax takes the first among equals, and the first NaN if there is one.
        best = int(np.argmax(logits))
        if not math.isfinite(logits[best]):
            raise DeviceError("the backend returned logits that are not finite numbers; try another backend")
        token = best if self._greedy else self._draw(logits)
        if self._penalty != 1:
            self._seen[token] = True
        return token

    def _draw(self, logits: Float) -> int:
        candidates: Candidates = np.arange(len(logits)), logits
        for apply in self._filters:
            candidates = apply(candidates)
        ids, kept = candidates
        sums = np.cumsum(_weights(kept).astype(np.float64))
        drawn = np.searchsorted(sums, self._random.random() * sums[-1], side="right")
        return int(ids[min(int(drawn), len(ids) - 1)])


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
    return tuple(chosen)


def penalise(logits: Float, seen: NDArray[np.bool_], penalty: float) -> Float:
    """A copy of `logits` with those of `seen` tokens made less likely (CTRL, section 4.1)."""
    ids = np.flatnonzero(seen)
    before = logits[ids]
    held = logits.copy()
    held[ids] = np.where(before > 0, before / np.float32(penalty), before * np.float32(penalty))
    return held


def heat(temperature: float) -> Filter:
    """Divides logits by `temperature`."""

    def apply(candidates: Candidates) -> Candidates:
        ids, logits = candidates
        # Relative to the best first: dividing by a tiny temperature must not overflow.
        with np.errstate(over="ignore"):
            return ids, (logits - logits.max()) / np.float32(max(temperature, 1e-30))

    return apply


def keep_top_k(count: int) -> Filter:
    """Keeps the `count` most likely tokens; among equals the lowest ids."""

    def apply(candidates: Candidates) -> Candidates:
        ids, logits = candidates
        if count >= len(ids):
            return candidates
        limit = np.partition(logits, len(ids) - count)[len(ids) - count]
        above = logits > limit
        level = np.flatnonzero(logits == limit)[: count - int(above.sum())]
        above[level] = True
        return ids[above], logits[above]

    return apply


def keep_top_p(share: float) -> Filter:
    """Keeps the fewest most likely tokens whose probabilities sum to at least `share`."""

    def apply(candidates: Candidates) -> Candidates:
        total = _weights(candidates[1]).sum(dtype=np.float64)
        # Sorting a whole vocabulary takes as long as running a small model: the head nearly always does.
        for count in (*_TOP_P_HEADS, len(candidates[0])):
            ids, logits = keep_top_k(count)(candidates)
            order = np.argsort(-logits, kind="stable")
            sums = np.cumsum(_weights(logits[order]).astype(np.float64))
            if sums[-1] >= share * total:
                break
        kept = np.sort(order[: int(np.searchsorted(sums, share * total)) + 1])
        return ids[kept], logits[kept]

    return apply


def keep_min_p(share: float) -> Filter:
    """Drops tokens less likely than `share` times the most likely one."""

    def apply(candidates: Candidates) -> Candidates:
        ids, logits = candidates
        kept = logits >= logits.max() + np.float32(math.log(share))
        return ids[kept], logits[kept]

    return apply


def _weights(logits: Float) -> Float:
    """Probabilities relative to the most likely token's, which every filter keeps."""
    return np.asarray(np.exp(logits - logits.max()))


def _expect(holds: bool, option: str, found: object, expected: str) -> None:
    if not holds:
        raise UnsupportedOption(f"{option} is {found}, expected {expected}")
