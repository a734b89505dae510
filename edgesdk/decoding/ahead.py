"""What streams say of the tokens after the next one: further rows of a step, behind one of its tokens.

A model that was given streams (`convert --streams`) has rows that are no tokens: stream j behind a token says
the token j + 1 places after it, without knowing those between. They are judged by nobody and never kept.
After a step those behind the last token that an answer has are what its next draft is made of. This module
reads them; where they are put is the drafter's business (`edgesdk.drafts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.protocol import Float, Int

LIKELIEST = 2
"""Tokens that are known of each stream: as many as a draft takes of it."""


@dataclass(frozen=True, eq=False, slots=True)
class Ahead:
    """What the streams behind a token say.

    Attributes:
        tokens: (g, k) int32, the likeliest of each stream, the best first.
        shares: (g, k) float32, their probabilities.
    """

    tokens: Int
    shares: NDArray[np.float32]


def stream_rows(parents: Int, streams: Int, at: int) -> list[int]:
    """The rows of the streams behind a row of a draft.

    Args:
        parents: (n,) int32 of the draft.
        streams: (n,) int32, the number of each row that is a stream, 0 for tokens.
        at: of the draft; -1 for the token before it.

    Example:
        >>> stream_rows(np.array([-1, -1, 1, 0, 3]), np.array([0, 1, 2, 1, 2]), -1)
        [1, 2]
    """
    found: list[int] = []
    for row, (parent, number) in enumerate(zip(parents.tolist(), streams.tolist(), strict=True)):
        if number == len(found) + 1 and parent == at:
            found.append(row)
            at = row
    return found


def read_ahead(logits: Float, rows: Sequence[int]) -> Ahead | None:
    """What some streams say.

    Args:
        logits: (n, V) float32; left as they are.
        rows: of the streams, in order.

    Returns:
        None where there is no stream, or the first says what is no number; else those before one that does.
    """
    tokens, shares = [], []
    for row in rows:
        found = logits[row]
        k = min(LIKELIEST, len(found))
        best = np.argpartition(found, -k)[-k:]
        best = best[np.argsort(-found[best], kind="stable")]
        powers = np.exp(found - found[best[0]])
        total = float(powers.sum())
        if not np.isfinite(total):
            break
        tokens.append(best.astype(np.int32))
        shares.append((powers[best] / total).astype(np.float32))
    return Ahead(np.stack(tokens), np.stack(shares)) if tokens else None
