"""Where streams stand in a step: behind the tokens that are likely to be the answer's last ones after it.

A row of a stream costs what any row costs, and is worth something only if its token turns out to be the last
one that is kept: then the next step has a draft. So each place is worth the chance of that times what the
streams' guesses bring, and costs its rows now and those of the guesses in the step after.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgesdk.decoding.draft import Draft, DraftRequest
from edgesdk.drafts.trials import Trials
from edgesdk.drafts.worth import LEAST_GAIN


@dataclass(frozen=True)
class StreamStep:
    """What a step has before streams are added.

    Attributes:
        rows: of tokens that it runs, for all answers together.
        expected: tokens that it brings, about.
        answers: how many go on in it.
        most: further rows that it may run.
    """

    rows: int
    expected: float
    answers: int
    most: int


def choose_places(
    last: Sequence[float], step: StreamStep, rate: float, count: int, cost: Callable[[int, int], float]
) -> tuple[int, int]:
    """How many of some places get streams, and how many each.

    Args:
        last: for each place the chance that it is the last one kept, the largest first.
        step: that they are added to.
        rate: how often a guess of a stream is kept, where the one before it is.
        count: G, the streams that there are.
        cost: time of a step of so many tokens and so many streams.

    Returns:
        Places and streams for each; (0, 0) where none pays.

    Example:
        >>> choose_places([0.6, 0.4], StreamStep(2, 1.4, 1, 8), 0.6, 2, lambda n, m: 1 + 0.1 * (n + m - 1))
        (2, 1)
    """
    best = LEAST_GAIN * step.expected / cost(step.rows, 0)
    found = (0, 0)
    worth = 0.0
    for each in range(1, count + 1):
        worth += rate**each
        later = cost(step.answers + each, 0) - cost(step.answers, 0)
        reach = 0.0
        for places, chance in enumerate(last, start=1):
            if places * each > step.most:
                break
            reach += chance
            seconds = cost(step.rows, places * each) + reach * later
            speed = (step.expected + reach * worth) / seconds
            if speed > best:
                best, found = speed, (places, each)
    return found


class StreamPlaces:
    """Adds streams to drafts."""

    def __init__(self, count: int) -> None:
        """Starts without figures.

        Args:
            count: G, the streams that the model has.
        """
        self._count = count
        self._trials = Trials()

    def add(
        self,
        asked: Sequence[DraftRequest],
        drafts: Sequence[Draft | None],
        chances: Sequence[Sequence[float]],
        *,
        rate: float | None,
        cost: Callable[[int, int], float],
    ) -> list[Draft | None]:
        """Drafts with streams in them.

        Args:
            asked: the answers that the step goes on with.
            drafts: for each.
            chances: for each the chance of every drafted token to be kept, predecessors included.
            rate: how often a guess of a stream is kept; None to add all that there is room for.
            cost: time of a step of so many tokens and so many streams.
        """
        places = _places(drafts, chances)
        drafted = sum(0 if draft is None else len(draft.tokens) for draft in drafts)
        most = max(request.most for request in asked) - drafted
        if rate is None:
            taken, each = len(places), self._count
        else:
            rows = sum(request.pending for request in asked) + drafted
            expected = len(asked) + sum(map(sum, chances))
            step = StreamStep(rows, expected, len(asked), most)
            taken, each = choose_places([chance for chance, *_ in places], step, rate, self._count, cost)
            if not self._trials.due(taken > 0):
                return list(drafts)
            taken, each = taken or 1, each or 1  # one place is tried where none pays
        behind: list[list[int]] = [[] for _ in asked]
        for _, answer, node in places[:taken]:
            behind[answer].append(node)
        found = []
        for request, draft, nodes in zip(asked, drafts, behind, strict=True):
            room = min(most, request.most - (0 if draft is None else len(draft.tokens)))
            more = hang_streams(draft, nodes, each, room, request.deepest)
            most -= 0 if more is None else len(more.tokens) - (0 if draft is None else len(draft.tokens))
            found.append(more)
        return found


def hang_streams(
    draft: Draft | None, nodes: Sequence[int], each: int, room: int, deepest: int
) -> Draft | None:
    """A draft with streams behind some of its rows, as far as there is room.

    Args:
        draft: of tokens; None for none.
        nodes: rows of it, -1 for what comes before it.
        each: streams behind each.
        room: further rows that it may have.
        deepest: most rows one after the other.
    """
    if draft is not None and draft.chances is not None:
        return draft  # what was drawn is judged as it is
    count = 0 if draft is None else len(draft.tokens)
    depths = [] if draft is None else draft.depths().tolist()
    parents: list[int] = []
    numbers: list[int] = []
    for node in nodes:
        depth = depths[node] + 1 if node >= 0 else 0
        for number in range(1, each + 1):
            if len(parents) >= room or depth + number > deepest:
                break
            parents.append(node if number == 1 else count + len(parents) - 1)
            numbers.append(number)
    if not parents:
        return draft
    zeros = np.zeros(len(parents), np.int32)
    tokens, before = (zeros[:0], zeros[:0]) if draft is None else (draft.tokens, draft.parents)
    return Draft(
        np.concatenate([tokens, zeros]),
        np.concatenate([before, np.array(parents, np.int32)]),
        streams=np.concatenate([np.zeros(count, np.int32), np.array(numbers, np.int32)]),
    )


def _places(
    drafts: Sequence[Draft | None], chances: Sequence[Sequence[float]]
) -> list[tuple[float, int, int]]:
    """Chance to be the last one kept, answer and row of every place, the likeliest first."""
    places = []
    for answer, (draft, reach) in enumerate(zip(drafts, chances, strict=True)):
        last = [1.0, *reach]
        if draft is not None:
            for parent, chance in zip(draft.parents.tolist(), reach, strict=True):
                last[parent + 1] -= chance
        places += [(max(chance, 0.0), answer, row - 1) for row, chance in enumerate(last)]
    return sorted(places, key=lambda place: -place[0])
