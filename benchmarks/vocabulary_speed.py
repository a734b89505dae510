"""Prefill and decode of pruned bundles over those of the full one, in one run.

    python benchmarks/vocabulary_speed.py FULL SMALLER... [--rounds 7] [--threads 2] [--json FILE]

FULL and SMALLER hold the same variants (`edgesdk convert smollm2-135m FULL --recipe w8,w4b32-round`, and
the same with `--prune-vocab` or `--skip-layers`). Every variant of every bundle is a process that stays
loaded. A round measures a variant in all bundles, one straight after the other, then the next variant, so a
change of the machine's speed meets both sides of a ratio; ratios are taken within a round. Steps are timed,
not texts: a pruned vocabulary spells the same text with more tokens (`edgesdk vocab report` says how many).
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import click
from contender import Contender, ContenderError, turned

from edgesdk.bundle.manifest import Variant
from edgesdk.bundle.reader import Bundle, open_bundle
from edgesdk.errors import EdgeError

BACKENDS = {"litert": "litert", "onnx-resident": "onnxruntime"}
FIGURES = ("prefill_tokens_per_s", "decode_tokens_per_s")


def common_variants(full: Bundle, others: Sequence[Bundle], wanted: Sequence[str]) -> list[Variant]:
    """Variants of the full bundle that a backend here runs and at least one other bundle has.

    Raises:
        click.ClickException: there is none, or a wanted one is not among them.
    """
    names = {variant.name for other in others for variant in other.manifest.variants}
    found = [v for v in full.manifest.variants if v.name in names and v.format in BACKENDS]
    absent = set(wanted) - {variant.name for variant in found}
    if absent or not found:
        there = ", ".join(variant.name for variant in found) or "none"
        raise click.ClickException(
            f"the bundles share no variant {', '.join(sorted(absent)) or 'at all'}; they share {there}"
        )
    return [variant for variant in found if not wanted or variant.name in wanted]


def contenders_of(variant: Variant, bundles: Sequence[Bundle], threads: int) -> dict[str, Contender]:
    """A process for a variant of every bundle that has it, by the bundle's folder."""
    found = {}
    for bundle in bundles:
        if any(entry.name == variant.name for entry in bundle.manifest.variants):
            settings = {
                "model": str(bundle.path),
                "backend": BACKENDS[variant.format],
                "variant": variant.name,
                "threads": threads,
                "context": variant.context,
                "vocab_size": bundle.manifest.decoder.vocab_size,
            }
            name = f"{bundle.path.name} {variant.name}"
            found[bundle.path.name] = Contender(name, "edgesdk_worker.py", settings)
    return found


def row_of(variant: str, name: str, contender: Contender, full: Contender) -> dict[str, object]:
    """Medians, spread and paired ratios of one contender."""
    figures: dict[str, object] = {"variant": variant, "bundle": name, "rounds": contender.rounds}
    for figure in FIGURES:
        ratios = [
            mine[figure] / whole[figure] for mine, whole in zip(contender.rounds, full.rounds, strict=True)
        ]
        low, high = contender.spread(figure)
        figures[figure] = {
            "median": contender.median(figure),
            "least": low,
            "most": high,
            "ratio": statistics.median(ratios),
            "ratio_least": min(ratios),
            "ratio_most": max(ratios),
        }
    return figures


def show(rows: Sequence[dict]) -> None:
    """Prints a table that can go into a document as it is."""
    click.echo("| variant | bundle | prefill tokens/s | over the full | decode tokens/s | over the full |")
    click.echo("|---|---|---|---|---|---|")
    for row in rows:
        cells = [row["variant"], row["bundle"]]
        for figure in FIGURES:
            f = row[figure]
            cells.append(f"{f['median']:.0f} ({f['least']:.0f} to {f['most']:.0f})")
            cells.append(f"{f['ratio']:.3f} ({f['ratio_least']:.3f} to {f['ratio_most']:.3f})")
        click.echo(f"| {' | '.join(cells)} |")


@click.command()
@click.argument("full", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("smaller", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False))
@click.option("--variants", default="", help="only these, joined by commas; default: all that are shared")
@click.option("--rounds", default=7, show_default=True, help="counted rounds, after one that is not")
@click.option("--threads", default=2, show_default=True)
@click.option("--prompt-tokens", default=512, show_default=True)
@click.option("--new-tokens", default=128, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="write every round to this file")
def main(
    full: Path,
    smaller: tuple[str, ...],
    variants: str,
    rounds: int,
    threads: int,
    prompt_tokens: int,
    new_tokens: int,
    json_file: Path | None,
) -> None:
    """Prints medians, spread and ratios to the bundle FULL of every variant of SMALLER."""
    try:
        bundles = [open_bundle(folder) for folder in (full, *smaller)]
    except EdgeError as error:
        raise click.ClickException(str(error)) from error
    names = [bundle.path.name for bundle in bundles]
    if len(set(names)) < len(names):
        raise click.ClickException(f"the folders are named {', '.join(names)}; give each a name of its own")
    wanted = [name.strip() for name in variants.split(",") if name.strip()]
    shared = common_variants(bundles[0], bundles[1:], wanted)
    try:
        field = {variant.name: contenders_of(variant, bundles, threads) for variant in shared}
        for round_number in range(rounds + 1):
            for group in field.values():
                for contender in turned(list(group.values()), round_number):
                    figures = contender.measure(prompt_tokens, new_tokens)
                    if round_number:
                        contender.rounds.append(figures)
    except ContenderError as error:
        raise click.ClickException(str(error)) from error
    for group in field.values():
        for contender in group.values():
            contender.close()
    rows = [
        row_of(variant, name, contender, group[names[0]])
        for variant, group in field.items()
        for name, contender in group.items()
    ]
    click.echo(
        f"{prompt_tokens} prompt tokens, {new_tokens} new, {threads} threads, {rounds} rounds; medians "
        "(least to most); ratios within rounds\n"
    )
    show(rows)
    if json_file is not None:
        document = {
            "threads": threads,
            "prompt_tokens": prompt_tokens,
            "new_tokens": new_tokens,
            "bundles": {b.path.name: b.manifest.vocabulary and b.manifest.vocabulary.method for b in bundles},
            "rows": rows,
        }
        json_file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
