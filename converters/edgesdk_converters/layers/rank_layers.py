"""Ranks the parts of a stack by what it loses without them, on sample text.

    influence   1 - cosine of the stream before and after a part; one run (ShortGPT, arXiv 2403.03853)
    loss        loss without the part alone; the tail of a run for each
    greedy      the same again after every removal, for the parts that looked cheapest
    random      an order drawn at random, to compare with

A greedy step measures only the `width` cheapest of the last known prices: prices mostly grow as others
go, so what was dear stays dear. Parts are whole blocks or halves; a price is loss per weight saved, so
that a half of a block competes fairly with the other. The same input gives the same ranking; text that
the ranking has not seen judges it (`edgesdk_converters.layers.budget`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from edgesdk.errors import TransformError, UnsupportedOption
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import ResidentWeights
from edgesdk_converters.layers.trial import Text, Trial
from edgesdk_converters.transforms.skip_layers import remaining_spec, skip_layers
from edgesdk_converters.transforms.skip_request import SkipRequest, parse_skip, whole_blocks

Method = Literal["influence", "loss", "greedy", "random"]
Unit = Literal["block", "half"]

WIDTH = 6


@dataclass(frozen=True)
class RankOptions:
    """How parts are ranked.

    Attributes:
        method: see above.
        remove: how many removals are wanted; None for all that leave one attention.
        unit: whole blocks or halves.
        seed: of `random`.
        width: parts that a step of `greedy` measures.
        most_ratio: `greedy` ends with the removal that brings the perplexity above so many times the whole
            stack's; None for any.
    """

    method: Method = "greedy"
    remove: int | None = None
    unit: Unit = "block"
    seed: int = 0
    width: int = WIDTH
    most_ratio: float | None = None

    def __post_init__(self) -> None:
        """Refuses what cannot be ranked.

        Raises:
            UnsupportedOption: the method or the unit is unknown.
        """
        if self.method not in get_args(Method) or self.unit not in get_args(Unit):
            raise UnsupportedOption(
                f"ranking by {self.method} of every {self.unit} is unknown; expected "
                f"{', '.join(get_args(Method))} of {' or '.join(get_args(Unit))}"
            )


_PLURAL: Mapping[Unit, str] = {"block": "blocks", "half": "halves"}


@dataclass(frozen=True)
class PartScore:
    """One part of the whole stack.

    Attributes:
        part: in the grammar of `--skip-layers`, e.g. `5` or `5.mlp`.
        weights: numbers that are saved without it.
        influence: 1 - mean cosine of the stream before and after it.
        loss_increase: nats per token that the stack loses without it alone; None where the method does
            not ask.
    """

    part: str
    weights: int
    influence: float
    loss_increase: float | None


@dataclass(frozen=True)
class LayerRanking:
    """Parts of a stack in the order in which it can do without them.

    Attributes:
        method: how they were ranked.
        unit: what they are.
        texts: that were used.
        tokens: in them.
        positions: scored ones.
        loss: of the whole stack, nats per scored token.
        scores: every part, in the order in which it runs.
        removals: parts in the order in which they should go, cheapest first.
        losses: of the stack after each removal, for `greedy`; otherwise empty.
    """

    method: Method
    unit: Unit
    texts: int
    tokens: int
    positions: int
    loss: float
    scores: tuple[PartScore, ...]
    removals: tuple[str, ...]
    losses: tuple[float, ...] = ()

    def request(self, count: int) -> SkipRequest:
        """The first `count` removals together.

        Raises:
            UnsupportedOption: fewer were ranked.
        """
        if not 0 <= count <= len(self.removals):
            raise UnsupportedOption(f"{count} removals were asked for, {len(self.removals)} were ranked")
        found = SkipRequest()
        for part in self.removals[:count]:
            found |= parse_skip(part)
        return found


def rank_layers(
    program: Program,
    texts: Sequence[Text],
    options: RankOptions | None = None,
    report: Callable[[str], None] | None = None,
) -> LayerRanking:
    """Ranks the parts of a stack.

    Args:
        program: the decoder, in float32.
        texts: token ids to measure on.
        options: how; None for all blocks, greedily.
        report: told how far it is.

    Raises:
        UnsupportedOption: more is to be removed than can be.
        TransformError: there is no text to measure on.
    """
    options = options or RankOptions()
    method, unit = options.method, options.unit
    parts = stack_parts(program, unit)
    limit = len(parts) - 1
    remove = limit if options.remove is None else options.remove
    if not 1 <= remove <= limit:
        raise UnsupportedOption(
            f"{remove} of {len(parts)} {_PLURAL[unit]} were to be removed; expected 1 to {limit}, one stays"
        )
    say = report or (lambda line: None)
    program = Program(program.spec, program.graph, ResidentWeights(program.weights), program.history)
    say("running the whole stack")
    trial = Trial(program, texts)
    scores = _scores(trial, parts, say, losses=method in ("loss", "greedy"))
    losses: tuple[float, ...] = ()
    if method == "greedy":
        most = np.inf if options.most_ratio is None else float(np.log(options.most_ratio))
        removals, losses = _greedy(trial, texts, parts, scores, remove, options.width, most, say)
    else:
        removals = _removable(program, parts, _order(method, scores, options.seed))[:remove]
    return LayerRanking(
        method=method,
        unit=unit,
        texts=len(texts),
        tokens=sum(len(text) for text in texts),
        positions=len(trial.losses),
        loss=trial.loss,
        scores=scores,
        removals=tuple(parts[i].describe() for i in removals),
        losses=losses,
    )


def reorder(
    program: Program, ranking: LayerRanking, method: Method, *, remove: int, seed: int = 0
) -> LayerRanking:
    """The parts of a ranking in the order of another method, from the scores that it has.

    Args:
        program: the stack that was ranked.
        ranking: its scores, with losses where `method` is `loss`.
        method: `influence`, `loss` or `random`.
        remove: how many removals are wanted.
        seed: of `random`.

    Raises:
        UnsupportedOption: the scores do not say it.
    """
    if method == "greedy" or (method == "loss" and any(s.loss_increase is None for s in ranking.scores)):
        raise UnsupportedOption(f"a ranking by {method} cannot come from one by {ranking.method}; rank again")
    scores = ranking.scores
    if method == "influence":
        scores = tuple(dataclasses.replace(score, loss_increase=None) for score in scores)
    order = _order(method, scores, seed)
    removals = _removable(program, stack_parts(program, ranking.unit), order)[:remove]
    return dataclasses.replace(
        ranking,
        method=method,
        scores=scores,
        removals=tuple(ranking.scores[i].part for i in removals),
        losses=(),
    )


def stack_parts(program: Program, unit: Unit) -> tuple[SkipRequest, ...]:
    """The parts of a stack in the order in which they run; of a half block, what is left."""
    there = program.spec.halves
    if unit == "half":
        return tuple(SkipRequest((half,)) for half in there)
    blocks = [set(whole_blocks([layer]).halves) for layer in sorted({half.layer for half in there})]
    return tuple(SkipRequest(tuple(block.intersection(there))) for block in blocks)


def _scores(
    trial: Trial, parts: Sequence[SkipRequest], say: Callable[[str], None], *, losses: bool
) -> tuple[PartScore, ...]:
    total = _numbers(trial.program)
    found = []
    for i, part in enumerate(parts):
        if losses:
            say(f"measuring the stack without {part.describe()} ({i + 1} of {len(parts)})")
        found.append(
            PartScore(
                part=part.describe(),
                weights=total - _numbers(_without(trial.program, part)),
                influence=trial.influence(part),
                loss_increase=float(trial.losses_without(part).mean()) - trial.loss if losses else None,
            )
        )
    return tuple(found)


def _order(method: Method, scores: Sequence[PartScore], seed: int) -> list[int]:
    if method == "random":
        return [int(i) for i in np.random.default_rng(seed).permutation(len(scores))]
    found = [_price(s, s.influence if s.loss_increase is None else s.loss_increase) for s in scores]
    return sorted(range(len(scores)), key=lambda i: (found[i], i))


def _price(score: PartScore, increase: float) -> float:
    return increase / max(score.weights, 1)


def _greedy(
    trial: Trial,
    texts: Sequence[Text],
    parts: Sequence[SkipRequest],
    scores: Sequence[PartScore],
    remove: int,
    width: int,
    most: float,
    say: Callable[[str], None],
) -> tuple[list[int], tuple[float, ...]]:
    """Removals in order, and the loss after each; the last one may lose more than `most`."""
    whole = trial.loss
    increases = {i: score.loss_increase or 0.0 for i, score in enumerate(scores)}
    chosen: list[int] = []
    losses: list[float] = []
    while len(chosen) < remove:
        ranked = sorted(increases, key=lambda i: (_price(scores[i], increases[i]), i))
        tried = _removable(trial.program, parts, ranked, together=False)[:width]
        if not tried:
            break
        if chosen:  # the first step has just measured every part
            names = ", ".join(parts[i].describe() for i in tried)
            say(f"removal {len(chosen) + 1} of at most {remove}: trying {names}")
            for i in tried:
                increases[i] = float(trial.losses_without(parts[i]).mean()) - trial.loss
        best = min(tried, key=lambda i: (_price(scores[i], increases[i]), i))
        chosen.append(best)
        losses.append(trial.loss + increases.pop(best))
        say(f"removed {parts[best].describe()}, perplexity {np.exp(losses[-1]):.2f}")
        if losses[-1] - whole > most:
            break
        if len(chosen) < remove:
            trial = Trial(skip_layers(trial.program, parts[best]), texts)
    return chosen, tuple(losses)


def _removable(
    program: Program, parts: Sequence[SkipRequest], order: Sequence[int], *, together: bool = True
) -> list[int]:
    """Those parts of an order that leave a decoder: one after the other, or each alone."""
    found: list[int] = []
    spec = program.spec
    for i in order:
        try:
            left, _ = remaining_spec(spec, parts[i])
        except TransformError:
            continue
        found.append(i)
        spec = left if together else spec
    return found


def _without(program: Program, part: SkipRequest) -> Program:
    try:
        return skip_layers(program, part)
    except TransformError:  # the only attention; it is scored all the same, and never removed
        return program


def _numbers(program: Program) -> int:
    return sum(int(np.prod(program.weights.shape(value.name))) for value in program.graph.weights)
