"""Opens a bundle on the best backend that works, and writes a receipt of what was refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, cast, get_args

from edgesdk.backends import registry
from edgesdk.backends.registry import Backend, find_backends
from edgesdk.bundle.manifest import DeviceClass, Variant
from edgesdk.bundle.reader import Bundle, open_bundle
from edgesdk.bundle.shelf import find
from edgesdk.decoding.option_types import flag, whole_number
from edgesdk.devices.choose import GOALS, Goal
from edgesdk.devices.cpu import MOST_THREADS, count_threads
from edgesdk.devices.governor import Governor
from edgesdk.devices.receipt import Phase, Receipt, Refusal
from edgesdk.dispatch.candidates import Candidate, list_candidates
from edgesdk.dispatch.hold_back import hold_back
from edgesdk.dispatch.join_candidates import Joined, Moves, join_candidates, runner_of
from edgesdk.dispatch.plan import Plan, backends_for_goal, plan_in_order
from edgesdk.errors import DeviceError, MissingExtra, UnsupportedOption, quoted
from edgesdk.model import Model

DEVICES = ("auto", *get_args(DeviceClass))
_LONGEST_NAME = 200


class LoadOptions(TypedDict, total=False):
    """The options of `load`, as keywords of what loads a bundle itself; see there."""

    device: str
    backend: str
    variant: str | None
    recipe: str | None
    strict: bool
    threads: int | None
    goal: str | None
    measure: bool | None
    cancelled: Callable[[], bool] | None
    serve_meanwhile: bool
    governor: Governor | None


def load(
    path: str | Path,
    *,
    device: str = "auto",
    backend: str = "auto",
    variant: str | None = None,
    recipe: str | None = None,
    strict: bool = False,
    threads: int | None = None,
    goal: str | None = None,
    measure: bool | None = None,
    cancelled: Callable[[], bool] | None = None,
    serve_meanwhile: bool = False,
    governor: Governor | None = None,
) -> Model:
    """Loads a bundle.

    Without a goal, backends are tried in a fixed order. With one, what suits the bundle is measured once on
    this machine, within 10 seconds, and kept; later loads look it up.

    Args:
        path: the bundle's folder, or its name on the shelf (`edgesdk.bundle.shelf`); a folder wins.
        device: `auto`, `cpu`, `gpu` or `npu`.
        backend: `auto` or the name of one.
        variant: name of a variant; None for the first that suits.
        recipe: only variants of this quantisation recipe; None for any.
        strict: raise where `load` would fall back to a less preferred device or backend, and where a
            device that fails later would be replaced.
        threads: CPU threads, at most 256; None for every core that this process may use, or with a goal for
            as many as measure best for it.
        goal: `latency`, `throughput`, `power`, `memory`, or a device, which is as good as `device`.
        measure: with a goal: None to measure what never was, False not to measure, True to measure anew.
        cancelled: asked while measuring, which ends when it says so.
        serve_meanwhile: do not wait for an accelerator to open, which may mean compiling for minutes: answer
            on the CPU until it is, then move there between two tokens.
        governor: lowers threads, device or context while the machine is hot or its battery is low; None to
            never do so.

    Returns:
        The model; its `receipt` says what runs it and what was refused.

    Raises:
        BundleError: there is none of that name, or it is damaged or of another version.
        DeviceError: nothing can run it, or, with `strict`, the first choice cannot.
        UnsupportedOption: an argument names something unknown.
    """
    _check_types(path, (backend, variant, recipe), threads, cancelled, governor)
    for name, value in (("strict", strict), ("serve_meanwhile", serve_meanwhile), ("measure", measure)):
        if value is not None or name != "measure":
            flag(name, value)
    started = time.perf_counter()
    device, goal = _check(device, goal, measure)
    if serve_meanwhile:
        _check_meanwhile(device, goal, strict)
    counted = count_threads(threads)
    backends = _backends(backend, device, goal)
    found = find(path)
    bundle = open_bundle(found.path)
    wanted = _variants(bundle, variant, recipe)
    kind = None if device == "auto" else cast(DeviceClass, device)
    candidates = list_candidates(bundle, backends, variants=wanted, device=kind)
    refusals: list[Refusal] = []
    if not candidates:
        reason = _why_none(backends, backend, len(wanted) < len(bundle.manifest.variants), kind)
        if kind in (None, "cpu"):
            raise DeviceError(f"nothing can run {bundle.manifest.name}: {reason}")
        _refuse(refusals, Refusal(backend if backend != "auto" else "-", "-", device, reason), strict)
    if goal is None:
        plan = plan_in_order(candidates)
    else:
        from edgesdk.dispatch.plan_for_goal import plan_for_goal
        from edgesdk.dispatch.plan_threads import plan_threads

        asked = cast(Goal, goal)
        if threads is None:
            plan, counted = plan_threads(bundle, candidates, asked, measure=measure, cancelled=cancelled)
        else:
            plan = plan_for_goal(bundle, candidates, asked, threads, measure=measure, cancelled=cancelled)
    if kind not in (None, "cpu"):
        # An accelerator that cannot be had is refused in the receipt, and the CPU does the work.
        others = list_candidates(bundle, find_backends(backend), variants=wanted)
        # What serves meanwhile must have its weights, which need not be those of the first variant.
        behind = tuple((c, c) for c in others) if serve_meanwhile else plan_in_order(others).attempts
        plan = replace(plan, attempts=(*plan.attempts, *behind))
    better: tuple[Candidate, ...] = ()
    if serve_meanwhile:
        plan, better = hold_back(plan)
    falls_back = not strict and backend == "auto"
    successors = _successors(plan) if falls_back else ()
    reachable = _reachable(bundle, backend, wanted, governor)
    for prefill, decode in plan.attempts:
        # Where nothing on the CPU opens, an accelerator is waited for after all.
        waited_for = better if decode.device == "cpu" else ()
        moves = Moves(waited_for, governor, reachable, falls_back or bool(waited_for))
        try:
            joined = join_candidates(bundle, prefill, decode, counted, successors, moves)
        except (DeviceError, MissingExtra) as error:
            _refuse(
                refusals, Refusal(decode.backend.name, decode.variant.name, decode.device, str(error)), strict
            )
            continue
        receipt = _receipt(bundle, joined, plan, counted, refusals)
        passed_over = () if found.note is None else (found.note,)
        notes = (*passed_over, *receipt.notes, *_governor_notes(governor))
        receipt = replace(receipt, notes=notes, load_ms=(time.perf_counter() - started) * 1e3)
        return Model(bundle, joined.model, receipt, governor)
    reasons = "; ".join(f"{r.backend}: {r.reason}" for r in refusals) or "it has no variant for them"
    tried = ", ".join(dict.fromkeys(candidate.backend.name for candidate in candidates))
    raise DeviceError(f"nothing can run {bundle.manifest.name} (tried {tried}): {reasons}")


def _check_types(
    path: object, names: tuple[object, ...], threads: object, cancelled: object, governor: object
) -> None:
    """Refuses what is of no type that `load` takes, before anything is read."""
    if not isinstance(path, str | Path):
        raise UnsupportedOption(f"the bundle is {quoted(path)}, expected the path of a folder")
    for option, name in zip(("backend", "variant", "recipe"), names, strict=True):
        if name is not None and (not isinstance(name, str) or len(name) > _LONGEST_NAME):
            raise UnsupportedOption(
                f"{option} is {quoted(name)}, expected a name of at most {_LONGEST_NAME} characters"
            )
    if threads is not None:
        count_threads(whole_number("threads", threads, 1, MOST_THREADS))
    if cancelled is not None and not callable(cancelled):
        raise UnsupportedOption(f"cancelled is {quoted(cancelled)}, expected a function")
    if governor is not None and not isinstance(governor, Governor):
        raise UnsupportedOption(f"governor is {quoted(governor)}, expected an edgesdk.Governor")


def _check(device: str, goal: str | None, measure: bool | None) -> tuple[str, str | None]:
    """Refuses what is unknown; a goal that is a device becomes one."""
    if device not in DEVICES:
        raise UnsupportedOption(f"device {quoted(device)} is unknown; expected {', '.join(DEVICES)}")
    if goal in get_args(DeviceClass):
        if device not in ("auto", goal):
            raise UnsupportedOption(f"the goal is {goal}, but device is {device}; give one of them")
        return str(goal), None
    if goal is not None and goal not in GOALS:
        expected = ", ".join((*GOALS, *get_args(DeviceClass)))
        raise UnsupportedOption(f"goal {quoted(goal)} is unknown; expected {expected}")
    if goal is None and measure is not None:
        raise UnsupportedOption(f"measure={measure} needs a goal: {', '.join(GOALS)}")
    return device, goal


def _check_meanwhile(device: str, goal: str | None, strict: bool) -> None:
    if strict:
        raise UnsupportedOption(
            "serve_meanwhile answers on the CPU first, which strict forbids; give one of them"
        )
    if device == "cpu" or (device == "auto" and goal is None):
        raise UnsupportedOption(
            f"serve_meanwhile needs something to wait for: device gpu or npu, or goal {', '.join(GOALS)}"
        )


def _backends(name: str, device: str, goal: str | None) -> tuple[Backend, ...]:
    """Backends to consider: those tried unasked; for an accelerator or a goal, those that reach one too."""
    if name != "auto":
        return find_backends(name)
    if device in ("gpu", "npu"):
        return tuple(b for b in registry.BACKENDS if device in b.device_classes)
    return backends_for_goal(registry.BACKENDS) if goal is not None else find_backends(name)


def _variants(bundle: Bundle, name: str | None, recipe: str | None) -> list[Variant]:
    variants = [bundle.variant(name)] if name is not None else list(bundle.manifest.variants)
    suited = [v for v in variants if recipe is None or v.recipe == recipe]
    if not suited:
        there = ", ".join(sorted({v.recipe for v in variants}))
        raise UnsupportedOption(f"no variant has the recipe {quoted(recipe)}; the bundle has {there}")
    return suited


def _why_none(backends: tuple[Backend, ...], asked: str, narrowed: bool, kind: DeviceClass | None) -> str:
    """Why there is no candidate at all.

    Args:
        backends: that were considered.
        asked: the backend that was asked for.
        narrowed: whether only some of the bundle's variants were asked for.
        kind: the class of devices that was asked for.
    """
    if kind is not None and not any(kind in backend.device_classes for backend in backends):
        return (
            f"{'no backend runs' if asked == 'auto' else f'{asked} does not run'} on {kind} in this version"
        )
    formats = " or ".join(sorted({backend.format for backend in backends}))
    if asked == "auto":
        what = "what was asked for has" if narrowed else "the bundle has"
        return f"{what} no {formats} variant"
    if narrowed:
        return f"{asked} runs {formats} variants, and none was asked for; choose another variant or backend"
    return f"{asked} runs {formats} variants, and the bundle has none"


def _reachable(
    bundle: Bundle, backend: str, wanted: list[Variant], governor: Governor | None
) -> tuple[Candidate, ...]:
    """What a governor may move to: every usable candidate on the devices that its rules name."""
    devices = {rule.device for rule in governor.settings.rules} if governor is not None else set()
    if devices <= {None}:
        return ()
    backends = backends_for_goal(registry.BACKENDS) if backend == "auto" else find_backends(backend)
    found = list_candidates(bundle, backends, variants=wanted)
    return tuple(c for c in found if c.refusal is None and c.device in devices)


def _governor_notes(governor: Governor | None) -> tuple[str, ...]:
    """Says so where a governor has nothing to go by."""
    if governor is None:
        return ()
    governor.limits()  # has it read
    found = governor.readings
    if found.on_battery is not None or found.temperature_c is not None:
        return ()
    return ("the governor finds neither a battery nor a temperature here, so it limits nothing",)


def _successors(plan: Plan) -> tuple[Candidate, ...]:
    """What may take over when something fails: every candidate of the plan, once, in its order."""
    unique = {candidate.key: candidate for pair in plan.attempts for candidate in pair}
    return tuple(unique.values())


def _receipt(bundle: Bundle, joined: Joined, plan: Plan, threads: int, refusals: list[Refusal]) -> Receipt:
    decode = joined.decode
    variant = decode.candidate.variant
    opened = (decode.opened,) if joined.prefill is decode else (joined.prefill.opened, decode.opened)
    notes = tuple(dict.fromkeys(note for each in opened for note in each.notes))
    checked = {joined.prefill.integrity, decode.integrity}
    return Receipt(
        bundle=bundle.manifest.name,
        variant=variant.name,
        recipe=variant.recipe,
        backend=decode.candidate.backend.name,
        device=decode.candidate.device,
        provider=decode.opened.provider,
        accelerated_share=decode.opened.accelerated_share,
        threads=threads,
        load_ms=0.0,
        weight_cache=decode.opened.weight_cache,
        integrity="hashed" if "hashed" in checked else "unchanged",
        refusals=tuple(refusals),
        notes=(*notes, *plan.notes),
        goal=plan.goal,
        choice=plan.choice,
        phases=(Phase("prefill", runner_of(joined.prefill)), Phase("decode", runner_of(decode))),
        measured=plan.measured,
    )


def _refuse(refusals: list[Refusal], refusal: Refusal, strict: bool) -> None:
    if strict:
        raise DeviceError(str(refusal))
    refusals.append(refusal)
