"""The pipeline: checkpoint -> decoder graph -> transforms -> emitters -> bundle, proven before it is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from converters.architectures.registry import read_spec, weights_for
from converters.checkpoints.checkpoint import Checkpoint
from converters.checkpoints.open_checkpoint import open_checkpoint
from converters.graph.decoder import build_decoder
from converters.graph.program import Program
from converters.parity.prove import judge, make_reference, measure
from converters.prepare import prepare
from converters.quantise.quantised_weights import QuantisedWeights
from converters.quantise.recipe import Recipe, find_recipe
from converters.targets import EmitRequest, Target, find_targets
from edgesdk.bundle.manifest import (
    CHAT_TEMPLATE_NAME,
    PARITY_NAME,
    SCHEMA_VERSION,
    TOKENIZER_NAME,
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
    """

    targets: tuple[str, ...] = DEFAULT_TARGETS
    recipes: tuple[str, ...] = ("w8",)
    context: int = DEFAULT_CONTEXT
    overwrite: bool = False
    prove: bool = True
    allow_parity_miss: bool = False


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
        options: targets, recipes, context.
        revision: commit, branch or tag of a hub id.
        report: told what happens.

    Returns:
        The bundle's folder.

    Raises:
        CheckpointError: the source cannot be read.
        EmitError: a target cannot hold it, or a variant misses its parity gate.
        BundleError: the bundle cannot be written.
        UnsupportedOption: an option names something unknown.
        MissingExtra: a package of the `convert` extra is missing.
    """
    options = options or ConvertOptions()
    say = report or (lambda line: None)
    targets = find_targets(options.targets)
    recipes = [find_recipe(name) for name in dict.fromkeys(options.recipes)]
    if not recipes:
        raise UnsupportedOption("no recipe is named; expected for example w8")
    with BundleWriter(out, overwrite=options.overwrite) as writer:
        say(f"reading {source}")
        checkpoint = open_checkpoint(source, revision=revision)
        spec = read_spec(checkpoint.config)
        program = Program(spec, build_decoder(spec), weights_for(checkpoint, spec))
        context = min(options.context, spec.context)
        pairs = [(target, recipe) for recipe in recipes for target in targets]
        variants = []
        for recipe in recipes:
            prepared = prepare(program, recipe)
            weights = QuantisedWeights(prepared.weights, recipe)
            for target in targets:
                say(f"writing {target.name} {recipe.name}")
                variants.append(_emit(writer, checkpoint, prepared, weights, target, context))
        _write_text(writer, checkpoint)
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            name=checkpoint.name,
            licence=checkpoint.licence,
            created_by=f"edgesdk {version('edgesdk')}",
            source=checkpoint.source,
            decoder=spec,
            tokenizer=checkpoint.tokenizer.record,
            generation=checkpoint.generation,
            variants=tuple(variants),
            files={},
        )
        if options.prove:
            variants = _prove(writer, manifest, program, pairs, options.allow_parity_miss, say)
        else:
            variants = [dataclasses.replace(v, parity_skipped="switched off") for v in variants]
        return writer.finish(dataclasses.replace(manifest, variants=tuple(variants)))


def _emit(
    writer: BundleWriter,
    checkpoint: Checkpoint,
    program: Program,
    weights: QuantisedWeights,
    target: Target,
    context: int,
) -> Variant:
    name = f"{target.name}-{weights.recipe.name}"
    steps = target.steps(context)
    entry = target.entry or f"{steps[0].signature}.onnx"
    main = writer.path(f"variants/{name}/{entry}")
    target.emit(EmitRequest(checkpoint, program, weights, main.parent, context, steps))
    return Variant(
        name=name,
        format=target.format,
        recipe=weights.recipe.name,
        device_classes=target.device_classes,
        entry=f"variants/{name}/{entry}",
        context=context,
        transforms=program.history,
        steps=steps,
    )


def _write_text(writer: BundleWriter, checkpoint: Checkpoint) -> None:
    writer.path(TOKENIZER_NAME).write_text(checkpoint.tokenizer.tokenizer_json, encoding="utf-8")
    if checkpoint.tokenizer.chat_template is not None:
        writer.path(CHAT_TEMPLATE_NAME).write_text(checkpoint.tokenizer.chat_template, encoding="utf-8")


def _prove(
    writer: BundleWriter,
    manifest: Manifest,
    program: Program,
    pairs: Sequence[tuple[Target, Recipe]],
    allow_miss: bool,
    say: Report,
) -> list[Variant]:
    draft = writer.preview(manifest)
    say("scoring the reference")
    tokenizer = Tokenizer(draft / TOKENIZER_NAME, manifest.tokenizer)
    reference = make_reference(program, tokenizer.encode)
    write_probe(writer.path(PARITY_NAME), reference.texts, reference.logits)
    measured = []
    for variant, (target, _) in zip(manifest.variants, pairs, strict=True):
        say(f"proving {variant.name}")
        measured.append(measure(draft, variant, target.proof_backend, reference))
    say("scoring the answers")
    reports = judge(program, measured, [recipe for _, recipe in pairs])
    proven = []
    for variant, report in zip(manifest.variants, reports, strict=True):
        miss = misses_gate(report, report)
        if miss is not None and not allow_miss:
            raise EmitError(
                f"{variant.name}: {miss}; use another recipe, or keep it and record the miss with "
                "--allow-parity-miss"
            )
        proven.append(dataclasses.replace(variant, parity=report))
    return proven
