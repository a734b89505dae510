"""How many tokens a step may run: measured once, against a limit for the time between tokens.

The largest size whose step takes no longer than the limit, while other branches decode (Sarathi-Serve,
section 4.3), with every cell in use: attention costs what S is, and it is the long prompt that makes
the others wait. Without a limit of the caller's it is four times the smallest step in which several
branches decode, with few cells in use: who waits for a token then has company anyway. The figures are
the machine's as it is now: keep them and pass `token_budget` to repeat them.

Paper: Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.kv.step_runner import StepEntry, StepRunner

IDLE_STEPS = 4.0
"""The limit that is taken without one of the caller's, in steps in which several branches decode."""

_RUNS = 3
_MOST_SEATS = 64
_FILL = 256


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


def profile_budget(runner: StepRunner, spec: DecoderSpec, target_ms: float | None = None) -> BudgetProfile:
    """Times full steps with one dummy sequence, smallest first until one is too long, and picks.

    Args:
        runner: idle; as it was before when this returns.
        spec: the model's shape.
        target_ms: limit for the time between tokens; None for `IDLE_STEPS` steps.
    """
    sizes, cells = runner.token_budgets, min(runner.context, runner.pool.capacity)
    if target_ms is None:
        shared = next((tokens for tokens in sizes if tokens > 1), sizes[0])
        target_ms = IDLE_STEPS * _step_ms(runner, spec, shared, 0)
    step_ms: dict[int, float] = {}
    for tokens in sizes:
        step_ms[tokens] = _step_ms(runner, spec, tokens, max(0, cells - tokens))
        if step_ms[tokens] > target_ms and len(step_ms) > 1:
            break
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


def _step_ms(runner: StepRunner, spec: DecoderSpec, tokens: int, used: int) -> float:
    """Median time of a step after `used` tokens; the first, which may set something up, does not count."""
    times = []
    piece = np.zeros(min(tokens, runner.context), np.int32)
    before = runner.new_list()
    try:
        kv = np.zeros((len(spec.layers), 2, spec.kv_heads, _FILL, spec.head_size), np.float32)
        for first in range(0, used, _FILL):
            count = min(_FILL, used - first)
            runner.store(before, np.zeros(count, np.int32), kv[..., :count, :])
        for _ in range(_RUNS + 1):
            sequence = before.fork()
            began = time.perf_counter()
            runner.run([StepEntry(sequence, piece)])
            times.append((time.perf_counter() - began) * 1e3)
            sequence.close()
    finally:
        before.close()
    return statistics.median(times[1:])
