"""`edgesdk bench`: how fast a bundle runs here."""

from __future__ import annotations

from pathlib import Path

import click

from edgesdk.cli.options import Loading, bundle_argument, json_option, load_options
from edgesdk.cli.output import megabytes, print_facts, print_json, show_receipt

EXAMPLES = """\b
Examples:
  edgesdk bench smollm2
  edgesdk bench smollm2 --backend onnxruntime --threads 2 --repeat 5 --json
"""


@click.command(short_help="Measure speed on this machine.", epilog=EXAMPLES)
@bundle_argument
@click.option(
    "--prompt-tokens",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    metavar="N",
    help="Length of the prompt in tokens.",
)
@click.option(
    "--new-tokens",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    metavar="N",
    help="Tokens to decode after it.",
)
@click.option(
    "--repeat",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="N",
    help="Counted rounds, after one that is not counted; figures are medians.",
)
@load_options
@json_option
def command(
    bundle: Path, prompt_tokens: int, new_tokens: int, repeat: int, loading: Loading, as_json: bool
) -> None:
    """Measures the speed of the model in BUNDLE on this machine.

    Prefill and decode in tokens per second, time to first token and load time in milliseconds, peak
    resident memory of the process in bytes (with --json) or MB.
    """
    from edgesdk.evaluation.bench import measure_speed
    from edgesdk.load_model import load

    with load(bundle, **loading) as model:
        show_receipt(model.receipt)
        report = measure_speed(model, prompt_tokens, new_tokens, repeat)
    if as_json:
        print_json(report)
        return
    print_facts(
        [
            ("prefill", f"{report.prefill_tokens_per_s:.1f} tokens/s ({prompt_tokens} tokens)"),
            ("decode", f"{report.decode_tokens_per_s:.1f} tokens/s ({new_tokens} tokens)"),
            (
                "time to first token",
                f"{report.ttft_ms:.1f} ms ({report.first_ttft_ms:.1f} ms right after the load)",
            ),
            ("load", f"{report.load_ms:.1f} ms"),
            ("peak memory", f"{megabytes(report.peak_rss_bytes)} MB"),
        ]
    )
