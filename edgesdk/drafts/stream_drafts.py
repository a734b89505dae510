"""Guesses of a model's own streams: what rows behind the answer's last token said in the step before.

A guess costs nothing; what costs are the streams' rows, and `StreamPlaces` says where they stand. Streams say
each place by itself, so the second likeliest token of a place stands beside the first. These are point
drafts: sampled answers stay those of their seed.

Bhendawade et al.: Speculative Streaming (arXiv 2402.11131); Samragh et al.: Your LLM Knows the Future
(2507.11851).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from edgesdk.decoding.draft import DraftRequest
from edgesdk.drafts.guess import Guess

_LEAST_SHARES = (0.0, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.92)
"""Tokens to which a stream gives at least so much are of a kind: the likeliest of all that it has, the
second of what the likeliest leaves. Either has kinds of its own, and so have the first stream and others."""

_PRIORS = (0.1, 0.18, 0.28, 0.4, 0.5, 0.6, 0.72, 0.85)
_SECOND_PRIORS = (0.05, 0.1, 0.18, 0.27, 0.36, 0.45, 0.55, 0.65)
_LEAST_REACH = 0.05


class StreamDrafts:
    """Implements `Source` over what streams said."""

    @property
    def name(self) -> str:
        """What it is called."""
        return "streams"

    @property
    def priors(self) -> Sequence[float]:
        """By stream, the first or another; by rank; by the share that it gives."""
        return (*_PRIORS, *_SECOND_PRIORS) * 2

    @property
    def asks_model(self) -> bool:
        """The step that went before has been run in any case."""
        return False

    @property
    def price_s(self) -> float:
        """Nothing: rows of streams are weighed where they stand."""
        return 0.0

    @property
    def nbytes(self) -> int:
        """Nothing of its own."""
        return 0

    def guess(self, asked: Sequence[DraftRequest]) -> list[Guess | None]:
        """A chain for each answer, with the second token beside each; None where no stream has spoken."""
        return [_guess(request) for request in asked]

    def forget(self, key: int) -> None:
        """It keeps nothing of an answer."""

    def close(self) -> None:
        """It holds nothing."""


def _guess(request: DraftRequest) -> Guess | None:
    ahead = request.ahead
    if ahead is None:
        return None
    # The first stream says the token after the first that is pending: others may be known already.
    begin = request.pending - 1
    rows: list[tuple[int, int, int]] = []
    at, reach = -1, 1.0
    for depth in range(min(request.deepest, len(ahead.tokens) - begin)):
        tokens = ahead.tokens[begin + depth].tolist()
        shares = ahead.shares[begin + depth].tolist()
        kinds = 0 if begin + depth == 0 else len(_PRIORS) + len(_SECOND_PRIORS)
        if len(rows) >= request.most or reach < _LEAST_REACH:
            break
        first = len(rows)
        rows.append((tokens[0], at, kinds + _kind_of(shares[0])))
        if len(tokens) > 1 and len(rows) < request.most:
            left = max(1.0 - shares[0], shares[1])
            second = _kind_of(shares[1] / left if left else 0.0)
            rows.append((tokens[1], at, kinds + len(_PRIORS) + second))
        at, reach = first, reach * shares[0]
    return Guess(*zip(*rows, strict=True)) if rows else None


def _kind_of(share: float) -> int:
    return bisect_right(_LEAST_SHARES, share) - 1
