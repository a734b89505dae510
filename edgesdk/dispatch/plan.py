"""What is to run a bundle, in a fixed order: the registry's.

It needs no measurement and gives the same on every load. What a goal makes of it: `plan_for_goal`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgesdk.backends.registry import Backend
from edgesdk.bundle.manifest import Variant
from edgesdk.devices.choose import Goal
from edgesdk.devices.measurement import Measurement
from edgesdk.dispatch.candidates import Candidate


@dataclass(frozen=True)
class Plan:
    """What to open.

    Attributes:
        attempts: pairs of prefill and decode, in order; the same candidate twice where phases are not split.
        goal: what they were ordered for; None for the fixed order.
        choice: as in `Receipt`.
        measured: what the order was made from.
        notes: for the receipt.
    """

    attempts: tuple[tuple[Candidate, Candidate], ...]
    goal: Goal | None = None
    choice: str = "fixed order"
    measured: tuple[Measurement, ...] = ()
    notes: tuple[str, ...] = ()


def plan_in_order(candidates: Sequence[Candidate]) -> Plan:
    """The fixed order: for each backend and device, the first variant that suits it."""
    first: dict[tuple[str, str], Candidate] = {}
    for candidate in candidates:
        first.setdefault((candidate.backend.name, candidate.device), candidate)
    return Plan(tuple((candidate, candidate) for candidate in first.values()))


def same_results(variant: Variant, other: Variant) -> bool:
    """Whether one variant may take over from another: the same weights by their numbers, and the same cells.

    Names do not say so: of one file's blocks, targets of one recipe can hold other numbers.
    """
    return _what_counts(variant) == _what_counts(other)


def _what_counts(variant: Variant) -> tuple[object, ...]:
    return variant.numbers, variant.recipe, variant.cell_type, variant.decoder


def may_take_over(candidate: Candidate, mine: Candidate) -> bool:
    """Whether a candidate can go on with what another has begun: same weights, no smaller context."""
    return (
        candidate.key != mine.key
        and candidate.refusal is None
        and same_results(candidate.variant, mine.variant)
        and candidate.variant.context >= mine.variant.context
    )


def backends_for_goal(backends: Sequence[Backend]) -> tuple[Backend, ...]:
    """Backends that a goal considers: those that are tried unasked, then those of other devices.

    Args:
        backends: `edgesdk.backends.registry.BACKENDS`.
    """
    others = [b for b in backends if not b.automatic and set(b.device_classes) - {"cpu"}]
    return (*(b for b in backends if b.automatic), *others)
