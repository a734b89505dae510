"""Quantises a program by every recipe for every target, and has each variant written."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgesdk.bundle.id_map import IdMap
from edgesdk.bundle.manifest import BudgetRecord, CalibrationSample, CellType, Variant
from edgesdk.bundle.stack_record import DRAFT, DRAFT_IDS_NAME, DraftRecord, StackRecord, StreamsRecord
from edgesdk.bundle.writer import BundleWriter
from edgesdk_converters.convert_options import CheckedOptions, ConvertOptions
from edgesdk_converters.drafts.draft_stack import DraftStack, own_bytes, own_records
from edgesdk_converters.emit.further_stack import FurtherStack, WrittenParts
from edgesdk_converters.exit_stacks import check_exits, write_exits
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.program_contract import main_record
from edgesdk_converters.plan_stages import quantising_work, weight_of_line
from edgesdk_converters.prepare import prepare
from edgesdk_converters.progress import ProgressMeter
from edgesdk_converters.quantise.calibrate import CalibrationRecord
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import Recipe
from edgesdk_converters.quantise.tensor_spool import TensorSpool
from edgesdk_converters.quantise.weight_numbers import weight_numbers
from edgesdk_converters.quantise_program import QuantisedProgram, depends_on_target, quantise_program
from edgesdk_converters.read_source import SourceModel
from edgesdk_converters.stream_stacks import write_streams_apart
from edgesdk_converters.streams.add_streams import is_of_streams
from edgesdk_converters.targets import EmitRequest, RefineRequest, Target
from edgesdk_converters.transforms.give_hidden import logits_alone

_CELL_SUFFIXES: dict[CellType, str] = {"float32": "", "float16": "-cells16", "int8": "-cells8"}


@dataclass(frozen=True)
class MadeVariant:
    """A variant with what its proof needs; its weights, hundreds of megabytes, are not kept for that.

    Attributes:
        variant: as the manifest will have it, but for its proof.
        target: that wrote it.
        recipe: that it was asked for by.
        calibration: how well each calibrated matrix came out.
        reference: what it is compared with, the same object for all that are compared with one.
        probe: the file of the reference's logits; None for the bundle's own.
        draft: the draft in its file, with weights in float32; None without one.
    """

    variant: Variant
    target: Target
    recipe: Recipe
    calibration: Sequence[CalibrationRecord]
    reference: Program
    probe: str | None = None
    draft: Program | None = None


def write_variants(
    writer: BundleWriter,
    model: SourceModel,
    options: ConvertOptions,
    checked: CheckedOptions,
    meter: ProgressMeter,
) -> list[MadeVariant]:
    """Writes every variant that is asked for.

    Args:
        writer: of the bundle.
        model: what is converted.
        options: how.
        checked: what the names in them stand for.
        meter: told how far it is.

    Returns:
        Variants in the order of recipes, then targets; a further stack follows the one that it shares.

    Raises:
        TransformError: a recipe does not suit the model, or it cannot be left after the blocks asked for.
        EmitError: a target cannot hold it.
    """
    for target in checked.targets:
        # Calibration takes minutes.
        target.check(logits_alone(model.program) if target.logits_only else model.program)
    if options.exit_blocks:
        check_exits(model.program, options.exit_blocks)
    spec = model.program.spec
    context = min(options.context, spec.context)
    further = [(stack, stack.of(model.program)) for stack in options.stacks]
    made: list[MadeVariant] = []
    for recipe in checked.recipes:
        with TensorSpool(writer.scratch(f"integers-{recipe.name}")) as spool:
            for target, quantised in _quantise(model, recipe, checked, spool, meter):
                meter.enter("writing", f"writing {target.name} {quantised.weights.recipe.name}")
                if target.logits_only:
                    quantised = dataclasses.replace(quantised, program=logits_alone(quantised.program))
                stacks = [
                    stack.written(quantised.program, target.steps_of(spec, context))
                    for stack in options.stacks
                ]
                draft = None
                if model.draft is not None and target.draft_tokens:
                    draft = model.draft.written(quantised.program, quantised.weights, target.draft_steps)
                beside = [FurtherStack(stack.program, stack.steps) for stack in stacks]
                exits = None
                if options.exit_blocks:
                    exits = write_exits(
                        quantised.program, options.exit_blocks, target.steps_of(spec, context)
                    )
                apart = None
                if model.streams is not None:
                    sizes = target.steps_of(spec, context)
                    apart = write_streams_apart(quantised.program, model.streams.config, sizes, options.cells)
                parts = [
                    stack for made_of in (exits, apart) if made_of is not None for stack in made_of.stacks
                ]
                every = [*beside, *([] if draft is None else [draft]), *parts]
                variant = _write(writer, model, options, target, quantised, context, every, meter)
                for made_of in (exits, apart):
                    if made_of is not None:
                        variant = _with_parts(variant, made_of)
                drafted = None if draft is None else draft.program
                if model.draft is not None and draft is not None:
                    variant = _with_draft(writer, variant, model.draft, draft)
                made.append(
                    MadeVariant(variant, target, recipe, quantised.calibration, model.program, draft=drafted)
                )
                for written, (stack, reference) in zip(stacks, further, strict=True):
                    second = written.variant(variant, quantised.weights)
                    made.append(
                        MadeVariant(second, target, recipe, quantised.calibration, reference, stack.probe)
                    )
    return made


def _quantise(
    model: SourceModel, recipe: Recipe, checked: CheckedOptions, spool: TensorSpool, meter: ProgressMeter
) -> Iterator[tuple[Target, QuantisedProgram]]:
    """The program for each target, made once for all where they take the same."""

    def say(what: str) -> None:
        meter.say(what, weight_of_line(what))

    meter.enter("quantising", f"quantising {recipe.name}")
    prepared = prepare(model.program, recipe)
    shared: QuantisedProgram | None = None
    for target in checked.targets:
        if shared is None or depends_on_target(recipe):
            if shared is not None:
                meter.enter("quantising", f"quantising {recipe.name} for {target.name}")
            meter.expect(quantising_work(prepared, recipe))
            shared = quantise_program(
                prepared, recipe, target.blocks, model.texts, checked.budget, say, spool
            )
        yield target, shared


def _write(
    writer: BundleWriter,
    model: SourceModel,
    options: ConvertOptions,
    target: Target,
    quantised: QuantisedProgram,
    context: int,
    stacks: Sequence[FurtherStack],
    meter: ProgressMeter,
) -> Variant:
    """Has one variant written, and says what it is."""
    weights, limit_mb = quantised.weights, options.package_limit_mb
    name = f"{target.name}-{weights.recipe.name}" + _CELL_SUFFIXES[options.cells]
    request = EmitRequest(
        checkpoint=model.checkpoint,
        program=quantised.program,
        weights=weights,
        folder=writer.path(f"variants/{name}/model").parent,
        context=context,
        steps=target.steps_of(model.program.spec, context),
        cell_type=options.cells,
        stacks=tuple(stacks),
        package_limit_bytes=None if limit_mb is None else int(limit_mb * 1e6),
        texts=tuple(model.texts[: target.range_texts]),
        adapters=model.adapters,
    )
    target.emit(request)
    variant = Variant(
        name=name,
        format=target.format,
        recipe=weights.recipe.name,
        device_classes=target.device_classes,
        entry=f"variants/{name}/{target.entry_for(request.package_limit_bytes, request.steps)}",
        context=context,
        transforms=quantised.history,
        steps=request.steps,
        weights=quantised.records,
        cell_type=options.cells,
        numbers=weight_numbers(quantised.program, weights),
        budget=_describe_mixture(options, quantised),
        # A file that takes tokens only has its adapters as files beside it, and no gates.
        stacks=()
        if target.logits_only
        else main_record(quantised.program, _describe_streams(model, weights)),
    )
    refined = target.refine(
        RefineRequest(
            path=writer.path(variant.entry),
            spec=model.program.spec,
            context=context,
            texts=model.texts,
            accuracy=options.onnx_accuracy,
            say=meter.say,
        )
    )
    used = max(quantised.tokens, sum(len(text) for text in request.texts), refined.tokens)
    return dataclasses.replace(variant, accuracy=refined.accuracy, calibration=_describe_sample(model, used))


def _with_draft(writer: BundleWriter, variant: Variant, draft: DraftStack, written: FurtherStack) -> Variant:
    """The variant with the draft in its file, whose tokens are listed beside that."""
    config, ids = draft.draft.config, f"variants/{variant.name}/{DRAFT_IDS_NAME}"
    map_ = IdMap(config.target.vocab_size, tuple(draft.draft.vocabulary.tolist()))
    writer.path(ids).write_text(map_.to_text(), encoding="utf-8", newline="\n")
    record = DraftRecord(
        config.hidden_size, len(draft.draft.vocabulary), ids, config.depth, own_bytes(written)
    )
    return dataclasses.replace(
        variant,
        steps=(*variant.steps, *written.steps),
        stacks=(*variant.stacks, StackRecord(DRAFT, draft=record)),
        weights=(*variant.weights, *own_records(written)),
    )


def _describe_streams(model: SourceModel, weights: QuantisedWeights) -> StreamsRecord | None:
    """What a variant's streams are, and the bytes of their numbers."""
    if model.streams is None:
        return None
    config = model.streams.config
    size = sum(_stored_bytes(weights, name) for name in weights if is_of_streams(name))
    layers = len(model.program.spec.blocks) - config.first
    return StreamsRecord(config.form, config.count, layers, config.rank, size)


def _stored_bytes(weights: QuantisedWeights, name: str) -> int:
    if weights.scheme(name) is not None:
        return weights.stored(name).nbytes
    return math.prod(weights.shape(name)) * (2 if weights.recipe.float_type == "float16" else 4)


def _with_parts(variant: Variant, parts: WrittenParts) -> Variant:
    """The variant with its decoder in parts, too."""
    return dataclasses.replace(
        variant,
        steps=(*variant.steps, *parts.steps),
        stacks=(*variant.stacks, *parts.records),
    )


def _describe_mixture(options: ConvertOptions, quantised: QuantisedProgram) -> BudgetRecord | None:
    if quantised.mixture is None or options.budget is None:
        return None
    return BudgetRecord(options.budget, quantised.mixture.chosen.low, quantised.mixture.frontier)


def _describe_sample(model: SourceModel, tokens: int) -> CalibrationSample | None:
    if not tokens or model.sample is None:
        return None
    return CalibrationSample(model.sample.name, model.sample.sha256, tokens)
