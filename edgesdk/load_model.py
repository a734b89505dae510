"""Opens a bundle on the best backend that works, and writes a receipt of what was refused."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from edgesdk.bundle.reader import Bundle, open_bundle
from edgesdk.bundle.shelf import find
from edgesdk.decoding.draft import Drafter
from edgesdk.decoding.draft_source import DraftSource
from edgesdk.decoding.option_names import lists_fields
from edgesdk.devices.governor import Governor
from edgesdk.devices.receipt import Phase, Receipt, Refusal
from edgesdk.dispatch.join_candidates import Joined, join_candidates, runner_of
from edgesdk.drafts.check_draft import OFF
from edgesdk.errors import DeviceError, MissingExtra, UnsupportedOption, quoted
from edgesdk.kv.step_model import steps_of
from edgesdk.load_options import LoadKeywords, LoadOptions
from edgesdk.model import Model
from edgesdk.plan_load import LoadPlan, plan_load


@lists_fields(LoadOptions)
def load(path: str | Path, options: LoadOptions | None = None, **keywords: Unpack[LoadKeywords]) -> Model:
    """Loads a bundle.

    Args:
        path: the bundle's folder, or its name on the shelf (`edgesdk.bundle.shelf`); a folder wins.
        options: how; None for the defaults.
        **keywords: fields of `LoadOptions`, which change those of `options`.

    Returns:
        The model; its `receipt` says what runs it and what was refused.

    Raises:
        BundleError: there is none of that name, or it is damaged or of another version.
        DeviceError: nothing can run it, or, with `strict`, the first choice cannot.
        UnsupportedOption: an option names something unknown, or a drafter whose tokens are others.
    """
    started = time.perf_counter()
    if not isinstance(path, str | Path):
        raise UnsupportedOption(f"the bundle is {quoted(path)}, expected the path of a folder")
    asked = LoadOptions.of(keywords, options)
    found = find(path)
    bundle = open_bundle(found.path)
    planned = plan_load(bundle, asked)
    joined, refusals = _open_first(bundle, planned, asked)
    try:
        drafts = _open_drafts(bundle, joined, planned.threads, asked)
    except BaseException:
        joined.model.close()
        raise
    passed_over = () if found.note is None else (found.note,)
    receipt = _receipt(bundle, joined, planned, refusals)
    notes = (*passed_over, *receipt.notes, *_governor_notes(asked.governor))
    draft = None if drafts is None else drafts.name
    receipt = replace(receipt, notes=notes, draft=draft, load_ms=(time.perf_counter() - started) * 1e3)
    return Model(
        bundle,
        joined.model,
        receipt,
        asked.governor,
        isolate_grammars=asked.isolate_grammars,
        drafts=drafts,
    )


def _open_drafts(bundle: Bundle, joined: Joined, threads: int, asked: LoadOptions) -> DraftSource | None:
    """Where the model's drafters come from; None without drafts."""
    if asked.draft == OFF:
        return None
    from edgesdk.drafts.open_drafter import RunningVariant, open_drafter  # only who drafts waits for it

    candidate = joined.decode.candidate
    steps = steps_of(joined.model)
    running = RunningVariant(
        bundle, candidate.variant, candidate.backend.name, candidate.device, threads, steps
    )

    def open_one() -> Drafter | None:
        return open_drafter(asked.draft, running, texts=asked.draft_texts)

    first = open_one()
    return None if first is None else DraftSource(first, open_one, bundle.manifest.decoder.vocab_size)


def _open_first(bundle: Bundle, planned: LoadPlan, asked: LoadOptions) -> tuple[Joined, tuple[Refusal, ...]]:
    """Opens the first of a plan that opens; and what was refused before it.

    Raises:
        DeviceError: nothing opens, or, with `strict`, the first does not.
    """
    refusals = planned.refusals
    for prefill, decode in planned.plan.attempts:
        moves = planned.moves(decode, asked)
        try:
            joined = join_candidates(bundle, prefill, decode, planned.threads, planned.successors, moves)
        except (DeviceError, MissingExtra) as error:
            refusal = Refusal(decode.backend.name, decode.variant.name, decode.device, str(error))
            if asked.strict:
                raise DeviceError(str(refusal)) from error
            refusals = (*refusals, refusal)
        else:
            return joined, refusals
    reasons = "; ".join(f"{r.backend}: {r.reason}" for r in refusals) or "it has no variant for them"
    tried = ", ".join(dict.fromkeys(decode.backend.name for _, decode in planned.plan.attempts))
    raise DeviceError(f"nothing can run {bundle.manifest.name} (tried {tried or 'nothing'}): {reasons}")


def _receipt(bundle: Bundle, joined: Joined, planned: LoadPlan, refusals: tuple[Refusal, ...]) -> Receipt:
    decode, plan = joined.decode, planned.plan
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
        threads=planned.threads,
        load_ms=0.0,
        weight_cache=decode.opened.weight_cache,
        integrity="hashed" if "hashed" in checked else "unchanged",
        refusals=refusals,
        notes=(*notes, *plan.notes),
        goal=plan.goal,
        choice=plan.choice,
        phases=(Phase("prefill", runner_of(joined.prefill)), Phase("decode", runner_of(decode))),
        measured=plan.measured,
        adapters=tuple(record.name for record in bundle.manifest.adapters),
    )


def _governor_notes(governor: Governor | None) -> tuple[str, ...]:
    """Says so where a governor has nothing to go by."""
    if governor is None:
        return ()
    governor.limits()  # has it read
    found = governor.readings
    if found.on_battery is not None or found.temperature_c is not None:
        return ()
    return ("the governor finds neither a battery nor a temperature here, so it limits nothing",)
