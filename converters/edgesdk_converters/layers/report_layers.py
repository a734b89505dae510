"""The account of a ranking: what each part is worth, and what the stack loses as they go.

The curve is measured on texts that the ranking has not seen, with and without a repair of the gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import ResidentWeights
from edgesdk_converters.layers.budget import CurvePoint, Judge, split_texts
from edgesdk_converters.layers.rank_layers import LayerRanking, RankOptions, rank_layers
from edgesdk_converters.layers.repair_stack import RepairMethod
from edgesdk_converters.layers.trial import Text


@dataclass(frozen=True)
class LayerReport:
    """A ranking and what comes of it.

    Attributes:
        checkpoint: its name.
        text: name of the sample.
        text_sha256: its digest.
        checked_tokens: in the texts that the curve was measured on.
        repair: method of the repaired curve; None without one.
        ranking: of the stack's parts.
        curve: the stack without the first 1, 2, ... parts of the ranking.
        repaired: the same with repaired gaps; empty without a repair.
    """

    checkpoint: str
    text: str
    text_sha256: str
    checked_tokens: int
    repair: RepairMethod | None
    ranking: LayerRanking
    curve: tuple[CurvePoint, ...]
    repaired: tuple[CurvePoint, ...]


def report_layers(
    checkpoint: str,
    program: Program,
    texts: Sequence[Text],
    sample: tuple[str, str],
    options: RankOptions,
    *,
    repair: RepairMethod | None = None,
    report: Callable[[str], None] | None = None,
) -> LayerReport:
    """Ranks the parts of a stack and measures it without the first ones.

    Args:
        checkpoint: its name.
        program: the decoder, in float32.
        texts: token ids; some rank and repair, the others check.
        sample: name and digest of what the texts were taken from.
        options: of the ranking.
        repair: of the gaps, for a second curve.
        report: told how far it is.

    Raises:
        UnsupportedOption: more is to be removed than can be.
        TransformError: there is no text to measure on.
    """
    seen, unseen = split_texts(texts)
    program = Program(program.spec, program.graph, ResidentWeights(program.weights), program.history)
    ranking = rank_layers(program, seen, options, report)
    counts = range(1, len(ranking.removals) + 1)
    plain = Judge(program, ranking, seen, unseen, None, report)
    curve = tuple(plain.measure(count)[1] for count in counts)
    repaired: tuple[CurvePoint, ...] = ()
    if repair is not None:
        judge = Judge(program, ranking, seen, unseen, repair, report)
        repaired = tuple(judge.measure(count)[1] for count in counts)
    checked = sum(len(text) for text in unseen)
    return LayerReport(checkpoint, *sample, checked, repair, ranking, curve, repaired)
