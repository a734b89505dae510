"""Measures candidates within a budget, each in a process of its own, one after the other.

They are measured alone, because two at a time would measure each other. It can be cancelled at any moment:
what was not measured says so.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

from edgesdk.bundle.reader import Bundle
from edgesdk.bundle.records import from_json
from edgesdk.devices.measurement import Measurement
from edgesdk.devices.probes.answer import MARK
from edgesdk.devices.run_isolated import run_isolated
from edgesdk.dispatch.candidates import Candidate
from edgesdk.dispatch.measuring import BUDGET_S
from edgesdk.errors import BundleError

_LEAST_S = 0.5
"""Less than this is not worth starting a process for."""

Measure = Callable[[Bundle, Candidate, int, float, float, Callable[[], bool] | None], Measurement]
"""Measures one candidate, with the arguments of `measure_isolated`."""


def measure_all(
    bundle: Bundle,
    candidates: Sequence[Candidate],
    threads: int,
    *,
    budget_s: float = BUDGET_S,
    cancelled: Callable[[], bool] | None = None,
    say: Callable[[str], None] | None = None,
    one: Measure | None = None,
) -> tuple[Measurement, ...]:
    """Measures candidates in order, each with an equal part of the time that is left.

    Args:
        bundle: their bundle.
        candidates: in order of preference; refused ones are not run.
        threads: CPU threads.
        budget_s: seconds for all.
        cancelled: asked often; ends the measurement when it says so.
        say: told before each.
        one: measures one; `measure_isolated` when None.

    Returns:
        A row for each candidate, in order.
    """
    ends = time.monotonic() + budget_s
    one = one or measure_isolated
    left = sum(candidate.refusal is None for candidate in candidates)
    rows = []
    for candidate in candidates:
        if candidate.refusal is not None:
            rows.append(_without(candidate, candidate.refusal))
            continue
        seconds = ends - time.monotonic()
        if cancelled is not None and cancelled():
            rows.append(_without(candidate, "not measured: it was cancelled"))
        elif seconds < _LEAST_S:
            rows.append(_without(candidate, f"not measured: the budget of {budget_s:g} s was spent"))
        else:
            if say is not None:
                say(f"measuring {candidate.variant.name} with {candidate.backend.name} on {candidate.device}")
            share = seconds / left
            # A slow one may take from the others, but leaves each half of its part.
            rows.append(one(bundle, candidate, threads, share, share + (seconds - share) / 2, cancelled))
        left -= 1
    return tuple(rows)


def measure_isolated(
    bundle: Bundle,
    candidate: Candidate,
    threads: int,
    aim_s: float,
    limit_s: float,
    cancelled: Callable[[], bool] | None,
) -> Measurement:
    """Measures one candidate in a process of its own.

    Args:
        bundle: its bundle.
        candidate: not refused.
        threads: CPU threads.
        aim_s: seconds from now after which it begins no new round.
        limit_s: seconds until it is ended.
        cancelled: asked every 50 ms.
    """
    variant, backend, device = candidate.key
    arguments = (str(bundle.path.resolve()), variant, backend, device, str(threads), f"{aim_s:.3f}")
    begun = f"{time.time():.3f}"
    ended = run_isolated(
        ("-m", "edgesdk.dispatch.measure_candidate", *arguments, begun), limit_s, cancelled=cancelled
    )
    marked = [line for line in ended.text.splitlines() if line.startswith(MARK)]
    cut = ended.stopped and marked and not (cancelled is not None and cancelled())
    # It tells its figures after every round, so one that was cut short has some.
    if not marked or (ended.reason is not None and not cut):
        return _without(candidate, f"measuring failed: {ended.reason or 'it gave no answer'}")
    try:
        found = from_json(Measurement, json.loads(marked[-1][len(MARK) :]), "measurement")
    except (ValueError, RecursionError, BundleError) as error:
        return _without(candidate, f"measuring failed: its answer cannot be read: {error}")
    return (
        found
        if found.key == candidate.key
        else _without(candidate, "measuring failed: it answered for another")
    )


def _without(candidate: Candidate, reason: str) -> Measurement:
    return Measurement(candidate.variant.name, candidate.backend.name, candidate.device, reason=reason)
