"""`edgesdk show`: one model of the shelf, what it is and what it can do."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from edgesdk.cli.list import made, summary
from edgesdk.cli.options import json_option
from edgesdk.cli.output import (
    VECTOR_HEADER,
    megabytes,
    print_facts,
    print_json,
    print_table,
    vector_cells,
)
from edgesdk.errors import BundleError

if TYPE_CHECKING:
    from edgesdk.bundle.decoder_spec import DecoderSpec
    from edgesdk.bundle.manifest import GenerationDefaults
    from edgesdk.bundle.reader import Bundle
    from edgesdk.bundle.shelf_models import ShelvedModel

EXAMPLES = """\b
Examples:
  edgesdk show smollm2
  edgesdk show smollm2 --template
  edgesdk show smollm2 --json
"""


@click.command(short_help="Show a model on the shelf.", epilog=EXAMPLES)
@click.argument("name")
@click.option("--template", is_flag=True, help="Print the model's chat template, and nothing else.")
@json_option
def command(name: str, template: bool, as_json: bool) -> None:
    """Shows the model NAME: where it is, what it takes of the disk, where it came from, what it can do.

    NAME is a name or an alias on the shelf. `edgesdk inspect` shows all that a bundle says about itself.
    """
    from edgesdk.bundle.reader import open_bundle
    from edgesdk.bundle.shelf_models import shelved_model
    from edgesdk.text.abilities import find_abilities
    from edgesdk.text.read_chat_template import read_chat_template

    if template and as_json:
        raise click.UsageError("give --template or --json, not both")
    model = shelved_model(name)
    bundle = open_bundle(model.path)
    if template:
        found = read_chat_template(bundle)
        if found is None:
            raise BundleError(
                f"{model.name} has no chat template; it completes text: edgesdk run {model.name} --raw"
            )
        click.echo(found.source, nl=not found.source.endswith("\n"))
        return
    abilities = find_abilities(bundle)
    if as_json:
        print_json(
            {
                **summary(model),
                "licence": bundle.manifest.licence,
                "architecture": bundle.manifest.decoder.architecture,
                "context": bundle.manifest.decoder.context,
                "abilities": abilities,
                "generation": bundle.manifest.generation,
                "variants": [
                    {
                        "name": variant.name,
                        "format": variant.format,
                        "recipe": variant.recipe,
                        "context": variant.context,
                        "size_bytes": bundle.variant_bytes(variant),
                    }
                    for variant in bundle.manifest.variants
                ],
            }
        )
        return
    print_facts(_facts(model, bundle, abilities))
    _print_variants(bundle)


def _facts(model: ShelvedModel, bundle: Bundle, abilities: dict[str, str | None]) -> list[tuple[str, str]]:
    manifest = bundle.manifest
    spec, source = manifest.decoder, manifest.source
    revision = f" at {source.revision}" if source.revision else ""
    can = [
        ability if form in (None, "yes") else f"{ability} ({form})"
        for ability, form in abilities.items()
        if form
    ]
    return [
        ("name", model.name),
        *([("aliases", ", ".join(model.aliases))] if model.aliases else []),
        ("model", manifest.name),
        ("licence", manifest.licence or "not stated by the source"),
        ("source", f"{source.kind} {source.location}{revision}"),
        ("decoder", f"{spec.architecture}: {len(spec.blocks)} blocks, vocabulary {spec.vocab_size}"),
        ("context", f"{max((v.context for v in manifest.variants), default=0)} of {spec.context} tokens"),
        ("can", ", ".join(can) or _alone(manifest.decoder)),
        ("sampling", _sampling(manifest.generation)),
        ("disk use", f"{megabytes(model.size_bytes)} MB in {model.path}"),
        ("made", f"{made(model)} UTC by {manifest.created_by}"),
    ]


def _alone(spec: DecoderSpec) -> str:
    return "complete text; it has no chat template" if spec.is_causal else "embed texts, and write none"


def _sampling(defaults: GenerationDefaults) -> str:
    said = [f"{name} {value:g}" for name, value in asdict(defaults).items() if value is not None]
    return ", ".join(said) or "the model recommends none"


def _print_vectors(bundle: Bundle) -> None:
    rows = []
    for variant in bundle.manifest.variants:
        report = variant.vector_parity
        figures = vector_cells(None if report is None else report.figures)
        size = megabytes(bundle.variant_bytes(variant))
        rows.append((variant.name, variant.format, variant.recipe, size, *figures))
    print_table(("variant", "format", "recipe", "size MB>", *VECTOR_HEADER), rows)


def _print_variants(bundle: Bundle) -> None:
    if not bundle.manifest.decoder.is_causal:
        _print_vectors(bundle)
        return
    rows = []
    for variant in bundle.manifest.variants:
        report = variant.parity
        figures = (
            ("-", f"not proven: {variant.parity_skipped}")
            if report is None
            else (f"{report.perplexity_ratio:.4f}", f"{report.top1_agreement:.3f}")
        )
        size = megabytes(bundle.variant_bytes(variant))
        rows.append((variant.name, variant.format, variant.recipe, size, *figures))
    print_table(("variant", "format", "recipe", "size MB>", "perplexity ratio>", "top-1>"), rows)
