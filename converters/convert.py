"""The pipeline: checkpoint -> decoder graph -> transforms -> emitters -> bundle, proven before it is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from converters.architectures.registry import read_spec, weights_for
from converters.calibration_windows import calibration_windows
from converters.checkpoints.checkpoint import Checkpoint
from converters.checkpoints.open_checkpoint import open_checkpoint
from converters.graph.decoder import build_decoder
from converters.graph.program import Program
from converters.parity.explain_miss import explain_miss
from converters.parity.prove import judge, make_reference, measure
from converters.prepare import prepare
from converters.quantise.budget import Budget, Mixture, parse_budget
from converters.quantise.calibration.calibration_text import (
    CalibrationText,
    builtin_calibration,
    read_calibration,
)
from converters.quantise.recipe import Recipe, find_recipe
from converters.quantise_program import QuantisedProgram, Texts, depends_on_target, quantise_program
from converters.reshape import Reshaping
from converters.targets import EmitRequest, Target, find_targets
from converters.vocabulary.kept_tokens import KeptTokens
from edgesdk.bundle.manifest import (
    CHAT_TEMPLATE_NAME,
    ID_MAP_NAME,
    PARITY_NAME,
    SCHEMA_VERSION,
    TOKENIZER_NAME,
    BudgetRecord,
    CalibrationSample,
    CellType,
    Manifest,
    Variant,
)
from edgesdk.bundle.writer import BundleWriter
from edgesdk.errors import EmitError, UnsupportedOption
from edgesdk.evaluation.gate import misses_gate
from edgesdk.evaluation.probe import write_probe
from edgesdk.text.tokenizer import Tokenizer

Report = Callable[[str], None]
"""Called with one line before each stage."""

DEFAULT_TARGETS = ("litert", "onnx")
DEFAULT_CONTEXT = 2048
_WINDOW_TOKENS = 512
_CALIBRATION_TOKENS = 8192


@dataclasses.dataclass(frozen=True)
class ConvertOptions:
    """How to convert.

    Attributes:
        targets: names from `converters.targets`.
        recipes: names in the grammar of `converters.quantise.recipe`; each target gets each.
        context: longest sequence, in tokens; cut to what the checkpoint declares.
        overwrite: replace a bundle that is there.
        prove: measure every variant and fail when one misses its gate.
        allow_parity_miss: record a miss instead of failing.
        reshaping: tokens and layers to leave out.
        calibration: text file to calibrate with; None for the built-in sample.
        cells: type of cached keys and values; int8 takes a quarter of the memory (LiteRT only).
        budget: mix the recipe with int8 to a budget (`converters.quantise.budget`); None for no mixture.
    """

    targets: tuple[str, ...] = DEFAULT_TARGETS
    recipes: tuple[str, ...] = ("w8",)
    context: int = DEFAULT_CONTEXT
    overwrite: bool = False
    prove: bool = True
    allow_parity_miss: bool = False
    reshaping: Reshaping = dataclasses.field(default_factory=Reshaping)
    calibration: Path | None = None
    budget: str | None = None
    cells: CellType = "float32"


def convert(
    source: str,
    out: Path | str,
    options: ConvertOptions | None = None,
    *,
    revision: str | None = None,
    report: Report | None = None,
) -> Path:
    """Converts a checkpoint into a bundle.

    Args:
        source: a Hugging Face directory, a `.gguf` file, a hub id, or a named model.
        out: folder to write.
        options: targets, recipes, context, what to leave out.
        revision: commit, branch or tag of a hub id.
        report: told what happens.

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
    say = report or (lambda line: None)
    targets = find_targets(options.targets)
    recipes = [find_recipe(name) for name in dict.fromkeys(options.recipes)]
    if not recipes:
        raise UnsupportedOption("no recipe is named; expected for example w8")
    if options.cells == "int8" and any(target.name != "litert" for target in targets):
        others = ", ".join(target.name for target in targets if target.name != "litert")
        raise UnsupportedOption(f"int8 cells are for the target litert only, found {others}; leave it out")
    options.reshaping.check()
    budget = None if options.budget is None else parse_budget(options.budget)
    needs_text = options.reshaping.needs_text or any(recipe.needs_data for recipe in recipes)
    if options.calibration is not None and not needs_text:
        raise UnsupportedOption(
            "a calibration text is given and nothing uses it; leave it out, or choose a calibrated recipe"
        )
    sample = _sample(options) if needs_text else None
    with BundleWriter(out, overwrite=options.overwrite) as writer:
        say(f"reading {source}")
        checkpoint = open_checkpoint(source, revision=revision)
        checkpoint, kept = options.reshaping.prune(checkpoint, say)
        texts = _texts(checkpoint, sample)
        spec = read_spec(checkpoint.config)
        program = Program(spec, build_decoder(spec), weights_for(checkpoint, spec))
        program = options.reshaping.shorten(program, texts, say)
        context = min(options.context, spec.context)
        made = []
        for recipe in recipes:
            for target, quantised in _quantise(program, recipe, targets, texts, budget, say):
                say(f"writing {target.name} {quantised.weights.recipe.name}")
                variant = _emit(writer, checkpoint, quantised, target, context, options.cells)
                if quantised.tokens and sample is not None:
                    used = CalibrationSample(sample.name, sample.sha256, quantised.tokens)
                    variant = dataclasses.replace(variant, calibration=used)
                if quantised.mixture is not None and options.budget is not None:
                    variant = dataclasses.replace(
                        variant, budget=_describe_mixture(options.budget, quantised.mixture)
                    )
                made.append(_Made(variant, target, recipe, quantised))
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
        if options.prove:
            variants = _prove(writer, manifest, program, made, options.allow_parity_miss, say)
        else:
            variants = [dataclasses.replace(v, parity_skipped="switched off") for v in manifest.variants]
        return writer.finish(dataclasses.replace(manifest, variants=tuple(variants)))


@dataclasses.dataclass(frozen=True)
class _Made:
    """A variant with what its proof needs."""

    variant: Variant
    target: Target
    recipe: Recipe
    quantised: QuantisedProgram


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
    say: Report,
) -> Iterator[tuple[Target, QuantisedProgram]]:
    """The program for each target, made once for all where they take the same."""
    say(f"quantising {recipe.name}")
    prepared = prepare(program, recipe)
    shared: QuantisedProgram | None = None
    for target in targets:
        if shared is None or depends_on_target(recipe):
            shared = quantise_program(prepared, recipe, target.blocks, texts, budget, say)
        yield target, shared


def _emit(
    writer: BundleWriter,
    checkpoint: Checkpoint,
    quantised: QuantisedProgram,
    target: Target,
    context: int,
    cells: CellType,
) -> Variant:
    recipe = quantised.weights.recipe
    name = f"{target.name}-{recipe.name}" + ("-cells8" if cells == "int8" else "")
    steps = target.steps(context)
    entry = target.entry or f"{steps[0].signature}.onnx"
    folder = writer.path(f"variants/{name}/{entry.split('/')[0]}").parent
    target.emit(EmitRequest(checkpoint, quantised.program, quantised.weights, folder, context, steps, cells))
    return Variant(
        name=name,
        format=target.format,
        recipe=recipe.name,
        device_classes=target.device_classes,
        entry=f"variants/{name}/{entry}",
        context=context,
        transforms=quantised.program.history,
        steps=steps,
        weights=quantised.records,
        cell_type=cells,
    )


def _write_text(writer: BundleWriter, checkpoint: Checkpoint, kept: KeptTokens | None) -> None:
    writer.path(TOKENIZER_NAME).write_text(checkpoint.tokenizer.tokenizer_json, encoding="utf-8")
    if checkpoint.tokenizer.chat_template is not None:
        writer.path(CHAT_TEMPLATE_NAME).write_text(checkpoint.tokenizer.chat_template, encoding="utf-8")
    if kept is not None:
        # The manifest has the digest of these very bytes, so line ends stay as they are.
        writer.path(ID_MAP_NAME).write_text(kept.id_map.to_text(), encoding="utf-8", newline="\n")


def _prove(
    writer: BundleWriter,
    manifest: Manifest,
    program: Program,
    made: Sequence[_Made],
    allow_miss: bool,
    say: Report,
) -> list[Variant]:
    """Measures every variant against the float32 model, as it was before anything was quantised."""
    draft = writer.preview(manifest)
    say("scoring the reference")
    tokenizer = Tokenizer(draft / TOKENIZER_NAME, manifest.tokenizer)
    reference = make_reference(program, tokenizer.encode)
    write_probe(writer.path(PARITY_NAME), reference.texts, reference.logits)
    measured = []
    for entry in made:
        say(f"proving {entry.variant.name}")
        measured.append(measure(draft, entry.variant, entry.target.proof_backend, reference))
    say("scoring the answers")
    proven = []
    for entry, report in zip(made, judge(program, measured, [m.recipe for m in made]), strict=True):
        miss = misses_gate(report, report)
        if miss is not None and not allow_miss:
            raise EmitError(explain_miss(entry.variant, miss, entry.quantised.calibration))
        proven.append(dataclasses.replace(entry.variant, parity=report))
    return proven
