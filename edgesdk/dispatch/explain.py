"""Says what would run a bundle on this machine, for each goal, and from which figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgesdk.backends import registry
from edgesdk.backends.registry import find_backends
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.whole_text import expect_causal
from edgesdk.devices.choose import GOALS, choose
from edgesdk.devices.cpu import count_threads
from edgesdk.devices.measurement import Measurement
from edgesdk.dispatch.candidates import Candidate, list_candidates
from edgesdk.dispatch.measuring import BUDGET_S, Measuring
from edgesdk.dispatch.plan import backends_for_goal, plan_in_order, same_results
from edgesdk.dispatch.plan_for_goal import known_measurements, plan_for_goal
from edgesdk.errors import DeviceError, UnsupportedOption


@dataclass(frozen=True)
class Explanation:
    """What would run a bundle.

    Attributes:
        bundle: name of the model.
        recipe: of the variants that are compared; a goal never leaves it.
        threads: CPU threads.
        candidates: every way to run them, with figures or the reason why there are none.
        choices: what a load takes, by goal; `none` is the fixed order.
    """

    bundle: str
    recipe: str
    threads: int
    candidates: tuple[Measurement, ...]
    choices: Mapping[str, str]


def explain(
    path: str | Path,
    *,
    recipe: str | None = None,
    threads: int | None = None,
    measure: bool = False,
    budget_s: float = BUDGET_S,
    cancelled: Callable[[], bool] | None = None,
    say: Callable[[str], None] | None = None,
) -> Explanation:
    """Lists candidates, measures them if asked, and chooses for each goal.

    Args:
        path: the bundle's folder.
        recipe: of the variants to compare; None for that of the first candidate.
        threads: CPU threads; None for every core that this process may use.
        measure: measure anew; else only what was measured before is shown.
        budget_s: seconds for measuring.
        cancelled: ends the measurement when it says so.
        say: told what is being measured.

    Raises:
        BundleError: the bundle is damaged.
        UnsupportedOption: no variant has the recipe, so many threads make no sense, or a model that gives
            vectors only is to be measured.
        DeviceError: no backend opens any of the variants.
    """
    bundle = open_bundle(path)
    threads = count_threads(threads)
    variants = [v for v in bundle.manifest.variants if recipe is None or v.recipe == recipe]
    if not variants:
        there = ", ".join(sorted({v.recipe for v in bundle.manifest.variants}))
        raise UnsupportedOption(f"no variant has the recipe {recipe!r}; the bundle has {there}")
    candidates = list_candidates(bundle, backends_for_goal(registry.BACKENDS), variants=variants)
    usable = [candidate for candidate in candidates if candidate.refusal is None]
    if not usable:
        reasons = (
            "; ".join(f"{c.backend.name}: {c.refusal}" for c in candidates) or "no backend opens its formats"
        )
        raise DeviceError(f"nothing can run {bundle.manifest.name}: {reasons}")
    alike = [c for c in candidates if same_results(c.variant, usable[0].variant)]
    if measure:
        expect_causal(bundle.manifest.decoder)
        anew = Measuring(True, budget_s, cancelled, say)
        plan = plan_for_goal(bundle, alike, "latency", threads, anew)
        known = {row.key: row for row in plan.measured}
    else:
        known = {row.key: row for row in known_measurements(bundle, threads)}
    rows = tuple(known.get(candidate.key) or _unmeasured(candidate) for candidate in alike)
    fixed = list_candidates(bundle, find_backends("auto"), variants=variants)
    first = next((p for p, _ in plan_in_order(fixed).attempts if p.refusal is None), None)
    choices = {"none": "-" if first is None else _name(*first.key)}
    for goal in GOALS:
        found = choose(rows, goal)
        if not bundle.manifest.decoder.is_causal:
            choices[goal] = "has no meaning: this model gives vectors only"
        elif found is None:
            choices[goal] = "would be measured first"
        elif found.prefill is found.decode:
            choices[goal] = _name(*found.decode.key)
        else:
            choices[goal] = f"prefill: {_name(*found.prefill.key)}; decode: {_name(*found.decode.key)}"
    return Explanation(bundle.manifest.name, usable[0].variant.recipe, threads, rows, choices)


def _unmeasured(candidate: Candidate) -> Measurement:
    variant, backend, _ = candidate.key
    reason = candidate.refusal or "not measured yet"
    return Measurement(variant, backend, candidate.device, reason=reason)


def _name(variant: str, backend: str, device: str) -> str:
    return f"{variant} with {backend} on {device}"
