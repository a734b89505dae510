"""`edgesdk inspect`: what a bundle says about itself."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgesdk.cli.options import bundle_argument, json_option
from edgesdk.cli.output import (
    VECTOR_HEADER,
    chats_text,
    describe_adapter,
    greedy_text,
    megabytes,
    print_facts,
    print_json,
    print_table,
    vector_cells,
)

if TYPE_CHECKING:
    from edgesdk.bundle.manifest import Manifest, TransformRecord, Variant
    from edgesdk.bundle.reader import Bundle
from edgesdk.bundle.exit_record import LABEL_HEAD
from edgesdk.bundle.step_shape import MAIN

EXAMPLES = """\b
Examples:
  edgesdk inspect smollm2
  edgesdk inspect smollm2 --json
"""


_MOST_SIZES = 3
"""More sizes than these are shown as a range."""


@click.command(short_help="Show what a bundle says about itself.", epilog=EXAMPLES)
@bundle_argument
@json_option
def command(bundle: Path, as_json: bool) -> None:
    """Shows the manifest of BUNDLE: model, licence, source, shape, transforms, variants, parity.

    Nothing is hashed or run; `edgesdk verify` does that. A bundle whose files name what it does not list is
    refused. With --json the manifest itself is printed.
    """
    from edgesdk.backends.check_variant import check_references
    from edgesdk.bundle.reader import open_bundle

    opened = open_bundle(bundle)
    for variant in opened.manifest.variants:
        check_references(opened, variant)
    if as_json:
        print_json(opened.manifest)
        return
    print_facts(_facts(opened.manifest))
    print_table(
        ("variant", "format", "recipe", "devices", "context>", "size MB>", "step sizes (T x S)"),
        [_variant_row(opened, variant) for variant in opened.manifest.variants],
        title="Variants",
    )
    described = [_weights_row(variant) for variant in opened.manifest.variants if variant.weights]
    if described:
        print_table(
            (
                "variant",
                "kept exactly>",
                "requantised>",
                "quantised>",
                "float>",
                "loses most in",
                "calibrated with",
            ),
            described,
            title="Matrices, by how they came from the source",
        )
    if not opened.manifest.decoder.is_causal:
        print_table(
            ("variant", "proven with", "against", *VECTOR_HEADER, "gate"),
            [_vectors_row(variant) for variant in opened.manifest.variants],
            title="Vectors beside those of the reference in float32",
        )
        return
    print_table(
        (
            "variant",
            "proven with",
            "against",
            "perplexity ratio>",
            "KL nats>",
            "top-1>",
            "chats>",
            "gate",
            "greedy",
        ),
        [_parity_row(variant) for variant in opened.manifest.variants],
        title="Parity with the reference in float32",
    )


def _facts(manifest: Manifest) -> list[tuple[str, str]]:
    spec = manifest.decoder
    source = manifest.source
    revision = f" at {source.revision}" if source.revision else ""
    shape = (
        f"{spec.architecture}: {len(spec.layers)} layers, hidden {spec.hidden_size}, feed-forward "
        f"{' and '.join(map(str, spec.ffn_sizes)) or 'none'}, {spec.describe_layers()}, "
        f"vocabulary {spec.vocab_size}, context {spec.context}"
    )
    return [
        ("model", manifest.name),
        ("licence", manifest.licence or "not stated by the source"),
        ("made by", manifest.created_by),
        ("source", f"{source.kind} {source.location}{revision}"),
        *((" file", f"{f.name}, {megabytes(f.size_bytes)} MB, sha256 {f.sha256}") for f in source.files),
        ("decoder", shape),
        *_pruning(manifest),
        *_embedding(manifest),
        *_adapters(manifest),
        *(
            (f" into {variant.name}", ", ".join(map(_transform, variant.transforms)) or "not transformed")
            for variant in manifest.variants
        ),
        *(row for variant in manifest.variants for row in _accuracy(variant)),
        *(row for variant in manifest.variants for row in _further(variant)),
    ]


def _pruning(manifest: Manifest) -> list[tuple[str, str]]:
    record = manifest.vocabulary
    if record is None:
        return []
    covered = "" if record.coverage is None else f", {record.coverage:.2%} of the sample's tokens"
    return [(" pruned", f"{record.tokens} of {record.source_tokens} tokens ({record.method}{covered})")]


def _embedding(manifest: Manifest) -> list[tuple[str, str]]:
    record = manifest.embedding
    if record is None:
        return []
    length = "of length 1" if record.normalise else "of any length"
    prompts = f", prompts {', '.join(record.prompts)}" if record.prompts else ""
    only = "" if manifest.decoder.is_causal else ", and writes no text"
    return [(" embeds", f"by {record.pooling}, vectors {length}{prompts}{only}")]


def _adapters(manifest: Manifest) -> list[tuple[str, str]]:
    return [(f" adapter {record.name}", describe_adapter(record)) for record in manifest.adapters]


def _transform(record: TransformRecord) -> str:
    settings = ", ".join(f"{key}={value}" for key, value in record.settings.items())
    return f"{record.name} ({settings})" if settings else record.name


def _variant_row(bundle: Bundle, variant: Variant) -> tuple[str, ...]:
    cells: dict[int, list[int]] = {}
    for step in sorted(step for step in variant.steps if step.stack == MAIN):
        cells.setdefault(step.tokens, []).append(step.cells)
    alike: dict[tuple[int, ...], list[int]] = {}
    for tokens, sizes in cells.items():
        alike.setdefault(tuple(sizes), []).append(tokens)
    steps = "; ".join(f"{'/'.join(map(str, tokens))} x {_sizes(cells)}" for cells, tokens in alike.items())
    return (
        variant.name,
        variant.format,
        variant.recipe,
        ", ".join(variant.device_classes),
        str(variant.context),
        megabytes(bundle.variant_bytes(variant)),
        steps or "any",
    )


def _sizes(cells: tuple[int, ...]) -> str:
    return "/".join(map(str, cells)) if len(cells) <= _MOST_SIZES else f"{cells[0]} to {cells[-1]}"


def _accuracy(variant: Variant) -> list[tuple[str, str]]:
    record = variant.accuracy
    if record is None:
        return []
    return [
        (
            f" floats in {variant.name}",
            f"activations of {len(record.raised)} products, {record.multiplications_share:.0%} of the work; "
            f"agreement {record.top1_before:.3f} to {record.top1_after:.3f}, "
            f"KL {record.kl_before_nats:.4f} to {record.kl_after_nats:.4f} nats",
        )
    ]


def _further(variant: Variant) -> list[tuple[str, str]]:
    """What its file gives beside logits, and the trained draft in it."""
    rows = []
    for stack in variant.stacks:
        if stack.name == MAIN and stack.outputs:
            names = ", ".join(port.name for port in stack.outputs)
            rows.append((f" outputs of {variant.name}", f"logits, {names}"))
        if stack.streams is not None:
            streams = stack.streams
            rows.append(
                (
                    f" streams in {variant.name}",
                    f"{streams.count} in the form {streams.form}, through {streams.layers} layers, rank "
                    f"{streams.rank}, {megabytes(streams.size_bytes)} MB",
                )
            )
        if stack.exit is not None and stack.exit.part == "head":
            parts = (each.exit for each in variant.stacks if each.exit is not None)
            ends = sorted(part.last for part in parts if part.part == "segment")
            text = f"after {', '.join(map(str, ends[:-1]))} of {ends[-1]} blocks"
            if any(each.name == LABEL_HEAD for each in variant.stacks):
                text += ", with a head over labels"
            rows.append((f" exits of {variant.name}", text))
        if stack.draft is not None:
            draft = stack.draft
            near = "not measured" if draft.top1_agreement is None else f"{draft.top1_agreement:.3f}"
            text = (
                f"trained for {draft.depth} tokens ahead, {draft.vocabulary} tokens, "
                f"{megabytes(draft.size_bytes)} MB; first choices as in float32: {near}"
            )
            rows.append((f" draft in {variant.name}", text))
    return rows


def _weights_row(variant: Variant) -> tuple[str, ...]:
    counts = Counter(record.kept for record in variant.weights)
    worst = max(variant.weights, key=lambda record: record.relative_error)
    sample = variant.calibration
    return (
        variant.name,
        *(str(counts[kept]) for kept in ("exact", "requantised", "quantised", "float")),
        f"{worst.name} {worst.relative_error:.1%}" if worst.relative_error else "-",
        "-" if sample is None else f"{sample.name}, {sample.tokens} tokens",
    )


def _vectors_row(variant: Variant) -> tuple[str, ...]:
    report = variant.vector_parity
    if report is None:
        return (variant.name, "-", "-", *vector_cells(None), f"not proven: {variant.parity_skipped}")
    gate = f"least >= {report.gate_cosine:g}, order >= {report.gate_order:g}"
    return (variant.name, report.backend, report.against, *vector_cells(report.figures), gate)


def _parity_row(variant: Variant) -> tuple[str, ...]:
    report = variant.parity
    if report is None:
        return (variant.name, "-", "-", "-", "-", "-", "-", "-", f"not proven: {variant.parity_skipped}")
    return (
        variant.name,
        report.backend,
        report.against,
        f"{report.perplexity_ratio:.4f}",
        f"{report.kl_nats:.4f}",
        f"{report.top1_agreement:.3f}",
        chats_text(report.chats),
        f"ratio <= {report.gate_perplexity_ratio:g}, top-1 >= {report.gate_top1_agreement:g}",
        greedy_text(report.greedy),
    )
