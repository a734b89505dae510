"""Layer budgets: as many parts of a stack removed as its perplexity, or a number of layers, allows.

    perplexity=1.05          whole blocks, while perplexity is at most 1.05 times the whole stack's
    perplexity=1.05,halves   attention and feed-forward halves
    layers=26                whole blocks, until 26 are left

Parts go in the order of a ranking on one share of the sample text; the other share, which the ranking
has not seen, says how far. There the upper end of a one-sided 95 % interval must be within the budget,
not the mean: scored positions are few, and the text to come is another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import UnsupportedOption
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import ResidentWeights
from edgesdk_converters.layers.rank_layers import (
    LayerRanking,
    Method,
    RankOptions,
    Unit,
    rank_layers,
    stack_parts,
)
from edgesdk_converters.layers.repair_stack import RepairMethod, repair_stack
from edgesdk_converters.layers.trial import Text, text_losses
from edgesdk_converters.transforms.skip_layers import skip_layers
from edgesdk_converters.transforms.skip_request import SkipRequest

Measure = Literal["perplexity", "layers"]

CHECKED_EVERY = 3
"""One text in so many checks what the others have chosen."""

_ONE_SIDED_95 = 1.645
_REPAIR_WINS = 3.0
"""A ranking that a repair follows goes on until the loss is this many times the budget's."""

_GRAMMAR = "expected for example perplexity=1.05 or perplexity=1.05,halves or layers=26"


@dataclass(frozen=True)
class LayerBudget:
    """What may be lost, or what must be left.

    Attributes:
        measure: `perplexity` (ratio to the whole stack) or `layers` (blocks that are left).
        limit: of it.
        unit: what is removed.
    """

    measure: Measure
    limit: float
    unit: Unit = "block"


@dataclass(frozen=True)
class CurvePoint:
    """A stack without the first parts of a ranking, on text that the ranking has not seen.

    Attributes:
        removed: how many parts.
        request: which, in the grammar of `--skip-layers`.
        perplexity_ratio: to the whole stack.
        upper_ratio: end of its one-sided 95 % interval over the scored positions.
        repaired: whether its gaps were repaired.
    """

    removed: int
    request: str
    perplexity_ratio: float
    upper_ratio: float
    repaired: bool


@dataclass(frozen=True)
class LayerChoice:
    """The answer of a search.

    Attributes:
        request: what to remove.
        program: the stack without it, repaired if that was asked for.
        ranking: the order that was followed.
        curve: every stack that was measured.
        chosen: the point of this one.
    """

    request: SkipRequest
    program: Program
    ranking: LayerRanking
    curve: tuple[CurvePoint, ...]
    chosen: CurvePoint


def parse_layer_budget(text: str) -> LayerBudget:
    """Parses the value of `--layer-budget`.

    Raises:
        UnsupportedOption: it is not in the grammar above, or no stack can meet it.
    """
    first, _, rest = text.partition(",")
    name, _, number = (part.strip() for part in first.partition("="))
    unit: Unit = "half" if rest.strip() == "halves" else "block"
    if name == "perplexity" and rest.strip() in ("", "halves"):
        try:
            limit = float(number)
        except ValueError:
            limit = math.nan
        if math.isfinite(limit) and limit > 1:
            return LayerBudget("perplexity", limit, unit)
        raise UnsupportedOption(f"layer-budget {text[:60]!r} has no ratio above 1; {_GRAMMAR}")
    if name == "layers" and not rest:
        if number.isascii() and number.isdigit() and 1 <= len(number) <= 5 and int(number) > 0:
            return LayerBudget("layers", int(number))
        raise UnsupportedOption(f"layer-budget {text[:60]!r} leaves no whole number of layers; {_GRAMMAR}")
    raise UnsupportedOption(f"layer-budget {text[:60]!r} is unknown; {_GRAMMAR}")


def split_texts(texts: Sequence[Text]) -> tuple[list[Text], list[Text]]:
    """Texts to rank on, and texts to check with.

    Raises:
        UnsupportedOption: there is only one.
    """
    if len(texts) < 2:
        raise UnsupportedOption(f"{len(texts)} calibration texts cannot be split; give at least 2")
    every = min(CHECKED_EVERY, len(texts))
    return [t for i, t in enumerate(texts) if (i + 1) % every], list(texts[every - 1 :: every])


def choose_layers(
    program: Program,
    texts: Sequence[Text],
    budget: LayerBudget,
    *,
    method: Method = "greedy",
    repair: RepairMethod | None = None,
    report: Callable[[str], None] | None = None,
) -> LayerChoice:
    """Removes what a budget allows.

    Args:
        program: the decoder, in float32.
        texts: token ids; some rank and repair, the others check.
        budget: the limit.
        method: of the ranking.
        repair: of the gaps; None leaves them.
        report: told how far it is.

    Raises:
        UnsupportedOption: nothing can be removed within the budget, or the stack is no larger.
    """
    say = report or (lambda line: None)
    seen, unseen = split_texts(texts)
    program = Program(program.spec, program.graph, ResidentWeights(program.weights), program.history)
    blocks = len(stack_parts(program, "block"))
    remove = None
    if budget.measure == "layers":
        remove = blocks - int(budget.limit)
        if remove < 1:
            raise UnsupportedOption(
                f"{budget.limit:g} layers are to be left of {blocks}, so nothing would be removed; expected "
                f"layers=1 to layers={blocks - 1}"
            )
    most = None if remove is not None else math.exp(math.log(budget.limit) * (_REPAIR_WINS if repair else 1))
    options = RankOptions(method, remove, budget.unit, most_ratio=most)
    ranking = rank_layers(program, seen, options, report)
    judge = Judge(program, ranking, seen, unseen, repair, say)
    if remove is not None:
        shallow, point = judge.measure(remove)
        return LayerChoice(ranking.request(remove), shallow, ranking, (point,), point)
    curve: list[CurvePoint] = []
    best: tuple[Program, CurvePoint] | None = None
    for count in range(1, len(ranking.removals) + 1):
        shallow, point = judge.measure(count)
        curve.append(point)
        if point.upper_ratio > budget.limit:
            break
        best = (shallow, point)
    if best is None:
        raise UnsupportedOption(
            f"nothing can be removed within perplexity {budget.limit:g}: without {curve[0].request} it is "
            f"{curve[0].perplexity_ratio:.3f} times the whole stack's, at most {curve[0].upper_ratio:.3f} "
            f"with 95 % confidence; use a larger budget{'' if budget.unit == 'half' else ' or halves'}"
        )
    return LayerChoice(ranking.request(best[1].removed), best[0], ranking, tuple(curve), best[1])


class Judge:
    """Measures stacks without the first parts of a ranking."""

    def __init__(
        self,
        program: Program,
        ranking: LayerRanking,
        seen: Sequence[Text],
        unseen: Sequence[Text],
        repair: RepairMethod | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        """Scores the whole stack.

        Args:
            program: the whole stack; its weights should be in memory.
            ranking: of its parts.
            seen: texts to fit repairs on.
            unseen: texts to measure on.
            repair: of the gaps; None leaves them.
            report: told how far it is.
        """
        self._program = program
        self._ranking = ranking
        self._seen, self._unseen = seen, unseen
        self._repair = repair
        self._say = report or (lambda line: None)
        self._whole = text_losses(program, unseen)

    def measure(self, count: int) -> tuple[Program, CurvePoint]:
        """The stack without the first `count` parts, and how it does."""
        request = self._ranking.request(count)
        shallow = skip_layers(self._program, request)
        if self._repair is not None:
            repaired = repair_stack(
                self._program, shallow, self._seen, self._repair, report=self._say
            ).program
            # Computed once: every later text would multiply the matrices again.
            kept = ResidentWeights(repaired.weights)
            shallow = Program(repaired.spec, repaired.graph, kept, repaired.history)
        ratio, upper = _ratio(text_losses(shallow, self._unseen) - self._whole)
        self._say(f"without {request.describe()}: perplexity ratio {ratio:.4f}, at most {upper:.4f}")
        return shallow, CurvePoint(count, request.describe(), ratio, upper, self._repair is not None)


def _ratio(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Perplexity ratio and its upper end, from nats lost at each position."""
    mean = float(differences.mean())
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    return math.exp(mean), math.exp(mean + _ONE_SIDED_95 * spread / math.sqrt(len(differences)))
