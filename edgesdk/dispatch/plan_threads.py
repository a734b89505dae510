"""How many threads a goal is served best with, by measurement.

More threads are not always faster: siblings of one core share its arithmetic, slow cores hold fast ones up,
and decoding is bound by memory that half the cores may saturate. For power, threads that wait cost as much
as threads that work. So the candidates that a goal chose are measured again with the other numbers that the
processor suggests. A number that was asked for is not questioned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgesdk.bundle.reader import Bundle
from edgesdk.devices.choose import Goal, choose
from edgesdk.devices.cpu import Processor, read_processor
from edgesdk.dispatch.candidates import Candidate
from edgesdk.dispatch.measuring import AS_NEEDED, Measuring
from edgesdk.dispatch.plan import Plan
from edgesdk.dispatch.plan_for_goal import MEASURED_NOW, plan_for_goal

_GAIN = 0.03
"""Share of the cost that another number must save: less is noise."""

_FIRST_PART = 0.6
"""Part of the time for measuring that goes to the comparison of candidates."""


def thread_counts(processor: Processor) -> tuple[int, ...]:
    """Numbers of threads worth comparing: every core first, then physical, fast, and half of the cores."""
    cores = processor.cores
    fast = processor.groups[0].cores if processor.groups else cores
    wanted = (cores, processor.physical_cores or cores, fast, cores // 2)
    return tuple(dict.fromkeys(min(count, cores) for count in wanted if count))


def plan_threads(
    bundle: Bundle,
    candidates: Sequence[Candidate],
    goal: Goal,
    measuring: Measuring = AS_NEEDED,
) -> tuple[Plan, int]:
    """A plan for a goal, and the number of threads to run it with.

    Args:
        bundle: the bundle.
        candidates: that may be used, in order of preference.
        goal: `memory` takes every core, which hardly changes it.
        measuring: whether and how far to measure.
    """
    first, *others = thread_counts(read_processor())
    if goal == "memory":
        others = []
    share = measuring.budget_s * _FIRST_PART if others else measuring.budget_s
    plan = plan_for_goal(bundle, candidates, goal, first, replace(measuring, budget_s=share))
    chosen = choose(plan.measured, goal)
    if chosen is None or not others or all(c.device != "cpu" for c in plan.attempts[0]):
        return plan, first
    costs = {first: chosen.cost}
    best, threads, choice = plan, first, plan.choice
    for count in others:
        other = plan_for_goal(
            bundle,
            list({candidate.key: candidate for candidate in plan.attempts[0]}.values()),
            goal,
            count,
            replace(measuring, budget_s=(measuring.budget_s - share) / len(others)),
        )
        if other.choice == MEASURED_NOW:
            choice = other.choice
        found = choose(other.measured, goal)
        if found is not None:
            costs[count] = found.cost
            if found.cost < costs[threads] * (1 - _GAIN):
                behind = [pair for pair in plan.attempts if pair not in other.attempts]
                attempts = (*other.attempts, *behind)
                best, threads = replace(plan, attempts=attempts, measured=other.measured), count
    compared = ", ".join(f"{count}: {cost:.4g}" for count, cost in costs.items())
    note = f"threads by measurement: {threads} (cost for {goal} by threads: {compared})"
    return replace(best, choice=choice, notes=(*best.notes, note)), threads
