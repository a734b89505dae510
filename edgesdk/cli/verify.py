"""`edgesdk verify`: is a bundle whole, and does it still say on this machine what its source says?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgesdk.cli.options import bundle_argument, json_option
from edgesdk.cli.output import (
    VECTOR_HEADER,
    chats_text,
    megabytes,
    print_json,
    print_table,
    stage_printer,
    vector_cells,
)

if TYPE_CHECKING:
    from edgesdk.evaluation.verify_bundle import VariantCheck, VerifyReport

EXAMPLES = """\b
Examples:
  edgesdk verify smollm2
  edgesdk verify smollm2 --backend onnxruntime_genai --json
"""


@click.command(short_help="Check a bundle's files and its parity.", epilog=EXAMPLES)
@bundle_argument
@click.option(
    "--backend",
    metavar="NAME",
    help="Backend to run the variants on. Default: the one that each was proven with.",
)
@json_option
def command(bundle: Path, backend: str | None, as_json: bool) -> None:
    """Hashes every file of BUNDLE, and runs every variant against the reference that the bundle carries.

    A variant passes when perplexity ratio and top-1 agreement meet the gate of its recipe, or, of a model
    that gives vectors only, the least cosine and the order of texts; `chats` counts the built-in questions
    of which the first 16 tokens of the greedy answer are the reference's. One whose backend does not run
    here is not checked, and the reason is given; one that a backend refuses, although it runs here, fails.
    Exit code 1 when a variant fails or none could be checked.
    """
    from edgesdk.evaluation.verify_bundle import verify_bundle

    report = verify_bundle(bundle, backend=backend, report=stage_printer())
    if as_json:
        print_json(report)
    else:
        show_verification(report)
    if not report.passed:
        click.get_current_context().exit(1)


def show_verification(report: VerifyReport) -> None:
    """Prints a report as text."""
    from edgesdk.bundle.vector_parity import VectorFigures, VectorParity
    from edgesdk.evaluation.probe import ProbeReport

    click.echo(f"{report.files} files, {megabytes(report.bytes)} MB: every sha256 is right")
    rows = []
    title = f"{report.bundle} against its reference"
    if any(isinstance(check.recorded, VectorParity) for check in report.variants):
        for check in report.variants:
            cells = vector_cells(check.measured if isinstance(check.measured, VectorFigures) else None)
            rows.append((check.variant, check.backend or "-", *cells, _result(check)))
        print_table(("variant", "backend", *VECTOR_HEADER, "result"), rows, title=title)
        return
    for check in report.variants:
        measured = check.measured
        figures = (
            ("-", "-", "-", "-")
            if not isinstance(measured, ProbeReport)
            else (
                f"{measured.perplexity_ratio:.4f}",
                f"{measured.kl_nats:.4f}",
                f"{measured.top1_agreement:.3f}",
                chats_text(measured.chats),
            )
        )
        rows.append((check.variant, check.backend or "-", *figures, _result(check)))
    print_table(
        ("variant", "backend", "perplexity ratio>", "KL nats, at least>", "top-1>", "chats>", "result"),
        rows,
        title=title,
    )


def _result(check: VariantCheck) -> str:
    return check.status if check.reason is None else f"{check.status}: {check.reason}"
