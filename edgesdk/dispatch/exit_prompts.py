"""Many prompts, each run through as many segments as its answer needs, several in each step.

A segment runs for all prompts of a group before the next one does, so that a prompt of several steps can
leave as a whole, and those that have left are not in later steps. All may go on from a common beginning,
which has run through every segment. What was left early is not gone on with: its cells are given back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.protocol import Float, Int
from edgesdk.dispatch.exit_features import exit_features
from edgesdk.dispatch.exit_rule import ExitRule
from edgesdk.dispatch.exit_steps import ExitSteps, Lists
from edgesdk.errors import CapacityError
from edgesdk.kv.step_runner import StepEntry

GROUP = 16
"""Prompts that are open at once: as many as a step has rows for."""


@dataclass(eq=False)
class ExitedPrompt:
    """Where a prompt left.

    Attributes:
        place: of the prompt.
        tokens: that were run, without a common beginning.
        blocks: that they ran through.
        heads: how often the head was run for it.
        logits: (V,) at its last token, of the exit; (labels,) by a head over labels.
        seen: features at each exit that was looked at; none where neither rule nor watch reads them.
    """

    place: int
    tokens: int
    blocks: int = 0
    heads: int = 0
    logits: Float = field(default_factory=lambda: np.empty(0, np.float32))
    seen: list[NDArray[np.float64]] = field(default_factory=list)


Watch = Callable[[int, ExitedPrompt, Float], None]
"""Told of every exit: blocks that have run, the prompt, and its logits there."""


@dataclass(frozen=True)
class AskedLabels:
    """Tokens that alone may follow the prompts, for a head over labels.

    Attributes:
        tokens: (labels,) int32.
        offsets: (labels,) what is taken off their logits after so many blocks, before features are read.
    """

    tokens: Int
    offsets: Callable[[int], NDArray[np.float64]]


@dataclass(eq=False)
class _Open:
    prompt: ExitedPrompt
    ids: Int
    lists: Lists
    stream: Float
    done: int = 0
    changes: list[Float | None] = field(default_factory=list)


def run_prompts(
    steps: ExitSteps,
    prompts: Sequence[Int],
    rule: ExitRule | None,
    *,
    after: Lists | None = None,
    watch: Watch | None = None,
    labels: AskedLabels | None = None,
) -> Iterator[ExitedPrompt]:
    """Runs prompts in their order.

    Args:
        steps: that nobody else uses meanwhile.
        prompts: token ids, (n,) int32 each, n at least 1.
        rule: when to leave; None for never.
        after: a sequence that all prompts go on from; it stays as it is.
        watch: looks at every exit, although nobody leaves there; for training.
        labels: whoever looks asks the head over labels for these; None for the head over all tokens.

    Raises:
        CapacityError: a prompt does not fit the context, or the cells that are free.
        DeviceError: the backend failed.
    """
    begun = 0 if after is None else after[0].length
    room = min(runner.pool.capacity for runner in steps.runners) - begun
    for place, ids in enumerate(prompts):
        if begun + len(ids) > steps.context or len(ids) > room:
            raise CapacityError(
                f"text {place} has {begun + len(ids)} tokens, more than the context of {steps.context}; "
                "shorten it, or convert with a larger --context"
            )
    first = 0
    while first < len(prompts):
        count = used = 0
        while first + count < len(prompts) and count < GROUP and used + len(prompts[first + count]) <= room:
            used += len(prompts[first + count])
            count += 1
        yield from _run_group(steps, first, prompts[first : first + count], rule, after, watch, labels)
        first += count


def run_beginning(steps: ExitSteps, ids: Int) -> Lists:
    """A sequence of some tokens that has run through every segment; the caller closes its lists."""
    lists = steps.new_lists()
    try:
        done = 0
        while done < len(ids):
            count = steps.runners[0].piece(len(ids) - done)
            steps.run_through(lists, ids[done : done + count])
            done += count
    except BaseException:
        close_lists(lists)
        raise
    return lists


def close_lists(lists: Lists) -> None:
    """Gives the cells of a sequence back."""
    for each in lists:
        each.close()


def _run_group(
    steps: ExitSteps,
    first: int,
    prompts: Sequence[Int],
    rule: ExitRule | None,
    after: Lists | None,
    watch: Watch | None,
    labels: AskedLabels | None,
) -> list[ExitedPrompt]:
    E = steps.hidden_size
    opened = []
    try:
        for place, ids in enumerate(prompts, first):
            lists = steps.new_lists() if after is None else tuple(each.fork() for each in after)
            opened.append(
                _Open(ExitedPrompt(place, len(ids)), ids, lists, np.empty((len(ids), E), np.float32))
            )
        left = list(opened)
        for index, segment in enumerate(steps.stacks.segments):
            last = index + 1 == len(steps.stacks.segments)
            _run_segment(steps, index, left)
            asked = last or watch is not None or (rule is not None and rule.looks(segment.last))
            if not asked:
                continue
            offsets = 0.0 if labels is None else labels.offsets(segment.last)
            for one, logits in zip(left, _look(steps, left, labels), strict=True):
                one.prompt.heads += 1
                one.prompt.logits, one.prompt.blocks = logits, segment.last
                if not last and (watch is not None or (rule is not None and rule.reads_features)):
                    judged = logits if labels is None else logits - offsets
                    one.prompt.seen.append(exit_features(judged, one.stream[-1], one.changes))
                if watch is not None:
                    watch(segment.last, one.prompt, logits)
            if not last and rule is not None and watch is None:
                left = [one for one in left if not rule.leaves(segment.last, one.prompt.seen)]
            if not left:
                break
        return [one.prompt for one in opened]
    finally:
        for one in opened:
            close_lists(one.lists)


def _look(steps: ExitSteps, left: Sequence[_Open], labels: AskedLabels | None) -> Float:
    """Logits at the last token of each: (n, V), or (n, labels)."""
    streams = np.stack([one.stream[-1] for one in left])
    return steps.logits(streams) if labels is None else steps.label_logits(streams, labels.tokens)


def _run_segment(steps: ExitSteps, index: int, left: Sequence[_Open]) -> None:
    """One segment for all that are left, in steps that are as full as they come."""
    runner = steps.runners[index]
    for one in left:
        one.done = 0
    waiting = list(left)
    while waiting:
        total = sum(len(one.ids) - one.done for one in waiting)
        budget = min(runner.piece(total), total)
        most_rows = runner.most_rows(budget)
        entries: list[StepEntry] = []
        ran: list[tuple[_Open, int]] = []
        used = 0
        for one in waiting:
            count = min(len(one.ids) - one.done, budget - used)
            if count < 1 or len(entries) >= most_rows:
                break
            ends = one.done + count == len(one.ids)
            stream = one.stream[one.done : one.done + count] if index else None
            tokens = one.ids[one.done : one.done + count]
            entries.append(StepEntry(one.lists[index], tokens, "last" if ends else "none", stream=stream))
            ran.append((one, count))
            used += count
        runner.run(entries)
        for place, (one, count) in enumerate(ran):
            one.stream[one.done : one.done + count] = runner.streams[place]
            one.done += count
            if one.done == len(one.ids):
                one.changes = [rows[place] for rows in runner.changes]
        waiting = [one for one in waiting if one.done < len(one.ids)]
