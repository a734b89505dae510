"""How many tokens and branches a step may run: measured once, against a limit for the time between tokens.

The largest size whose step takes no longer than the limit, while other branches decode (Sarathi-Serve,
section 4.3), with all cells in use but those that the largest step takes: attention costs what S is, and
it is the long prompt that makes the others wait. Without a limit of the caller's it is four times the
smallest step in which eight branches decode, with few cells in use: who waits for a token then has company
anyway. The figures are the machine's as it is now: keep them and pass `token_budget` to repeat them.

Paper: Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgesdk.backends.cell_arrays import allocate_cells
from edgesdk.engine.engine_options import EngineOptions
from edgesdk.engine.scheduler import Policy
from edgesdk.kv.cell_list import CellList
from edgesdk.kv.step_entry import Wanted
from edgesdk.kv.step_runner import StepEntry, StepRunner

IDLE_STEPS = 4.0
"""The limit that is taken without one of the caller's, in steps in which `_COMPANY` branches decode."""

_COMPANY = 8
_RUNS = 3
_MOST_SEATS = 64
_PIECE = 256


@dataclass(frozen=True)
class BudgetProfile:
    """What the measurement gave.

    Attributes:
        step_ms: time of a full step with all cells in use, by its tokens, up to the first beyond the limit.
        target_ms: limit for the time between tokens.
        budget: most tokens of a step in which something decodes.
    """

    step_ms: Mapping[int, float]
    target_ms: float
    budget: int


def choose_policy(runner: StepRunner, options: EngineOptions) -> tuple[Policy, BudgetProfile | None]:
    """How steps are to be filled, and the measurement that says so; None where the budget is known."""
    profile = None
    if options.token_budget is None:
        profile = profile_budget(runner, options.tbt_target_ms)
    largest = runner.token_budgets[-1]
    budget = min(profile.budget if profile is not None else options.token_budget or 1, largest)
    policy = Policy(
        budget=budget,
        seats=min(options.max_running or budget, count_seats(runner, budget)),
        idle_budget=largest,
        chunked=options.chunked,
        hybrid=options.hybrid,
    )
    return policy, profile


def profile_budget(runner: StepRunner, target_ms: float | None = None) -> BudgetProfile:
    """Times full steps with one dummy sequence, smallest first until one is too long, and picks.

    Args:
        runner: idle; as it was before when this returns.
        target_ms: limit for the time between tokens; None for `IDLE_STEPS` steps.
    """
    # Smaller steps than those in which a piece of a prompt has company are not budgets worth measuring.
    sizes = [tokens for tokens in runner.token_budgets if tokens == 1 or tokens >= _COMPANY]
    sizes = sizes if len(sizes) > 1 else list(runner.token_budgets)
    step_ms: dict[int, float] = {}
    before = runner.new_list()
    try:
        if target_ms is None:
            shared = next((tokens for tokens in sizes if tokens > 1), sizes[0])
            target_ms = IDLE_STEPS * _step_ms(runner, before, shared, "all")
        _fill(runner, before, min(runner.context, runner.pool.capacity) - sizes[-1])
        for tokens in sizes:
            step_ms[tokens] = _step_ms(runner, before, tokens)
            if step_ms[tokens] > target_ms and len(step_ms) > 1:
                break
    finally:
        before.close()
    return BudgetProfile(step_ms, target_ms, pick_budget(step_ms, target_ms))


def pick_budget(step_ms: Mapping[int, float], target_ms: float) -> int:
    """The most tokens whose step is within the target; at least the second smallest size.

    A step of the smallest size, one token, could not hold a decode and a piece of a prompt together.
    """
    sizes = sorted(step_ms)
    within = [tokens for tokens in sizes if step_ms[tokens] <= target_ms]
    return max([*within, *sizes[:2]])


def count_seats(runner: StepRunner, budget: int) -> int:
    """Most branches whose next tokens one run of the model gives, within `budget` tokens a step."""
    seats = 1
    while seats < min(budget, _MOST_SEATS):
        sizes = {seats + 1, *(size for size in runner.token_budgets if size > seats)}
        if min(runner.most_rows(tokens) for tokens in sizes) <= seats:
            break
        seats += 1
    return seats


def _fill(runner: StepRunner, cells: CellList, count: int) -> None:
    """Has a list hold so many tokens without running them."""
    kv = allocate_cells(runner.pool.contract.new, _PIECE)
    for first in range(0, count, _PIECE):
        piece = min(_PIECE, count - first)
        runner.store(cells, np.zeros(piece, np.int32), kv.take(slice(piece)))


def _step_ms(runner: StepRunner, before: CellList, tokens: int, logits: Wanted = "last") -> float:
    """Median time of a step after a list; the first run, which may set something up, does not count."""
    times = []
    piece = np.zeros(min(tokens, runner.context), np.int32)
    for _ in range(_RUNS + 1):
        sequence = before.fork()
        try:
            began = time.perf_counter()
            runner.run([StepEntry(sequence, piece, logits)])
            times.append((time.perf_counter() - began) * 1e3)
        finally:
            sequence.close()
    return statistics.median(times[1:])
