"""Perplexity, KL divergence and top-1 agreement of a model against a reference, position by position."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]

_BLOCK_ROWS = 64
"""Rows whose probabilities are held at once, in float64: 25 MB each at 50,000 words."""


@dataclass(frozen=True)
class AgreementReport:
    """Sums over all positions, as means.

    Attributes:
        positions: scored positions.
        perplexity: exp of the mean negative log-likelihood of the text, of the model.
        reference_perplexity: of the reference; None when there is none.
        perplexity_ratio: the first over the second.
        kl_nats: mean KL(reference || model).
        top1_agreement: share of positions where both find the same token most likely.
    """

    positions: int
    perplexity: float
    reference_perplexity: float | None = None
    perplexity_ratio: float | None = None
    kl_nats: float | None = None
    top1_agreement: float | None = None


class Agreement:
    """Adds up positions; logits are dropped as soon as they are counted."""

    def __init__(self) -> None:
        """Nothing counted yet."""
        self._positions = self._compared = self._same = 0
        self._loss = self._reference_loss = self._divergence = 0.0

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
            self._add_block(following[block], logits[block], None if reference is None else reference[block])

    def _add_block(self, following: NDArray[np.int32], logits: Logits, reference: Logits | None) -> None:
        """Counts rows of logits, each with the token that follows it in the text."""
        rows = np.arange(len(following))
        model = log_softmax(logits)
        self._positions += len(following)
        self._loss -= float(model[rows, following].sum())
        if reference is None:
            return
        truth = log_softmax(reference)
        self._compared += len(following)
        self._reference_loss -= float(truth[rows, following].sum())
        self._divergence += float((np.exp(truth) * (truth - model)).sum())
        self._same += int((model.argmax(-1) == truth.argmax(-1)).sum())

    def report(self) -> AgreementReport:
        """The means so far.

        Raises:
            ValueError: nothing was counted.
        """
        if not self._positions:
            raise ValueError("no position was scored: the text has fewer than two tokens")
        perplexity = perplexity_of(self._loss / self._positions)
        if not self._compared:
            return AgreementReport(self._positions, perplexity)
        reference = perplexity_of(self._reference_loss / self._compared)
        return AgreementReport(
            positions=self._positions,
            perplexity=perplexity,
            reference_perplexity=reference,
            perplexity_ratio=perplexity_of(
                self._loss / self._positions - self._reference_loss / self._compared
            ),
            kl_nats=self._divergence / self._compared,
            top1_agreement=self._same / self._compared,
        )


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
