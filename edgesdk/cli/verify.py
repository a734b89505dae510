"""`edgesdk verify`: is a bundle whole, and does it still say on this machine what its source says?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgesdk.cli.options import bundle_argument, json_option
from edgesdk.cli.output import chats_text, megabytes, print_json, print_table, stage_printer

if TYPE_CHECKING:
    from edgesdk.evaluation.verify_bundle import VerifyReport

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

    A variant passes when perplexity ratio and top-1 agreement meet the gate of its recipe; `chats` counts the
    built-in questions of which the first 16 tokens of the greedy answer are the reference's. One whose
    backend does not run here is not checked, and the reason is given; one that a backend refuses, although
    it runs here, fails. Exit code 1 when a variant fails or none could be checked.
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
    click.echo(f"{report.files} files, {megabytes(report.bytes)} MB: every sha256 is right")
    rows = []
    for check in report.variants:
        measured = check.measured
        figures = (
            ("-", "-", "-", "-")
            if measured is None
            else (
                f"{measured.perplexity_ratio:.4f}",
                f"{measured.kl_nats:.4f}",
                f"{measured.top1_agreement:.3f}",
                chats_text(measured.chats),
            )
        )
        result = check.status if check.reason is None else f"{check.status}: {check.reason}"
        rows.append((check.variant, check.backend or "-", *figures, result))
    print_table(
        ("variant", "backend", "perplexity ratio>", "KL nats, at least>", "top-1>", "chats>", "result"),
        rows,
        title=f"{report.bundle} against its reference",
    )
