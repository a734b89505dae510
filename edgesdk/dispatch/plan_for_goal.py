"""What is to run a bundle for a goal: the order of what was measured.

Measured once for each bundle and machine. A goal never changes how the model was quantised: a coarser recipe
is nearly always faster, and that is the user's to decide. A load without a goal does not import this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgesdk.backends import registry
from edgesdk.bundle.reader import Bundle
from edgesdk.devices.choose import Goal, choose
from edgesdk.devices.cpu import read_processor
from edgesdk.devices.measurement import Measurement
from edgesdk.devices.measurement_cache import key_facts, read_measurements, write_measurements
from edgesdk.devices.packages import installed_version
from edgesdk.devices.system_devices import driver_versions
from edgesdk.dispatch.candidates import Candidate
from edgesdk.dispatch.measure import measure_all
from edgesdk.dispatch.measuring import AS_NEEDED, Measuring
from edgesdk.dispatch.plan import Plan, plan_in_order, same_results

MEASURED_NOW = "measured now"
"""`Plan.choice` where something had to be measured."""


def plan_for_goal(
    bundle: Bundle,
    candidates: Sequence[Candidate],
    goal: Goal,
    threads: int,
    measuring: Measuring = AS_NEEDED,
) -> Plan:
    """The order of what was measured, measuring what was not.

    Args:
        bundle: the bundle.
        candidates: that may be used, in order of preference.
        goal: see `edgesdk.devices.choose.choose`.
        threads: CPU threads.
        measuring: whether and how far to measure.

    Returns:
        The plan; the fixed order with a note where nothing could be measured.
    """
    usable = [candidate for candidate in candidates if candidate.refusal is None]
    alike = [c for c in candidates if usable and same_results(c.variant, usable[0].variant)]
    facts = _facts(bundle, threads)
    known = {} if measuring.measure is True else _known(facts)
    lacking = [candidate for candidate in alike if candidate.key not in known]
    choice = "measured before"
    if lacking and measuring.measure is not False:
        choice = MEASURED_NOW
        known |= _measure(bundle, facts, lacking, known, threads, measuring)
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
    lacking: Sequence[Candidate],
    known: dict[tuple[str, str, str], Measurement],
    threads: int,
    measuring: Measuring,
) -> dict[tuple[str, str, str], Measurement]:
    """Measures what is not known, and keeps it with what is.

    Drivers are not asked beforehand whether they are there: each candidate is opened in a process of its own.
    """
    stopped: list[bool] = []

    def stop() -> bool:
        if measuring.cancelled is not None and measuring.cancelled():
            stopped.append(True)
        return bool(stopped)

    rows_now = measure_all(
        bundle, lacking, threads, budget_s=measuring.budget_s, cancelled=stop, say=measuring.say
    )
    found = {row.key: row for row in rows_now}
    # Without any figures there is nothing to choose from, so the next load tries again.
    if not stopped and any(row.reason is None for row in rows_now):
        write_measurements(facts, list({**known, **found}.values()))
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
