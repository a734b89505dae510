"""`edgesdk sweep`: many models, recipes, targets and devices at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgesdk.cli.convert import converters_installed
from edgesdk.cli.options import json_option
from edgesdk.cli.output import print_facts, print_json, print_table, stage_printer

if TYPE_CHECKING:
    from edgesdk_converters.sweeps.drive import FinishedCell
    from edgesdk_converters.sweeps.pareto import Point

EXAMPLES = """\b
Examples:
  edgesdk sweep plan.toml out --dry-run
  edgesdk sweep plan.toml out
  edgesdk sweep plan.toml out --on processes --workers 2
  edgesdk sweep plan.toml /shared/out --on dask=tcp://192.0.2.7:8786 --json
"""


@click.command(short_help="Convert and measure many models, recipes and devices.", epilog=EXAMPLES)
@click.argument("plan", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--on",
    default="local",
    show_default=True,
    metavar="FLEET",
    help="Where jobs run: local (this process, one after the other), processes (a process for each job), "
    "dask (a cluster on this machine) or dask=ADDRESS (the workers of a scheduler); dask needs the `fleet` "
    "extra.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    metavar="N",
    help="Jobs at once, with --on processes or dask.",
)
@click.option(
    "--retry-failed",
    is_flag=True,
    help="Do what failed before once more. Default: it stays a row with its error.",
)
@click.option("--dry-run", is_flag=True, help="Check the plan and say how many cells it has; run nothing.")
@json_option
def command(
    plan: Path, out: Path, on: str, workers: int, retry_failed: bool, dry_run: bool, as_json: bool
) -> None:
    """Runs the sweep in PLAN, a TOML file, and keeps everything in the folder OUT.

    A plan lists sources, transforms, recipes, targets, devices and tasks (prove, evaluate, bench, sustained,
    harness); docs/sweeps.md describes it. Every combination is a cell, and a row of OUT/sweep.sqlite with its
    figures and where they come from; a cell that fails is a row with its error. OUT/report.html shows sizes,
    qualities and speeds. What OUT has already is not done again, so a sweep that was ended or killed goes on
    where it was. Exit code 0 when every cell has its row.
    """
    with converters_installed():
        from edgesdk_converters.sweeps.expand_plan import check_plan
        from edgesdk_converters.sweeps.pareto import points_of
        from edgesdk_converters.sweeps.plan import read_plan
        from edgesdk_converters.sweeps.run_sweep import TABLE_NAME, run_sweep
        from edgesdk_converters.sweeps.sweep_table import read_rows

        asked = read_plan(plan)
        if dry_run:
            check_plan(asked)
            _show_plan(asked.name, asked.cells, len(asked.tasks) * len(asked.devices), as_json)
            return
        say = stage_printer()
        report = run_sweep(
            asked,
            out,
            on=on,
            workers=workers,
            retry_failed=retry_failed,
            report=lambda row: say(_progress(row)),
        )
        points = points_of(read_rows(out / TABLE_NAME))
    if as_json:
        print_json({"report": report, "points": points})
        return
    if points:
        _show_points(points)
    print_facts(
        [
            ("cells", f"{report.done} done, {report.failed} failed"),
            ("bundles", f"{report.conversions - report.not_converted} of {report.conversions}"),
            ("done before this run", str(report.reused)),
            ("table", str(out / TABLE_NAME)),
            ("report", str(out / "report.html")),
            *(("note", note) for note in report.notes),
        ]
    )


def _show_plan(name: str, cells: int, cells_of_a_bundle: int, as_json: bool) -> None:
    bundles = cells // cells_of_a_bundle
    if as_json:
        print_json({"name": name, "cells": cells, "bundles": bundles})
    else:
        print_facts([("plan", name), ("cells", str(cells)), ("bundles", str(bundles))])


def _progress(row: FinishedCell) -> str:
    outcome = row.outcome
    if outcome.status == "failed":
        how = f"failed: {outcome.error}"
    else:
        how = "done before" if row.tries == 0 else "done"
    return f"{' '.join(row.cell.place)}: {how}"


def _show_points(points: list[Point]) -> None:
    header = ("bundle", "source", "device", "MB>", "perplexity>", "ratio>", "KL 99 %>", "tokens/s>", "front")
    rows = []
    for point in points:
        figures = (point.perplexity, point.perplexity_ratio, point.kl_p99_nats, point.decode_tokens_per_s)
        shown = ("-" if value is None else f"{value:.4g}" for value in figures)
        size = f"{point.size_bytes / 1e6:.2f}"
        rows.append((point.name, point.source, point.device, size, *shown, "yes" if point.front else ""))
    print_table(header, rows, title="bundles on devices")
