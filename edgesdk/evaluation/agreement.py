"""Perplexity, KL divergence and top-1 agreement of a model against a reference, position by position.

Positions are kept and summed up without rounding in between (`math.fsum`), so that parts of a text that were
scored by several workers give the very figures that one worker gives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
Wide = NDArray[np.float64]

_BLOCK_ROWS = 64
"""Rows whose probabilities are held at once, in float64: 25 MB each at 50,000 words."""


@dataclass(frozen=True)
class AgreementReport:
    """Means over all positions.

    Attributes:
        positions: scored positions.
        perplexity: exp of the mean negative log-likelihood of the text, of the model.
        reference_perplexity: of the reference; None when there is none.
        perplexity_ratio: the first over the second.
        kl_nats: mean KL(reference || model).
        top1_agreement: share of positions where both find the same token most likely.
        kl_p99_nats: KL(reference || model) that 99 of 100 positions do not exceed (between two positions,
            linearly): a mean of 0.01 may hide one answer in a hundred that goes elsewhere.
    """

    positions: int
    perplexity: float
    reference_perplexity: float | None = None
    perplexity_ratio: float | None = None
    kl_nats: float | None = None
    top1_agreement: float | None = None
    kl_p99_nats: float | None = None


@dataclass(frozen=True)
class ScoredPositions:
    """What is kept of each position: 25 bytes in place of V logits.

    Attributes:
        loss: (n,) float64, negative log-likelihood of the token that follows, in nats.
        reference_loss: (n,) float64, of the reference; (0,) where there is none.
        kl: (n,) float64, KL(reference || model) in nats; (0,) without a reference.
        same: (n,) bool, whether both find the same token most likely; (0,) without a reference.
    """

    loss: Wide
    reference_loss: Wide
    kl: Wide
    same: NDArray[np.bool_]

    def report(self) -> AgreementReport:
        """The means, the same bits in whatever order and in how many parts the positions came.

        Raises:
            ValueError: there are none.
        """
        if not len(self.loss):
            raise ValueError("no position was scored: the text has fewer than two tokens")
        loss = math.fsum(self.loss) / len(self.loss)
        perplexity = perplexity_of(loss)
        if not len(self.kl):
            return AgreementReport(len(self.loss), perplexity)
        reference = math.fsum(self.reference_loss) / len(self.kl)
        return AgreementReport(
            positions=len(self.loss),
            perplexity=perplexity,
            reference_perplexity=perplexity_of(reference),
            perplexity_ratio=perplexity_of(loss - reference),
            kl_nats=math.fsum(self.kl) / len(self.kl),
            top1_agreement=int(self.same.sum()) / len(self.kl),
            kl_p99_nats=float(np.percentile(self.kl, 99)),
        )


def join_positions(parts: Sequence[ScoredPositions]) -> ScoredPositions:
    """One after the other."""
    if not parts:
        nothing = np.empty(0)
        return ScoredPositions(nothing, nothing, nothing, np.empty(0, np.bool_))
    return ScoredPositions(
        np.concatenate([part.loss for part in parts]),
        np.concatenate([part.reference_loss for part in parts]),
        np.concatenate([part.kl for part in parts]),
        np.concatenate([part.same for part in parts]),
    )


class Agreement:
    """Counts positions; logits are dropped as soon as they are counted."""

    def __init__(self) -> None:
        """Nothing counted yet."""
        self._parts: list[ScoredPositions] = []

    def add(self, tokens: NDArray[np.int32], logits: Logits, reference: Logits | None = None) -> None:
        """Counts one text.

        Args:
            tokens: (n,) the text.
            logits: (n, V) the model's, after each token; the last row is not scored.
            reference: (n, V) the reference's.
        """
        reference_rows = None if reference is None else reference[: len(tokens) - 1]
        self.add_rows(tokens[1:], logits[: len(tokens) - 1], reference_rows)

    def add_rows(self, following: NDArray[np.int32], logits: Logits, reference: Logits | None = None) -> None:
        """Counts single positions.

        Args:
            following: (n,) the token that follows each position in its text.
            logits: (n, V) the model's.
            reference: (n, V) the reference's.
        """
        for start in range(0, len(following), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            truth = None if reference is None else reference[block]
            self._parts.append(_score_rows(following[block], logits[block], truth))

    @property
    def scored(self) -> ScoredPositions:
        """The positions so far, in the order in which they were counted."""
        return join_positions(self._parts)

    def report(self) -> AgreementReport:
        """The means so far.

        Raises:
            ValueError: nothing was counted.
        """
        return self.scored.report()


def _score_rows(following: NDArray[np.int32], logits: Logits, reference: Logits | None) -> ScoredPositions:
    """Rows of logits, each with the token that follows it in the text."""
    rows = np.arange(len(following))
    model = log_softmax(logits)
    loss = -model[rows, following]
    if reference is None:
        nothing = np.empty(0)
        return ScoredPositions(loss, nothing, nothing, np.empty(0, np.bool_))
    truth = log_softmax(reference)
    divergence = (np.exp(truth) * (truth - model)).sum(axis=-1)
    return ScoredPositions(loss, -truth[rows, following], divergence, model.argmax(-1) == truth.argmax(-1))


def perplexity_of(loss: float) -> float:
    """exp of a mean loss in nats; infinite where a broken model puts it beyond floating point."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def log_softmax(logits: Logits) -> NDArray[np.float64]:
    """Log-probabilities of each row, in float64: sums over 50,000 float32 terms lose digits."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return wide
