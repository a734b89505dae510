"""Chooses by measurement what runs each phase, for a goal. Plain arithmetic on figures.

Every goal is a cost of one reference request; the cheapest wins. Prefill and decode may go to different
candidates where the host owns the cells of both, if that saves enough to pay for two copies of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from edgesdk.devices.measurement import Measurement, PhaseFigures

Goal = Literal["latency", "throughput", "power", "memory"]
GOALS: tuple[Goal, ...] = get_args(Goal)

PROMPT_TOKENS = 256
NEW_TOKENS = 64
"""The request whose cost is compared: a question with some context, and a short answer."""

SPLIT_GAIN = 0.05
"""Share of the cost that two candidates must save over the best single one."""


@dataclass(frozen=True)
class Choice:
    """What is to run.

    Attributes:
        prefill: for prompts.
        decode: for the tokens after them; the same one unless the phases are split.
        cost: of the reference request, in the unit of the goal.
        ranking: every measured candidate, the cheapest first; what to fall back to.
    """

    prefill: Measurement
    decode: Measurement
    cost: float
    ranking: tuple[Measurement, ...]


def choose(measured: Sequence[Measurement], goal: Goal) -> Choice | None:
    """The cheapest for a goal.

    Args:
        measured: candidates that give equal results, in order of preference, which breaks ties.
        goal: `latency`: time of one request alone. `throughput`: the same with several answers per step.
            `power`: energy where it could be measured of all, else processor time. `memory`: peak memory.

    Returns:
        The choice; None when nothing was measured.
    """
    able = [m for m in measured if m.prefill is not None and m.decode is not None]
    if goal == "memory":
        able = [m for m in able if m.peak_rss_bytes is not None]
    if not able:
        return None
    energy = all(_figures(m)[i].joules_per_token is not None for m in able for i in (0, 1))
    ranking = sorted(able, key=lambda m: cost(m, m, goal, energy=energy))
    best = ranking[0]
    lowest = cost(best, best, goal, energy=energy)
    pair, split = (best, best), lowest
    if goal != "memory":
        joinable = [m for m in able if m.host_cells]
        for prefill in joinable:
            for decode in joinable:
                total = cost(prefill, decode, goal, energy=energy)
                if prefill is not decode and total < split:
                    pair, split = (prefill, decode), total
    if split > lowest * (1 - SPLIT_GAIN):
        pair, split = (best, best), lowest
    return Choice(*pair, split, tuple(ranking))


def cost(prefill: Measurement, decode: Measurement, goal: Goal, *, energy: bool = False) -> float:
    """Cost of the reference request: milliseconds, bytes, joules, or milliseconds of processor time.

    Args:
        prefill: runs the prompt; measured.
        decode: runs the rest; measured.
        goal: as in `choose`.
        energy: whether joules are known of both.
    """
    if goal == "memory":
        return float(prefill.peak_rss_bytes or 0)
    prompt, new = _figures(prefill)[0], _figures(decode)[1]
    if goal == "throughput" and decode.batch is not None:
        new = decode.batch
    if goal == "power":
        return PROMPT_TOKENS * _effort(prompt, energy) + NEW_TOKENS * _effort(new, energy)
    return 1e3 * (PROMPT_TOKENS / prompt.tokens_per_s + NEW_TOKENS / new.tokens_per_s)


def _effort(figures: PhaseFigures, energy: bool) -> float:
    if energy and figures.joules_per_token is not None:
        return figures.joules_per_token
    return figures.cpu_ms_per_token


def _figures(measured: Measurement) -> tuple[PhaseFigures, PhaseFigures]:
    if measured.prefill is None or measured.decode is None:
        raise ValueError(f"{measured.key} was not measured")
    return measured.prefill, measured.decode
