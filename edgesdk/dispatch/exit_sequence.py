"""One sequence that generates through segments, and may leave early at each token it is given alone.

Prompts, and tokens that come several at once, run through the whole decoder: to the last bit what it gives.
For a token that leaves, keys and values of the blocks that were not run are made of the exit's stream, and
later tokens see those; so answers differ from there on, and the figures say how often. It keeps no prefix and
gives no snapshot: its cells are nobody else's. Paper: AdaInfer (IJCAI 2025); the fill is that of CALM
(Schuster et al., 2022, section 3.2).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.protocol import Between, Float, Int
from edgesdk.backends.sequence_room import check_room
from edgesdk.dispatch.exit_features import exit_features
from edgesdk.dispatch.exit_rule import ExitRule, Head
from edgesdk.dispatch.exit_steps import ExitSteps


@dataclass(frozen=True)
class ExitFigures:
    """What leaving early did to an answer, or to a text that was classified.

    Attributes:
        exits: steps by how many blocks they ran, those that ran all included.
        heads: how often the head was run.
        blocks_share: blocks that were run, of those of the whole model; the head not counted.
        work_share: multiplications of these steps, heads and fills counted, of those without exits.
        filled: tokens that have keys and values made of an exit's stream in some blocks.
        head: which one was run: that of all tokens, or that over labels.
    """

    exits: Mapping[int, int]
    heads: int
    blocks_share: float
    work_share: float
    filled: int = 0
    head: Head = "all"


class ExitSequence:
    """Implements `TokenSequence` over `ExitSteps`, which it owns."""

    def __init__(self, steps: ExitSteps, rule: ExitRule) -> None:
        """Starts empty.

        Args:
            steps: whose pools are this sequence's alone.
            rule: when to leave.
        """
        self._steps = steps
        self._rule = rule
        self._lists = steps.new_lists()
        self._counts: dict[int, int] = {}
        self._heads = 0

    @property
    def context(self) -> int:
        """Most tokens it can hold."""
        return self._steps.context

    @property
    def length(self) -> int:
        """Tokens it holds."""
        return self._lists[0].length

    @property
    def figures(self) -> ExitFigures:
        """Of the tokens that were given alone."""
        return exit_figures(self._steps, self._counts, self._heads, filled=True)

    def extend(self, tokens: Int, between: Between | None = None) -> Float:
        """As `protocol.TokenSequence` has it; it leaves early for one token behind others, never for several.

        Raises:
            CapacityError: they do not fit; nothing has changed.
            DeviceError: the backend failed.
        """
        total = len(tokens)
        check_room(total, self.length, self.context)
        steps = self._steps
        if total == 1 and self.length:
            return self._next(tokens)
        done = 0
        while done < total:
            if done and between is not None:
                between()
            count = steps.runners[0].piece(total - done)
            stream, _ = steps.run_through(self._lists, tokens[done : done + count])
            done += count
        logits: Float = steps.logits(stream[None])[0]
        return logits

    def _next(self, token: Int) -> Float:
        rule = self._rule
        seen: list[NDArray[np.float64]] = []
        found: list[Float] = []
        segments = self._steps.stacks.segments

        def leave(place: int, stream: Float, changes: list[Float | None]) -> bool:
            blocks = segments[place].last
            if not rule.looks(blocks):
                return False
            found.append(self._steps.logits(stream[None])[0])
            if rule.reads_features:
                seen.append(exit_features(found[-1], stream, changes))
            return rule.leaves(blocks, seen)

        stream, run = self._steps.run_through(self._lists, token, leave)
        if run == len(segments):
            found.append(self._steps.logits(stream[None])[0])
        blocks = segments[run - 1].last
        self._counts[blocks] = self._counts.get(blocks, 0) + 1
        self._heads += len(found)
        return found[-1]

    def score(self, tokens: Int) -> Float:
        """As `protocol.TokenSequence` has it, without leaving early: (n, V) float32."""
        check_room(len(tokens), self.length, self.context)
        found = [self._score_one(tokens[i : i + 1]) for i in range(len(tokens))]
        return np.stack(found)

    def _score_one(self, token: Int) -> Float:
        stream, _ = self._steps.run_through(self._lists, token)
        logits: Float = self._steps.logits(stream[None])[0]
        return logits

    def truncate(self, length: int) -> None:
        """Forgets all tokens from `length` on.

        Raises:
            CapacityError: it does not hold as many.
        """
        for each in self._lists:
            each.truncate(length)

    def close(self) -> None:
        """Releases the cells; the backend stays open."""
        for each in self._lists:
            each.close()
        self._steps.close()


class ExitLog:
    """What has left early since a model was loaded; from any thread."""

    def __init__(self, blocks: int) -> None:
        """Starts empty, for a model of so many blocks."""
        self._blocks = blocks
        self._counts: dict[int, int] = {}
        self._by_labels = 0
        self._lock = threading.Lock()

    def add(self, figures: ExitFigures) -> None:
        """Counts the steps or texts of one answer."""
        with self._lock:
            for blocks, count in figures.exits.items():
                self._counts[blocks] = self._counts.get(blocks, 0) + count
                self._by_labels += count if figures.head == "labels" else 0

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for the receipt; none as long as nobody asked for exits."""
        with self._lock:
            counts, by_labels = dict(sorted(self._counts.items())), self._by_labels
        total = sum(counts.values())
        if not total:
            return ()
        share = sum(blocks * count for blocks, count in counts.items()) / (self._blocks * total)
        told = ", ".join(f"{count} after {blocks}" for blocks, count in counts.items())
        apart = f", {by_labels} by a head over labels" if by_labels else ""
        return (
            f"early exits: {share:.0%} of {self._blocks} blocks were run in {total} steps ({told}){apart}",
        )


def exit_figures(
    steps: ExitSteps,
    counts: Mapping[int, int],
    heads: int,
    *,
    filled: bool,
    tokens: Mapping[int, int] | None = None,
    labels: int | None = None,
) -> ExitFigures:
    """Sums up what was run.

    Args:
        steps: whose segments.
        counts: answers by the blocks that they ran.
        heads: how often the head was run.
        filled: whether what was not run was filled up.
        tokens: tokens of these answers by the blocks that they ran; None for one each.
        labels: how many the head over labels was asked for; None where the head of all tokens was run.
    """
    cost, blocks = steps.cost, steps.stacks.blocks
    head: Head = "all" if labels is None else "labels"
    weights = counts if tokens is None else tokens
    steps_run = sum(counts.values())
    total = sum(weights.values())
    if not total:
        return ExitFigures({}, heads, 1.0, 1.0, head=head)
    work = heads * cost.look(labels) + sum(cost.of(last) * count for last, count in weights.items())
    if filled:
        work += sum(sum(cost.fills[last:]) * count for last, count in weights.items())
    whole = cost.of(blocks) * total + cost.head * steps_run
    early = sum(count for last, count in counts.items() if last < blocks)
    return ExitFigures(
        dict(sorted(counts.items())),
        heads,
        sum(last * count for last, count in weights.items()) / (blocks * total),
        work / whole,
        early if filled else 0,
        head,
    )
