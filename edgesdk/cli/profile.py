"""`edgesdk profile`: where the time of a step goes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgesdk.bundle.write_file import check_target, write_file
from edgesdk.cli.options import bundle_argument, json_option, threads_option
from edgesdk.cli.output import megabytes, print_facts, print_json, print_table

if TYPE_CHECKING:
    from edgesdk.evaluation.step_profile import Share, StepProfile
    from edgesdk.evaluation.work_shares import WorkShare

EXAMPLES = """\b
Examples:
  edgesdk profile smollm2
  edgesdk profile smollm2 --backend onnxruntime --cells 1024 --trace step.json
  edgesdk profile smollm2 --variant litert-w8 --tokens 128 --threads 2 --json
"""

_ROWS = 24
"""Operations shown one by one; the rest is one row."""


@click.command(short_help="Show where the time of a step goes.", epilog=EXAMPLES)
@bundle_argument
@click.option(
    "--variant",
    metavar="NAME",
    help="Variant of the bundle; `edgesdk inspect` lists them. Default: the first that can be profiled.",
)
@click.option(
    "--backend",
    metavar="NAME",
    help="litert, onnxruntime or onnxruntime-step. Default: the one of the variant.",
)
@click.option(
    "--tokens",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="T",
    help="New tokens of the step; of static sizes the smallest that holds them.",
)
@click.option(
    "--cells",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    metavar="S",
    help="Tokens before them; of static sizes the smallest that holds them, else the largest.",
)
@click.option(
    "--repeat",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    metavar="N",
    help="Runs, timed and profiled.",
)
@threads_option
@click.option(
    "--trace",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write the step as a Chrome trace, for chrome://tracing or Perfetto. Default: none.",
)
@json_option
def command(
    bundle: Path,
    variant: str | None,
    backend: str | None,
    tokens: int,
    cells: int,
    repeat: int,
    threads: int | None,
    trace: Path | None,
    as_json: bool,
) -> None:
    """Profiles one step of the model in BUNDLE on this machine's CPU.

    What attention, the products of weights and the rest take, beside what this machine's memory allows each;
    time by operation and by layer, and the bytes of weights that each reads. Times of operations come from
    the backend's own profiler and are means in microseconds; the step itself is also timed without it.
    """
    from edgesdk.evaluation.profile_step import profile_step
    from edgesdk.evaluation.step_profile import by_layer, by_operation, trace_events
    from edgesdk.evaluation.work_shares import by_work

    if trace is not None:
        check_target(trace)
    found = profile_step(
        bundle,
        variant=variant,
        backend=backend,
        tokens=tokens,
        cells=cells,
        repeat=repeat,
        threads=threads,
    )
    if trace is not None:
        write_file(trace, json.dumps({"traceEvents": trace_events(found)}) + "\n")
    if as_json:
        sums = {"by_work": by_work(found), "by_operation": by_operation(found), "by_layer": by_layer(found)}
        print_json({**asdict(found), **sums})
        return
    _show_facts(found)
    _show_work(by_work(found))
    _show_shares("operation", by_operation(found), "By operation, all layers together")
    _show_shares("layer", by_layer(found), "By layer")
    for note in found.notes:
        click.echo(f"note: {note}", err=True)


def _show_facts(found: StepProfile) -> None:
    print_facts(
        [
            ("step", f"{found.variant} on {found.backend}, {found.threads} threads"),
            ("size", f"{found.tokens} new tokens after {found.cells}"),
            ("time", f"{found.step_us / 1e3:.3f} ms, median of {found.repeat}"),
            (
                "profiled",
                f"{found.profiled_us / 1e3:.3f} ms, {found.unattributed_us / 1e3:.3f} ms of it unattributed",
            ),
            ("reads", f"{megabytes(found.weight_bytes)} MB weights, {megabytes(found.cell_bytes)} MB cells"),
            (
                "memory",
                f"{found.bandwidth_bytes_per_s / 1e9:.1f} GB/s: {found.floor_us / 1e3:.3f} ms at least, "
                f"{found.roofline_share:.0%} of the roofline",
            ),
        ]
    )


def _show_work(shares: list[WorkShare]) -> None:
    rows = [
        (
            share.name,
            str(share.count),
            f"{share.duration_us:.0f}",
            f"{share.share:.1%}",
            megabytes(share.read_bytes) if share.read_bytes else "-",
            f"{share.read_bytes / share.duration_us / 1e3:.1f}" if share.of_limit is not None else "-",
            f"{share.least_us:.0f}" if share.read_bytes else "-",
            f"{share.of_limit:.0%}" if share.of_limit is not None else "-",
        )
        for share in shares
    ]
    columns = ("work", "count>", "us>", "share>", "MB>", "GB/s>", "least us>", "of limit>")
    print_table(columns, rows, title="By work, beside what memory allows")


def _show_shares(what: str, shares: list[Share], title: str) -> None:
    shown = shares if what == "layer" else shares[:_ROWS]
    rows = [
        (
            share.name,
            *([share.kind] if what == "operation" else []),
            str(share.count),
            f"{share.duration_us:.0f}",
            f"{share.share:.1%}",
            megabytes(share.weight_bytes) if share.weight_bytes else "-",
            f"{share.weight_bytes / share.duration_us / 1e3:.1f}"
            if share.weight_bytes and share.duration_us
            else "-",
        )
        for share in shown
    ]
    rest = shares[len(shown) :]
    if rest:
        took, part = sum(s.duration_us for s in rest), sum(s.share for s in rest)
        count = str(sum(s.count for s in rest))
        rows.append((f"{len(rest)} more", "", count, f"{took:.0f}", f"{part:.1%}", "-", "-"))
    kind = ["kind"] if what == "operation" else []
    print_table((what, *kind, "count>", "us>", "share>", "MB>", "GB/s>"), rows, title=title)
