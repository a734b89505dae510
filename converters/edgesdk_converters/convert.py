"""The pipeline: checkpoint -> decoder graph -> transforms -> emitters -> bundle, proven before it is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.manifest import (
    CHAT_TEMPLATE_NAME,
    ID_MAP_NAME,
    PARITY_NAME,
    SCHEMA_VERSION,
    TOKENIZER_NAME,
    TOOL_TEMPLATE_NAME,
    BudgetRecord,
    CalibrationSample,
    CellType,
    Manifest,
    ParityReport,
    Variant,
)
from edgesdk.bundle.writer import BundleWriter
from edgesdk.errors import EmitError, UnsupportedOption
from edgesdk.evaluation.agreement import AgreementReport
from edgesdk.evaluation.gate import misses_gate
from edgesdk.evaluation.probe import write_probe
from edgesdk.model import Model
from edgesdk.text.tokenizer import Tokenizer
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.calibration_windows import calibration_windows
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.convert_options import ACCURACY_TARGET, ConvertOptions, check_options
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.program import Program
from edgesdk_converters.parity.answer_questions import ReferenceAnswers
from edgesdk_converters.parity.explain_miss import explain_miss
from edgesdk_converters.parity.prove import (
    describe_reference,
    judge,
    make_reference,
    measure,
    own_weights_forgotten,
    parity_report,
)
from edgesdk_converters.parity.raise_accuracy import TEXTS as ACCURACY_TEXTS
from edgesdk_converters.parity.raise_accuracy import raise_accuracy
from edgesdk_converters.plan_stages import plan_stages, quantising_work, weight_of_line
from edgesdk_converters.prepare import prepare
from edgesdk_converters.progress import Progress, ProgressMeter, Report
from edgesdk_converters.quantise.budget import Budget, Mixture
from edgesdk_converters.quantise.calibrate import CalibrationRecord
from edgesdk_converters.quantise.calibration.calibration_text import (
    CalibrationText,
    builtin_calibration,
    read_calibration,
)
from edgesdk_converters.quantise.recipe import Recipe
from edgesdk_converters.quantise.weight_numbers import weight_numbers
from edgesdk_converters.quantise_program import QuantisedProgram, Texts, depends_on_target, quantise_program
from edgesdk_converters.shallow_stack import SHALLOW_PARITY_NAME, ShallowStack, shallow_stack
from edgesdk_converters.targets import EmitRequest, Target
from edgesdk_converters.transforms.prune_head import prune_head
from edgesdk_converters.transforms.skip_layers import skip_layers
from edgesdk_converters.transforms.skip_request import parse_skip
from edgesdk_converters.vocabulary.kept_speller import kept_speller
from edgesdk_converters.vocabulary.kept_tokens import KeptTokens

__all__ = ["ConvertOptions", "Progress", "convert"]

Proven = Callable[[Model, ParityReport], None]
"""Called with a variant that has met its gate, still loaded, before its greedy answers are compared."""

_CELL_SUFFIXES: dict[CellType, str] = {"float32": "", "float16": "-cells16", "int8": "-cells8"}
_WINDOW_TOKENS = 512
_CALIBRATION_TOKENS = 8192


def convert(
    source: str,
    out: Path | str,
    options: ConvertOptions | None = None,
    *,
    revision: str | None = None,
    report: Report | None = None,
    proven: Proven | None = None,
) -> Path:
    """Converts a checkpoint into a bundle.

    Args:
        source: a Hugging Face directory, a `.gguf` file, a hub id, or a named model.
        out: folder to write.
        options: targets, recipes, context, what to leave out.
        revision: commit, branch or tag of a hub id.
        report: told how far it is (`progress.Progress`), before every stage and in long ones
            often. What it raises ends the conversion, which leaves nothing.
        proven: handed every variant that has met its gate, loaded, with what was measured; `greedy` of that
            is still None. The bundle is not finished then, and the model is closed afterwards.

    Returns:
        The bundle's folder.

    Raises:
        CheckpointError: the source cannot be read.
        TransformError: a recipe does not suit the model.
        EmitError: a target cannot hold it, or a variant misses its parity gate.
        BundleError: the bundle cannot be written.
        UnsupportedOption: an option names something unknown or impossible.
        MissingExtra: a package of the `convert` extra is missing.
    """
    options = options or ConvertOptions()
    targets, recipes, budget = check_options(options)
    needs_text = options.needs_text(targets, recipes)
    if options.calibration is not None and not needs_text:
        raise UnsupportedOption(
            "a calibration text is given and nothing uses it; leave it out, or choose a calibrated recipe"
        )
    sample = _sample(options) if needs_text else None
    meter = ProgressMeter(report, plan_stages(options, targets, recipes))
    say = meter.say
    if needs_text:
        meter.note("note: calibrating takes minutes; recipes that end in -round do without and lose more")
    with BundleWriter(out, overwrite=options.overwrite) as writer:
        meter.enter("reading", f"reading {source}")
        checkpoint = open_checkpoint(source, revision=revision)
        for note in checkpoint.notes:
            meter.note(f"note: {note}")
        if options.reshaping.changes:
            meter.enter("reshaping", "choosing what to leave out")
        checkpoint, kept = options.reshaping.prune(checkpoint, say)
        texts = _texts(checkpoint, sample)
        spec = read_spec(checkpoint.config)
        program = Program(spec, build_decoder(spec), weights_for(checkpoint, spec))
        program = options.reshaping.shorten(program, texts, say)
        if kept is not None and kept.output_only:
            program = prune_head(program, kept.rows)
        context = min(options.context, spec.context)
        draft = None if options.shallow is None else skip_layers(program, parse_skip(options.shallow))
        made = []
        for recipe in recipes:
            for target, quantised in _quantise(program, recipe, targets, texts, budget, meter):
                meter.enter("writing", f"writing {target.name} {quantised.weights.recipe.name}")
                shallow = None
                if options.shallow is not None:
                    shallow = shallow_stack(quantised.program, options.shallow, context, target.steps)
                read = texts[: target.range_texts]
                variant = _emit(writer, checkpoint, quantised, target, context, options, shallow, read)
                tokens = max(quantised.tokens, sum(len(text) for text in read))
                if options.onnx_accuracy is not None and target.name == ACCURACY_TARGET:
                    judged = texts[-ACCURACY_TEXTS:]  # where others take only some, they take the first
                    variant = _raise(writer, variant, program.spec, judged, options.onnx_accuracy, say)
                    tokens = max(tokens, sum(len(text) for text in judged))
                if tokens and sample is not None:
                    used = CalibrationSample(sample.name, sample.sha256, tokens)
                    variant = dataclasses.replace(variant, calibration=used)
                if quantised.mixture is not None and options.budget is not None:
                    variant = dataclasses.replace(
                        variant, budget=_describe_mixture(options.budget, quantised.mixture)
                    )
                made.append(_Made(variant, target, recipe, quantised.calibration, program))
                if shallow is not None and draft is not None:
                    second = shallow.variant(variant, quantised.weights)
                    made.append(_Made(second, target, recipe, quantised.calibration, draft))
        _write_text(writer, checkpoint, kept)
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            name=checkpoint.name,
            licence=checkpoint.licence,
            created_by=f"edgesdk {version('edgesdk')}",
            source=checkpoint.source,
            decoder=program.spec,
            tokenizer=checkpoint.tokenizer.record,
            generation=checkpoint.generation,
            variants=tuple(entry.variant for entry in made),
            files={},
            vocabulary=None if kept is None else kept.record(),
        )
        if not options.prove:
            unproven = [dataclasses.replace(v, parity_skipped="switched off") for v in manifest.variants]
            return writer.finish(dataclasses.replace(manifest, variants=tuple(unproven)))
        preview, allow_miss = writer.preview(manifest), options.allow_parity_miss
        with own_weights_forgotten(preview):
            variants = _prove(writer, preview, manifest, made, checkpoint, kept, allow_miss, meter, proven)
            return writer.finish(dataclasses.replace(manifest, variants=tuple(variants)))


def _raise(
    writer: BundleWriter,
    variant: Variant,
    spec: DecoderSpec,
    texts: Texts,
    wish: float,
    say: Callable[[str], None],
) -> Variant:
    record = raise_accuracy(writer.path(variant.entry), spec, variant.context, texts, wish, say)
    return dataclasses.replace(variant, accuracy=record)


@dataclasses.dataclass(frozen=True)
class _Made:
    """A variant with what its proof needs; its weights, hundreds of megabytes, are not kept for that."""

    variant: Variant
    target: Target
    recipe: Recipe
    calibration: Sequence[CalibrationRecord]
    reference: Program


def _sample(options: ConvertOptions) -> CalibrationText:
    return builtin_calibration() if options.calibration is None else read_calibration(options.calibration)


def _texts(checkpoint: Checkpoint, sample: CalibrationText | None) -> Texts:
    return (
        [] if sample is None else calibration_windows(checkpoint, sample, _WINDOW_TOKENS, _CALIBRATION_TOKENS)
    )


def _describe_mixture(request: str, mixture: Mixture) -> BudgetRecord:
    return BudgetRecord(request, mixture.chosen.low, mixture.frontier)


def _quantise(
    program: Program,
    recipe: Recipe,
    targets: Sequence[Target],
    texts: Texts,
    budget: Budget | None,
    meter: ProgressMeter,
) -> Iterator[tuple[Target, QuantisedProgram]]:
    """The program for each target, made once for all where they take the same."""

    def say(what: str) -> None:
        meter.say(what, weight_of_line(what))

    meter.enter("quantising", f"quantising {recipe.name}")
    prepared = prepare(program, recipe)
    shared: QuantisedProgram | None = None
    for target in targets:
        if shared is None or depends_on_target(recipe):
            if shared is not None:
                meter.enter("quantising", f"quantising {recipe.name} for {target.name}")
            meter.expect(quantising_work(prepared, recipe))
            shared = quantise_program(prepared, recipe, target.blocks, texts, budget, say)
        yield target, shared


def _emit(
    writer: BundleWriter,
    checkpoint: Checkpoint,
    quantised: QuantisedProgram,
    target: Target,
    context: int,
    options: ConvertOptions,
    shallow: ShallowStack | None,
    texts: Texts,
) -> Variant:
    recipe, cells, limit_mb = quantised.weights.recipe, options.cells, options.package_limit_mb
    name = f"{target.name}-{recipe.name}" + _CELL_SUFFIXES[cells]
    steps = target.steps(context)
    limit_bytes = None if limit_mb is None else int(limit_mb * 1e6)
    entry = target.entry_for(limit_bytes, steps)
    folder = writer.path(f"variants/{name}/{entry.split('/')[0]}").parent
    stacks = () if shallow is None else ((shallow.program, shallow.steps),)
    program, weights = quantised.program, quantised.weights
    target.emit(
        EmitRequest(
            checkpoint, program, weights, folder, context, steps, cells, stacks, limit_bytes, tuple(texts)
        )
    )
    return Variant(
        name=name,
        format=target.format,
        recipe=recipe.name,
        device_classes=target.device_classes,
        entry=f"variants/{name}/{entry}",
        context=context,
        transforms=quantised.history,
        steps=steps,
        weights=quantised.records,
        cell_type=cells,
        numbers=weight_numbers(program, weights),
    )


def _write_text(writer: BundleWriter, checkpoint: Checkpoint, kept: KeptTokens | None) -> None:
    writer.path(TOKENIZER_NAME).write_text(checkpoint.tokenizer.tokenizer_json, encoding="utf-8")
    if checkpoint.tokenizer.chat_template is not None:
        writer.path(CHAT_TEMPLATE_NAME).write_text(checkpoint.tokenizer.chat_template, encoding="utf-8")
    if checkpoint.tokenizer.tool_template is not None:
        writer.path(TOOL_TEMPLATE_NAME).write_text(checkpoint.tokenizer.tool_template, encoding="utf-8")
    if kept is not None:
        # The manifest has the digest of these very bytes, so line ends stay as they are.
        writer.path(ID_MAP_NAME).write_text(kept.id_map.to_text(), encoding="utf-8", newline="\n")


def _prove(
    writer: BundleWriter,
    preview: Path,
    manifest: Manifest,
    made: Sequence[_Made],
    checkpoint: Checkpoint,
    kept: KeptTokens | None,
    allow_miss: bool,
    meter: ProgressMeter,
    told: Proven | None,
) -> list[Variant]:
    """Measures every variant against its stack in float32, as it was before anything was quantised."""
    tokenizer = Tokenizer(preview / TOKENIZER_NAME, manifest.tokenizer)
    encode: Callable[[str], Sequence[int]] = tokenizer.encode
    writable = None
    if kept is not None and kept.output_only:
        # A text that the model cannot write has no perplexity: what it lacks is spelled by what it has.
        encode, writable = kept_speller(checkpoint.tokenizer, kept), kept.rows
    proven: dict[str, Variant] = {}
    for program in {id(entry.reference): entry.reference for entry in made}.values():
        entries = [entry for entry in made if entry.reference is program]
        against = describe_reference(program, manifest.vocabulary)
        meter.enter("scoring", f"scoring the reference: {against}")
        reference = make_reference(program, encode, writable)
        probe = None if entries[0].variant.decoder is None else SHALLOW_PARITY_NAME
        answers = ReferenceAnswers(program, manifest.tokenizer.eos_ids, writable, meter.say)
        measured = []
        for entry in entries:
            meter.enter("proving", f"proving {entry.variant.name}")

            def check(
                model: Model, found: AgreementReport, entry: _Made = entry, against: str = against
            ) -> None:
                report = parity_report(entry.target.proof_backend, found, entry.recipe, against)
                miss = misses_gate(report, report)
                if miss is None and told is not None:
                    told(model, report)
                if miss is not None and not allow_miss:
                    raise EmitError(explain_miss(entry.variant, miss, entry.calibration))

            backend = entry.target.proof_backend
            measured.append(measure(preview, entry.variant, backend, reference, answers, check))
        write_probe(writer.path(probe or PARITY_NAME), reference.texts, reference.logits, chats=answers.found)
        meter.enter("comparing", "comparing the answers with the reference's")
        reports = judge(program, measured, [entry.recipe for entry in entries], against, writable)
        for entry, report in zip(entries, reports, strict=True):
            proven[entry.variant.name] = dataclasses.replace(entry.variant, parity=report, probe=probe)
    return [proven[variant.name] for variant in manifest.variants]
