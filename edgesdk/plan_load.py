"""What a load tries, in which order, and what may take over later: decided before anything is opened."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgesdk.backends import registry
from edgesdk.backends.registry import Backend, find_backends
from edgesdk.bundle.manifest import Variant
from edgesdk.bundle.reader import Bundle
from edgesdk.devices.cpu import count_threads
from edgesdk.devices.governor import Governor
from edgesdk.devices.receipt import Refusal
from edgesdk.dispatch.candidates import Candidate, list_candidates
from edgesdk.dispatch.hold_back import hold_back
from edgesdk.dispatch.join_candidates import Moves
from edgesdk.dispatch.plan import Plan, backends_for_goal, plan_in_order
from edgesdk.drafts.check_draft import OFF
from edgesdk.errors import DeviceError, UnsupportedOption, quoted
from edgesdk.load_options import LoadOptions


@dataclass(frozen=True)
class LoadPlan:
    """What a load tries.

    Attributes:
        plan: pairs of candidates, in order.
        threads: CPU threads.
        better: accelerators that are opened while the CPU serves.
        successors: what may take over when something fails.
        reachable: what a governor may move to.
        refusals: what was asked for and is out before anything is tried.
    """

    plan: Plan
    threads: int
    better: tuple[Candidate, ...] = ()
    successors: tuple[Candidate, ...] = ()
    reachable: tuple[Candidate, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    def moves(self, decode: Candidate, asked: LoadOptions) -> Moves:
        """What may change what runs, once a candidate decodes."""
        # Where nothing on the CPU opens, an accelerator is waited for after all.
        waited_for = self.better if decode.device == "cpu" else ()
        return Moves(waited_for, asked.governor, self.reachable, asked.falls_back or bool(waited_for))


def plan_load(bundle: Bundle, asked: LoadOptions) -> LoadPlan:
    """Decides what a load tries.

    Args:
        bundle: to be loaded.
        asked: how.

    Raises:
        DeviceError: nothing can run it, or, with `strict`, not what was asked for.
        BundleError, UnsupportedOption: there is no such variant or recipe, or the model gives vectors only
            and something was asked for that needs words.
    """
    _check_whole_text(bundle, asked)
    counted = count_threads(asked.threads)
    variants = _variants(bundle, asked)
    backends = _backends(asked)
    candidates = list_candidates(bundle, backends, variants=variants, device=asked.kind)
    refusals: tuple[Refusal, ...] = ()
    if not candidates:
        reason = _why_none(backends, asked, narrowed=len(variants) < len(bundle.manifest.variants))
        if asked.kind in (None, "cpu"):
            raise DeviceError(f"nothing can run {bundle.manifest.name}: {reason}")
        name = asked.backend if asked.backend != "auto" else "-"
        refusals = (Refusal(name, "-", asked.device, reason),)
        if asked.strict:
            raise DeviceError(str(refusals[0]))
    plan, threads = _order(bundle, candidates, asked, counted)
    better: tuple[Candidate, ...] = ()
    if asked.kind not in (None, "cpu"):
        plan = _with_cpu_behind(
            plan, list_candidates(bundle, find_backends(asked.backend), variants=variants), asked
        )
    if asked.serve_meanwhile:
        plan, better = hold_back(plan)
    successors = tuple({c.key: c for pair in plan.attempts for c in pair}.values())
    return LoadPlan(
        plan,
        threads,
        better,
        successors if asked.falls_back else (),
        _reachable(bundle, asked.backend, variants, asked.governor),
        refusals,
    )


def _check_whole_text(bundle: Bundle, asked: LoadOptions) -> None:
    """Refuses what is measured on answers, or writes them, for a model that gives states only."""
    if not bundle.manifest.decoder.is_causal:
        for name, given in (("goal", asked.goal is not None), ("draft", asked.draft != OFF)):
            if given:
                raise UnsupportedOption(
                    f"this model gives vectors only, so {name} has no meaning; leave it out"
                )


def _order(
    bundle: Bundle, candidates: tuple[Candidate, ...], asked: LoadOptions, threads: int
) -> tuple[Plan, int]:
    """The fixed order, or what was measured for a goal; and the CPU threads."""
    goal = asked.measured_goal
    if goal is None:
        return plan_in_order(candidates), threads
    from edgesdk.dispatch.measuring import Measuring
    from edgesdk.dispatch.plan_for_goal import plan_for_goal
    from edgesdk.dispatch.plan_threads import plan_threads

    measuring = Measuring(asked.measure, cancelled=asked.cancelled)
    if asked.threads is None:
        return plan_threads(bundle, candidates, goal, measuring)
    return plan_for_goal(bundle, candidates, goal, threads, measuring), threads


def _with_cpu_behind(plan: Plan, others: tuple[Candidate, ...], asked: LoadOptions) -> Plan:
    """An accelerator that cannot be had is refused in the receipt, and the CPU does the work."""
    # What serves meanwhile must have its weights, which need not be those of the first variant.
    behind = tuple((c, c) for c in others) if asked.serve_meanwhile else plan_in_order(others).attempts
    return replace(plan, attempts=(*plan.attempts, *behind))


def _backends(asked: LoadOptions) -> tuple[Backend, ...]:
    """Backends to consider: those tried unasked; for an accelerator or a goal, those that reach one too."""
    if asked.backend != "auto":
        return find_backends(asked.backend)
    if asked.device in ("gpu", "npu"):
        return tuple(b for b in registry.BACKENDS if asked.device in b.device_classes)
    return backends_for_goal(registry.BACKENDS) if asked.goal is not None else find_backends("auto")


def _variants(bundle: Bundle, asked: LoadOptions) -> list[Variant]:
    variants = (
        [bundle.variant(asked.variant)] if asked.variant is not None else list(bundle.manifest.variants)
    )
    suited = [v for v in variants if asked.recipe is None or v.recipe == asked.recipe]
    if not suited:
        there = ", ".join(sorted({v.recipe for v in variants}))
        raise UnsupportedOption(f"no variant has the recipe {quoted(asked.recipe)}; the bundle has {there}")
    return suited


def _why_none(backends: tuple[Backend, ...], asked: LoadOptions, *, narrowed: bool) -> str:
    """Why there is no candidate at all.

    Args:
        backends: that were considered.
        asked: the options.
        narrowed: whether only some of the bundle's variants were asked for.
    """
    name, kind = asked.backend, asked.kind
    if kind is not None and not any(kind in backend.device_classes for backend in backends):
        who = "no backend runs" if name == "auto" else f"{name} does not run"
        return f"{who} on {kind} in this version"
    formats = " or ".join(sorted({backend.format for backend in backends}))
    if name == "auto":
        return f"{'what was asked for has' if narrowed else 'the bundle has'} no {formats} variant"
    if narrowed:
        return f"{name} runs {formats} variants, and none was asked for; choose another variant or backend"
    return f"{name} runs {formats} variants, and the bundle has none"


def _reachable(
    bundle: Bundle, backend: str, variants: list[Variant], governor: Governor | None
) -> tuple[Candidate, ...]:
    """What a governor may move to: every usable candidate on the devices that its rules name."""
    devices = {rule.device for rule in governor.settings.rules} if governor is not None else set()
    if devices <= {None}:
        return ()
    backends = backends_for_goal(registry.BACKENDS) if backend == "auto" else find_backends(backend)
    found = list_candidates(bundle, backends, variants=variants)
    return tuple(c for c in found if c.refusal is None and c.device in devices)
