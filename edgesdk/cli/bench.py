"""`edgesdk bench`: how fast a bundle runs here."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from edgesdk.cli.load_options import load_options_with_drafts
from edgesdk.cli.options import bundle_argument, early_exit_option, json_option
from edgesdk.cli.output import (
    megabytes,
    print_facts,
    print_json,
    print_table,
    show_exits,
    show_receipt,
    stage_printer,
)
from edgesdk.errors import UnsupportedOption

if TYPE_CHECKING:
    from edgesdk.evaluation.bench_drafts import DraftsReport
    from edgesdk.load_options import LoadOptions

EXAMPLES = """\b
Examples:
  edgesdk bench smollm2
  edgesdk bench smollm2 --backend onnxruntime --threads 2 --repeat 5 --json
  edgesdk bench smollm2 --streams 3 --inject-prompt 1500
  edgesdk bench smollm2 --draft lookup
  edgesdk bench leaving --early-exit rule.json
  edgesdk bench smollm2 --sustained 600
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
@click.option(
    "--streams",
    type=click.IntRange(min=1),
    metavar="N",
    help="Measure N answers that decode together: time between tokens, tokens per second of all. "
    "Default: one sequence, prefill and decode apart.",
)
@click.option(
    "--inject-prompt",
    type=click.IntRange(min=1),
    metavar="N",
    help="With --streams: a prompt of N tokens arrives among them, once in pieces and once whole. "
    "Default: none.",
)
@early_exit_option
@click.option(
    "--sustained",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Load the model for so long without a pause, 600 say, and measure what its speed falls to. "
    "Default: a few rounds.",
)
@load_options_with_drafts
@json_option
def command(
    bundle: Path,
    prompt_tokens: int,
    new_tokens: int,
    repeat: int,
    streams: int | None,
    inject_prompt: int | None,
    early_exit: str | None,
    sustained: float | None,
    loading: LoadOptions,
    as_json: bool,
) -> None:
    """Measures the speed of the model in BUNDLE on this machine.

    Prefill and decode in tokens per second, time to first token and load time in milliseconds, peak
    resident memory of the process in bytes (with --json) or MB. With --streams the load is mixed: many
    answers at once, and the time between their tokens while a long prompt arrives. With --draft also answers
    with and without drafts, in turn: decode speed, tokens that a step keeps and gives, time saved. With
    --early-exit likewise, and the share of blocks that were run. With --sustained one sequence answers until
    the time is over: decode speed at the beginning and at the end.
    """
    if sustained is not None:
        if streams or inject_prompt or loading.draft != "off" or early_exit is not None:
            raise UnsupportedOption(
                "--sustained measures one sequence; leave out --streams, --inject-prompt, --draft and "
                "--early-exit"
            )
        if click.get_current_context().get_parameter_source("repeat") is ParameterSource.COMMANDLINE:
            raise UnsupportedOption("--sustained has no rounds to count; leave --repeat out")
        _bench_sustained(bundle, sustained, prompt_tokens, new_tokens, loading, as_json)
        return
    if streams is not None and early_exit is not None:
        raise UnsupportedOption("--early-exit is for one answer at a time; leave --streams out")
    if streams is not None:
        _bench_streams(bundle, streams, inject_prompt or 0, loading, as_json)
        return
    if inject_prompt is not None:
        raise UnsupportedOption("--inject-prompt needs --streams: how many answers does it join?")
    from edgesdk.evaluation.bench import measure_speed
    from edgesdk.evaluation.bench_drafts import measure_drafts
    from edgesdk.load_model import load

    with load(bundle, replace(loading, draft="off", draft_texts=())) as model:
        show_receipt(model.receipt, loading)
        rule = None
        if early_exit is not None:  # before minutes of measuring
            from edgesdk.vectors.open_exits import exit_rule_for

            rule = exit_rule_for(model, early_exit)
        report = measure_speed(model, prompt_tokens, new_tokens, repeat)
        exits = None
        if rule is not None:
            from edgesdk.evaluation.bench_exits import measure_exits

            exits = measure_exits(model, rule, new_tokens, repeat)
        drafts = None
        if loading.draft != "off":
            drafts = measure_drafts(model, loading.draft, new_tokens, repeat, texts=loading.draft_texts)
    if as_json:
        print_json({**asdict(report), "drafts": drafts, "exits": exits})
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
    if exits is not None:
        print_facts(
            [
                ("early exits", show_exits(exits.figures)),
                (
                    "decode with exits",
                    f"{exits.early_tokens_per_s:.1f} tokens/s of {exits.plain_tokens_per_s:.1f} "
                    f"({exits.speedup:.2f}); the first {exits.same_tokens} of {exits.new_tokens} tokens are "
                    "the whole model's",
                ),
            ]
        )
    if drafts is not None:
        _show_drafts(drafts)


def _show_drafts(drafts: DraftsReport) -> None:
    speeds = ("plain tokens/s>", "drafted tokens/s>", "speedup>")
    header = ("text", *speeds, "kept a step>", "tokens a step>", "drafted share>", "saved ms>", "same")
    rows = [
        (
            text.name,
            f"{text.plain_tokens_per_s:.1f}",
            f"{text.drafted_tokens_per_s:.1f}",
            f"{text.speedup:.2f}",
            f"{text.kept_per_step:.2f}",
            f"{text.block_efficiency:.2f}",
            f"{text.drafted_share:.0%}",
            f"{text.saved_ms:.0f}",
            "yes" if text.same else "no",
        )
        for text in drafts.texts
    ]
    print_table(header, rows, title=f"drafts by {drafts.drafter}")


def _bench_sustained(
    bundle: Path, seconds: float, prompt_tokens: int, new_tokens: int, loading: LoadOptions, as_json: bool
) -> None:
    from edgesdk.evaluation.bench_sustained import measure_sustained
    from edgesdk.load_model import load

    with load(bundle, loading) as model:
        show_receipt(model.receipt, loading)
        report = measure_sustained(model, seconds, prompt_tokens, new_tokens, stage_printer())
    if as_json:
        print_json(report)
        return
    hottest = report.hottest_c
    print_facts(
        [
            ("decode", f"{report.decode_tokens_per_s:.1f} tokens/s over {report.seconds:.0f} s"),
            ("first tenth", f"{report.first_tokens_per_s:.1f} tokens/s"),
            ("last tenth", f"{report.last_tokens_per_s:.1f} tokens/s ({report.kept_share:.0%} of the first)"),
            ("slowest twentieth", f"{report.lowest_tokens_per_s:.1f} tokens/s"),
            ("processor", "temperature hidden" if hottest is None else f"at most {hottest:.0f} C"),
        ]
    )


def _bench_streams(
    bundle: Path, streams: int, inject_prompt: int, loading: LoadOptions, as_json: bool
) -> None:
    from edgesdk.evaluation.bench_streams import measure_streams
    from edgesdk.load_model import load

    with load(bundle, loading) as model:
        show_receipt(model.receipt, loading)
        report = measure_streams(model, streams, inject_prompt=inject_prompt)
        whole = None
        if inject_prompt:
            whole = measure_streams(
                model,
                streams,
                inject_prompt=inject_prompt,
                token_budget=report.token_budget,
                chunked=False,
                hybrid=False,
            )
    if as_json:
        # The chunked run's figures stand at the top; what they are compared with has a name of its own.
        print_json({**asdict(report), "whole_prefill": whole})
        return
    header = ("prompts", "p50 ms>", "p99 ms>", "idle p50 ms>", "idle p99 ms>", "first token ms>", "tokens/s>")
    rows = [
        (
            "in pieces" if found.chunked else "whole",
            f"{found.tbt_p50_ms:.1f}",
            f"{found.tbt_p99_ms:.1f}",
            f"{found.tbt_p50_idle_ms:.1f}",
            f"{found.tbt_p99_idle_ms:.1f}",
            "-" if found.inject_ttft_ms is None else f"{found.inject_ttft_ms:.0f}",
            f"{found.aggregate_tokens_per_s:.1f}",
        )
        for found in (report, whole)
        if found is not None
    ]
    what = f"; a prompt of {inject_prompt} tokens arrives" if inject_prompt else ""
    print_table(header, rows, title=f"time between tokens, {streams} streams{what}")
