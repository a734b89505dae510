"""Splits a plan into what serves at once and what is opened meanwhile."""

from __future__ import annotations

from dataclasses import replace

from edgesdk.dispatch.candidates import Candidate
from edgesdk.dispatch.plan import Plan, may_take_over


def hold_back(plan: Plan) -> tuple[Plan, tuple[Candidate, ...]]:
    """Puts what runs on the CPU before the accelerators that a plan prefers.

    Args:
        plan: in order of preference.

    Returns:
        The plan with another order, and the accelerators that may take over from its first candidate that is
        not refused, in order. Where there are none, the plan is as it was, with a note that says why.
    """
    leading = []
    for pair in plan.attempts:
        if pair[0].device == pair[1].device == "cpu":
            break
        leading.append(pair)
    usable = [pair for pair in leading if pair[0].refusal is None and pair[1].refusal is None]
    if not usable:
        return plan, ()
    first = usable[0]
    if first[0] is not first[1]:
        return _noted(plan, "the phases run on two devices, which were opened before anything was served"), ()
    better = tuple(decode for prefill, decode in usable if prefill is decode)
    behind = plan.attempts[len(leading) :]
    serving = [
        (prefill, decode)
        for prefill, decode in behind
        if prefill is decode
        and decode.device == "cpu"
        and decode.refusal is None
        and may_take_over(first[1], decode)
    ]
    if not serving:
        what = f"{first[1].variant.name} on {first[1].device}"
        why = f"nothing on the CPU has the weights and at most the context of {what}, which was opened first"
        return _noted(plan, why), ()
    refused = [pair for pair in leading if pair not in usable]
    others = [pair for pair in behind if pair not in serving]
    return replace(plan, attempts=(*refused, *serving, *usable, *others)), better


def _noted(plan: Plan, note: str) -> Plan:
    return replace(plan, notes=(*plan.notes, note))
