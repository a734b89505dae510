"""How close the vectors of a variant that gives states only are to the float32 evaluator's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VectorFigures:
    """Vectors of some texts beside the reference's (`evaluation.vector_agreement`).

    Attributes:
        texts: how many.
        longest_tokens: tokens of the longest.
        cosine_mean: between a text's two vectors, mean of all texts.
        cosine_least: the least of them.
        order_agreement: share of triples of texts of which both find the same second or third nearer to the
            first.
    """

    texts: int
    longest_tokens: int
    cosine_mean: float
    cosine_least: float
    order_agreement: float


@dataclass(frozen=True)
class VectorParity:
    """What was measured of an emitted variant, as executed, and the gate of its recipe.

    Attributes:
        backend: which backend ran it.
        figures: measured at conversion.
        gate_cosine: `convert` fails where the least cosine is below.
        gate_order: likewise of the order.
        against: what the reference is: the source, and what was left out of it before.
    """

    backend: str
    figures: VectorFigures
    gate_cosine: float
    gate_order: float
    against: str = "the source"
