"""The pipeline: checkpoint -> decoder graph -> transforms -> emitters -> bundle, proven before it is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from edgesdk.bundle.manifest import (
    CHAT_TEMPLATE_NAME,
    ID_MAP_NAME,
    SCHEMA_VERSION,
    TOKENIZER_NAME,
    TOOL_TEMPLATE_NAME,
    Manifest,
    Variant,
)
from edgesdk.bundle.writer import BundleWriter
from edgesdk_converters.check_whole_text import check_whole_text
from edgesdk_converters.convert_options import ConvertOptions, check_options
from edgesdk_converters.parity.prove import own_weights_forgotten
from edgesdk_converters.plan_stages import plan_stages
from edgesdk_converters.progress import Progress, ProgressMeter, Report
from edgesdk_converters.prove_variants import ProofSettings, Proven, prove_variants
from edgesdk_converters.read_source import SourceModel, read_source
from edgesdk_converters.write_variants import write_variants

__all__ = ["ConvertOptions", "Progress", "convert"]


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
        CheckpointError: the source or an adapter cannot be read, or they do not belong together.
        TransformError: a recipe does not suit the model.
        EmitError: a target cannot hold it, or a variant misses its parity gate.
        BundleError: the bundle cannot be written.
        UnsupportedOption: an option names something unknown or impossible.
        MissingExtra: a package of the `convert` extra is missing.
    """
    options = options or ConvertOptions()
    checked = check_options(options)
    meter = ProgressMeter(report, plan_stages(options, checked.targets, checked.recipes))
    for note in checked.notes(options):
        meter.note(f"note: {note}")
    with BundleWriter(out, overwrite=options.overwrite) as writer:
        model = read_source(
            source,
            revision,
            options.reshaping,
            checked.sample,
            meter,
            adapters=checked.adapters,
            run_adapters=checked.run_adapters,
            hidden_states=options.hidden_states,
            embeddings=options.embeddings,
            draft=checked.draft,
            streams=checked.streams,
            suits=lambda checkpoint: check_whole_text(checkpoint, options, checked),
        )
        made = write_variants(writer, model, options, checked, meter)
        _write_text(writer, model)
        manifest = _describe(model, [entry.variant for entry in made])
        if not options.prove:
            skipped = (dataclasses.replace(v, parity_skipped="switched off") for v in manifest.variants)
            return writer.finish(dataclasses.replace(manifest, variants=tuple(skipped)))
        preview = writer.preview(manifest)
        with own_weights_forgotten(preview):
            settings = ProofSettings(options.allow_parity_miss, proven)
            variants = prove_variants(writer, preview, model, made, settings, meter)
            return writer.finish(dataclasses.replace(manifest, variants=variants))


def _describe(model: SourceModel, variants: Sequence[Variant]) -> Manifest:
    """The manifest of a bundle; its list of files is made when it is written."""
    checkpoint = model.checkpoint
    return Manifest(
        schema_version=SCHEMA_VERSION,
        name=checkpoint.name,
        licence=checkpoint.licence,
        created_by=f"edgesdk {version('edgesdk')}",
        source=checkpoint.source,
        decoder=model.program.spec,
        tokenizer=checkpoint.tokenizer.record,
        generation=checkpoint.generation,
        variants=tuple(variants),
        files={},
        vocabulary=model.vocabulary,
        embedding=checkpoint.embedding,
        adapters=model.adapters,
    )


def _write_text(writer: BundleWriter, model: SourceModel) -> None:
    """Writes what stands beside the variants: tokenizer, templates, which tokens stay."""
    tokenizer, kept = model.checkpoint.tokenizer, model.kept
    writer.path(TOKENIZER_NAME).write_text(tokenizer.tokenizer_json, encoding="utf-8")
    if tokenizer.chat_template is not None:
        writer.path(CHAT_TEMPLATE_NAME).write_text(tokenizer.chat_template, encoding="utf-8")
    if tokenizer.tool_template is not None:
        writer.path(TOOL_TEMPLATE_NAME).write_text(tokenizer.tool_template, encoding="utf-8")
    if kept is not None:
        # The manifest has the digest of these very bytes, so line ends stay as they are.
        writer.path(ID_MAP_NAME).write_text(kept.id_map.to_text(), encoding="utf-8", newline="\n")
