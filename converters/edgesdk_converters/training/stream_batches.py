"""Batches for streams: whole texts side by side, and some of their positions as the places of streams.

The batch of a step is a function of seed and number of the step alone: a run that goes on needs to know no
more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import UnsupportedOption
from edgesdk_converters.training.features import Features


@dataclass(frozen=True)
class StreamBatch:
    """S tokens of texts, and M places among them with G streams each.

    Attributes:
        tokens: (S,) int32, filled up with 0.
        positions: (S,) int32, of each in its text.
        owners: (S,) int32, number of the text, which sees only itself; -1 behind the last.
        start: (S, E) float16, the target's state before the block where streams begin; None where that is
            the embedding.
        places: (M,) int32, token that each row of streams stands behind.
        hidden: (G, M, E) float16, what the target's head read where stream j's guess was its own.
        log_z: (G, M) float32.
        follows: (G, M) int32, the token to be guessed; -1 where the text has ended.
        valid: (G, M) bool: whether the text goes that far.
    """

    tokens: NDArray[np.int32]
    positions: NDArray[np.int32]
    owners: NDArray[np.int32]
    start: NDArray[np.float16] | None
    places: NDArray[np.int32]
    hidden: NDArray[np.float16]
    log_z: NDArray[np.float32]
    follows: NDArray[np.int32]
    valid: NDArray[np.bool_]


class StreamBatches:
    """Texts in an order that changes with every pass."""

    def __init__(
        self,
        features: Features,
        start: NDArray[np.float16] | None,
        *,
        count: int,
        tokens: int,
        places: int,
        seed: int,
    ) -> None:
        """Finds texts with something to guess.

        Args:
            features: of texts.
            start: (N, E) of the same tokens, the state before the block where streams begin.
            count: G.
            tokens: S; longer texts are cut.
            places: M.
            seed: of the orders.

        Raises:
            UnsupportedOption: no text is long enough.
        """
        self._features, self._start = features, start
        self._count, self._tokens, self._places, self._seed = count, tokens, places, seed
        bounds = [
            (at, min(length, tokens), first)
            for at, length, first in features.bounds.tolist()
            if min(length, tokens) - first > 2
        ]
        if not bounds:
            raise UnsupportedOption(
                f"no text goes on for more than two tokens within {tokens}; give more text"
            )
        self._bounds = bounds
        self._packs = lru_cache(maxsize=2)(self._pack)
        self.of_a_pass = len(self._packs(0))

    @property
    def tokens(self) -> int:
        """S, tokens of texts in a batch."""
        return self._tokens

    @property
    def positions(self) -> int:
        """Places of a batch."""
        return self._places

    def at(self, step: int) -> StreamBatch:
        """The batch of a step, from 0."""
        turn = 0
        while step >= (n := len(self._packs(turn))):
            step, turn = step - n, turn + 1
        texts = self._packs(turn)[step]
        random = np.random.default_rng([self._seed, turn, step])
        open_places = np.concatenate(
            [
                np.arange(first, length - 2) + before
                for (_, length, first), before in zip(texts, _before(texts), strict=True)
            ]
        )
        found = random.choice(open_places, self._places, replace=len(open_places) < self._places)
        return self.read(texts, np.sort(found).astype(np.int32))

    def read(self, texts: Sequence[tuple[int, int, int]], places: NDArray[np.int32]) -> StreamBatch:
        """The batch of some places in some texts.

        Args:
            texts: start, length and first position each; S tokens together at most.
            places: (M,) among their tokens.
        """
        S, G, features = self._tokens, self._count, self._features
        rows = np.zeros(S, np.int64)
        tokens, positions = np.zeros(S, np.int32), np.zeros(S, np.int32)
        owners, ends = np.full(S, -1, np.int32), np.zeros(S, np.int64)
        for number, ((start, length, _), at) in enumerate(zip(texts, _before(texts), strict=True)):
            span = slice(at, at + length)
            rows[span] = np.arange(start, start + length)
            tokens[span] = features.tokens[start : start + length]
            positions[span] = np.arange(length)
            owners[span], ends[span] = number, at + length
        ahead = places[None] + np.arange(1, G + 1)[:, None]
        valid = ahead + 1 < ends[places][None]
        seen = rows[np.minimum(ahead, ends[places][None] - 1)]
        after = rows[np.minimum(ahead + 1, ends[places][None] - 1)]
        return StreamBatch(
            tokens,
            positions,
            owners,
            None if self._start is None else self._start[rows],
            places,
            features.hidden[seen],
            features.log_z[seen],
            np.where(valid, features.tokens[after], np.int32(-1)),
            valid,
        )

    def _pack(self, turn: int) -> list[list[tuple[int, int, int]]]:
        """Texts of a pass, as many in a batch as fit one after the other."""
        order = np.random.default_rng([self._seed, turn]).permutation(len(self._bounds))
        packs: list[list[tuple[int, int, int]]] = []
        used = self._tokens
        for number in order.tolist():
            text = self._bounds[number]
            if used + text[1] > self._tokens:
                packs.append([])
                used = 0
            packs[-1].append(text)
            used += text[1]
        return packs


def _before(texts: Sequence[tuple[int, int, int]]) -> list[int]:
    """Where each text begins in a batch."""
    return [0, *accumulate(length for _, length, _ in texts)][:-1]
