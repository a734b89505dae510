"""`edgesdk explain`: the ways to run a bundle here, what they measure, and which one a load takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgesdk.cli.options import bundle_argument, json_option, threads_option
from edgesdk.cli.output import megabytes, print_facts, print_json, print_table, stage_printer

if TYPE_CHECKING:
    from edgesdk.devices.measurement import Measurement, PhaseFigures
    from edgesdk.dispatch.explain import Explanation

EXAMPLES = """\b
Examples:
  edgesdk explain smollm2
  edgesdk explain smollm2 --measure
  edgesdk explain smollm2 --recipe w8 --json
"""


@click.command(short_help="Show what would run a bundle here, and why.", epilog=EXAMPLES)
@bundle_argument
@click.option(
    "--measure",
    is_flag=True,
    help="Measure every candidate anew, within --budget. Default: show what was measured before.",
)
@click.option(
    "--budget",
    "budget_s",
    type=click.FloatRange(min=1.0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Time for all measurements.",
)
@click.option("--recipe", metavar="NAME", help="Only variants of this recipe. Default: the bundle's first.")
@threads_option
@json_option
def command(
    bundle: Path, measure: bool, budget_s: float, recipe: str | None, threads: int | None, as_json: bool
) -> None:
    """Lists every way to run BUNDLE on this machine, and what a load takes without a goal and for each.

    Candidates are a variant on a backend on a class of devices. Each is measured in a process of its own,
    with a prompt of 128 tokens and 16 tokens after it; the result is kept for loads that name a goal.
    Interrupting it keeps nothing.
    """
    from edgesdk.dispatch.explain import explain

    found = explain(
        bundle, recipe=recipe, threads=threads, measure=measure, budget_s=budget_s, say=stage_printer()
    )
    if as_json:
        print_json(found)
        return
    _show(found)


def _show(found: Explanation) -> None:
    measured = [row for row in found.candidates if row.reason is None]
    others = [row for row in found.candidates if row.reason is not None]
    title = f"{found.bundle}, {found.recipe}, {found.threads} thread{'s' if found.threads != 1 else ''}"
    if measured:
        print_table(
            (
                "variant",
                "backend",
                "device",
                "prefill tokens/s>",
                "decode>",
                "batch>",
                "CPU ms/token>",
                "load ms>",
                "memory MB>",
            ),
            [_row(row) for row in measured],
            title=title,
        )
    if others:
        print_table(
            ("variant", "backend", "device", "without figures, because"),
            [(row.variant, row.backend, row.device, row.reason or "") for row in others],
            title=None if measured else title,
        )
    print_facts(
        [
            ("without a goal" if goal == "none" else f"for {goal}", what)
            for goal, what in found.choices.items()
        ]
    )


def _row(found: Measurement) -> tuple[str, ...]:
    return (
        found.variant,
        found.backend,
        found.device,
        _speed(found.prefill),
        _speed(found.decode),
        _speed(found.batch),
        "-" if found.decode is None else f"{found.decode.cpu_ms_per_token:.1f}",
        "-" if found.load_ms is None else f"{found.load_ms:.0f}",
        megabytes(found.peak_rss_bytes),
    )


def _speed(figures: PhaseFigures | None) -> str:
    return "-" if figures is None else f"{figures.tokens_per_s:.1f}"
