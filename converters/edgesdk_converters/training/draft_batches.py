"""Batches for a draft: windows of consecutive positions of texts, so that neighbours share the target's work.

The batch of a step is a function of seed and number of the step alone: a run that goes on needs to know no
more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import UnsupportedOption
from edgesdk_converters.training.features import Features

WINDOW = 32
"""Positions of a window."""


@dataclass(frozen=True)
class DraftBatch:
    """B windows of W positions, with the K positions behind each.

    Attributes:
        hidden: (B, W + K, E) float16.
        log_z: (B, W + K) float32.
        tokens: (B, W + K) int32.
        valid: (K, B, W) bool: whether a text goes that far.
        follows: (K, B, W) int32: the token after that; -1 where the text ends.
    """

    hidden: NDArray[np.float16]
    log_z: NDArray[np.float32]
    tokens: NDArray[np.int32]
    valid: NDArray[np.bool_]
    follows: NDArray[np.int32]


class DraftBatches:
    """All windows of all texts, in an order that changes with every pass."""

    def __init__(self, features: Features, depth: int, windows: int, seed: int) -> None:
        """Finds the windows.

        Args:
            features: of texts.
            depth: K, how far drafts go.
            windows: B, of a batch.
            seed: of the orders.

        Raises:
            UnsupportedOption: there are fewer windows than in a batch.
        """
        self._features, self._depth, self._count, self._seed = features, depth, windows, seed
        found = [
            (start + at, start + length)
            for start, length, first in features.bounds.tolist()
            for at in range(first, length - 1, WINDOW)
        ]
        self._windows = np.array(found, np.int64).reshape(-1, 2)
        self.of_a_pass = len(self._windows) // windows
        if not self.of_a_pass:
            raise UnsupportedOption(
                f"the texts give {len(self._windows)} windows of {WINDOW} tokens, expected {windows} or more;"
                " give more text"
            )

    @property
    def positions(self) -> int:
        """Positions of a batch, those beyond the end of a text among them."""
        return self._count * WINDOW

    def at(self, step: int) -> DraftBatch:
        """The batch of a step, from 0."""
        turn, place = divmod(step, self.of_a_pass)
        order = np.random.default_rng([self._seed, turn]).permutation(len(self._windows))
        return self._read(self._windows[order[place * self._count : (place + 1) * self._count]])

    def _read(self, windows: NDArray[np.int64]) -> DraftBatch:
        K = self._depth
        starts, ends = windows[:, :1], windows[:, 1:]
        rows = starts + np.arange(WINDOW + K + 1)
        there = rows < ends
        states = np.minimum(rows, ends - 1)
        tokens = self._features.tokens[states]
        behind = np.where(there, tokens, np.int32(-1))
        seen = states[:, : WINDOW + K]
        return DraftBatch(
            self._features.hidden[seen],
            self._features.log_z[seen],
            tokens[:, : WINDOW + K],
            np.stack([there[:, k : k + WINDOW] for k in range(1, K + 1)]),
            np.stack([behind[:, k : k + WINDOW] for k in range(2, K + 2)]),
        )
