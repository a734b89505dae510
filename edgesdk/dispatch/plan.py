"""What is to run a bundle: a fixed order, or what was measured for a goal.

Without a goal the order is the registry's: it needs no measurement and gives the same on every load. A goal
asks for measurement, once for each bundle and machine. A goal never changes how the model was quantised: a
coarser recipe is nearly always faster, and that is the user's to decide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edgesdk.backends import registry
from edgesdk.backends.registry import Backend
from edgesdk.bundle.manifest import Variant
from edgesdk.bundle.reader import Bundle
from edgesdk.devices.choose import Goal, choose
from edgesdk.devices.cpu import read_processor
from edgesdk.devices.discover import installed_version
from edgesdk.devices.measurement import Measurement
from edgesdk.devices.measurement_cache import key_facts, read_measurements, write_measurements
from edgesdk.devices.system_devices import driver_versions
from edgesdk.dispatch.candidates import Candidate
from edgesdk.dispatch.measure import BUDGET_S, measure_all


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
    """Whether two variants hold the same weights, so that one may take over from the other."""
    return (variant.recipe, variant.cell_type, variant.decoder) == (
        other.recipe,
        other.cell_type,
        other.decoder,
    )


def may_take_over(candidate: Candidate, mine: Candidate) -> bool:
    """Whether a candidate can go on with what another has begun: same weights, no smaller context."""
    return (
        candidate.key != mine.key
        and candidate.refusal is None
        and same_results(candidate.variant, mine.variant)
        and candidate.variant.context >= mine.variant.context
    )


def plan_for_goal(
    bundle: Bundle,
    candidates: Sequence[Candidate],
    goal: Goal,
    threads: int,
    *,
    measure: bool | None = None,
    budget_s: float = BUDGET_S,
    cancelled: Callable[[], bool] | None = None,
    say: Callable[[str], None] | None = None,
) -> Plan:
    """The order of what was measured, measuring what was not.

    Args:
        bundle: the bundle.
        candidates: that may be used, in order of preference.
        goal: see `edgesdk.devices.choose.choose`.
        threads: CPU threads.
        measure: None to measure what is not in the cache; False never; True anew.
        budget_s: seconds for measuring.
        cancelled: ends the measurement early when it says so.
        say: told what is being measured.

    Returns:
        The plan; the fixed order with a note where nothing could be measured.
    """
    usable = [candidate for candidate in candidates if candidate.refusal is None]
    alike = [c for c in candidates if usable and same_results(c.variant, usable[0].variant)]
    facts = _facts(bundle, threads)
    known = {} if measure is True else _known(facts)
    lacking = [candidate for candidate in alike if candidate.key not in known]
    choice = "measured before"
    if lacking and measure is not False:
        choice = "measured now"
        known = _measure(bundle, facts, alike, known, threads, budget_s, cancelled, say)
    measured = tuple(known[candidate.key] for candidate in alike if candidate.key in known)
    chosen = choose(measured, goal)
    if chosen is None:
        note = f"nothing was measured for the goal {goal!r}, so the fixed order was used"
        return replace(plan_in_order(candidates), goal=goal, measured=measured, notes=(note,))
    by_key = {candidate.key: candidate for candidate in alike}
    pairs = [(by_key[chosen.prefill.key], by_key[chosen.decode.key])]
    singles = [by_key[m.key] for m in chosen.ranking]
    # What could not be measured still stands behind what could.
    singles += [c for c in alike if c not in singles and c.refusal is None]
    pairs += [(single, single) for single in singles if (single, single) != pairs[0]]
    return Plan(tuple(pairs), goal, choice, measured)


def _measure(
    bundle: Bundle,
    facts: dict[str, str],
    candidates: Sequence[Candidate],
    known: dict[tuple[str, str, str], Measurement],
    threads: int,
    budget_s: float,
    cancelled: Callable[[], bool] | None,
    say: Callable[[str], None] | None,
) -> dict[tuple[str, str, str], Measurement]:
    """Measures what is not known and keeps it.

    Drivers are not asked beforehand whether they are there: each candidate is opened in a process of its own.
    """
    lacking = [candidate for candidate in candidates if candidate.key not in known]
    stopped: list[bool] = []

    def stop() -> bool:
        if cancelled is not None and cancelled():
            stopped.append(True)
        return bool(stopped)

    rows_now = measure_all(bundle, lacking, threads, budget_s=budget_s, cancelled=stop, say=say)
    found = {**known, **{row.key: row for row in rows_now}}
    # Without any figures there is nothing to choose from, so the next load tries again.
    if not stopped and any(row.reason is None for row in rows_now):
        write_measurements(facts, list(found.values()))
    return found


def known_measurements(bundle: Bundle, threads: int) -> tuple[Measurement, ...]:
    """What was measured of a bundle on this machine; empty when nothing was."""
    return tuple(_known(_facts(bundle, threads)).values())


def _known(facts: dict[str, str]) -> dict[tuple[str, str, str], Measurement]:
    found = read_measurements(facts)
    return {} if found is None else {row.key: row for row in found.measurements}


def _facts(bundle: Bundle, threads: int) -> dict[str, str]:
    formats = {variant.format for variant in bundle.manifest.variants}
    packages = sorted({backend.package for backend in registry.BACKENDS if backend.format in formats})
    versions = {package: installed_version(package) for package in packages}
    return key_facts(bundle, read_processor(), threads, versions, driver_versions())


def backends_for_goal(backends: Sequence[Backend]) -> tuple[Backend, ...]:
    """Backends that a goal considers: those that are tried unasked, then those of other devices.

    Args:
        backends: `edgesdk.backends.registry.BACKENDS`.
    """
    others = [b for b in backends if not b.automatic and set(b.device_classes) - {"cpu"}]
    return (*(b for b in backends if b.automatic), *others)
