"""`edgesdk eval`: perplexity of a text, and agreement with the source in float32."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgesdk.cli.load_options import load_options
from edgesdk.cli.options import bundle_argument, json_option
from edgesdk.cli.output import chats_text, print_facts, print_json, show_receipt
from edgesdk.errors import UnsupportedOption

if TYPE_CHECKING:
    from edgesdk.bundle.manifest import ChatAgreement, GreedyAgreement
    from edgesdk.evaluation.agreement import AgreementReport
    from edgesdk.evaluation.evaluate_text import Scorer, Window
    from edgesdk.load_options import LoadOptions
    from edgesdk.model import Model

EXAMPLES = """\b
Examples:
  edgesdk eval smollm2 --text book.txt
  edgesdk eval smollm2 --text book.txt --reference smollm2-135m --tokens 5000
  edgesdk eval smollm2 --text book.txt --reference smollm2-135m --greedy-prompts prompts.txt
"""


@click.command(short_help="Measure perplexity and agreement on a text.", epilog=EXAMPLES)
@bundle_argument
@click.option(
    "--text",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="UTF-8 text to score.",
)
@click.option(
    "--reference",
    metavar="SOURCE",
    help="What the bundle was made from, as `edgesdk convert` takes it; evaluated in float32. Default: none.",
)
@click.option(
    "--tokens",
    type=click.IntRange(min=2),
    default=5000,
    show_default=True,
    metavar="N",
    help="Most tokens to score, from the beginning of the text.",
)
@click.option(
    "--window",
    type=click.IntRange(min=2),
    default=512,
    show_default=True,
    metavar="N",
    help="Tokens that are scored together; no window sees another.",
)
@click.option(
    "--greedy-prompts",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Prompts, one a line, to answer greedily and compare with --reference. Default: none.",
)
@click.option(
    "--greedy-tokens",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    metavar="N",
    help="Most tokens of each greedy answer.",
)
@load_options
@json_option
def command(
    bundle: Path,
    text: Path,
    reference: str | None,
    tokens: int,
    window: int,
    greedy_prompts: Path | None,
    greedy_tokens: int,
    loading: LoadOptions,
    as_json: bool,
) -> None:
    """Measures the model in BUNDLE on a text.

    Prints the perplexity, and of how many built-in questions the first 16 tokens of the greedy answer are
    those of the float32 reference that the bundle carries. With --reference also the ratio to the
    reference's perplexity, the KL divergence (its mean, and what 99 of 100 positions do not exceed) and how
    often both find the same token most likely; with --greedy-prompts how many greedy answers are the
    reference's own, near-ties counted apart.
    """
    if greedy_prompts is not None and reference is None:
        raise click.UsageError("--greedy-prompts needs --reference")
    from edgesdk.cli.reference import open_reference
    from edgesdk.evaluation.chats import check_chats
    from edgesdk.evaluation.evaluate_text import evaluate_text, text_windows
    from edgesdk.evaluation.probe import probe_of
    from edgesdk.load_model import load

    with load(bundle, loading) as model:
        probe = probe_of(model.bundle, model.bundle.variant(model.receipt.variant))
        windows = text_windows(model, _read_text(text), tokens=tokens, window=window)
        prompts = [] if greedy_prompts is None else _read_text(greedy_prompts).splitlines()
        show_receipt(model.receipt, loading)
        scorer = None if reference is None else open_reference(reference, model.bundle)
        report = evaluate_text(model, _with_progress(windows), scorer)
        chats = None if probe is None or probe.chats is None else check_chats(model, probe.chats)
        prompts = [prompt for prompt in prompts if prompt.strip()]
        greedy = None
        if scorer is not None and prompts:
            greedy = _compare_greedy(model, scorer, prompts, greedy_tokens)
        if as_json:
            print_json({"agreement": report, "chats": chats, "greedy": greedy, "receipt": model.receipt})
        else:
            _show(report, chats, greedy)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UnsupportedOption(f"{path} is not UTF-8 text (byte {error.start}); convert it first") from error


def _with_progress(windows: Iterable[Window]) -> Iterator[Window]:
    with click.progressbar(windows, label="scoring", file=sys.stderr) as bar:
        yield from bar


def _compare_greedy(model: Model, scorer: Scorer, prompts: list[str], tokens: int) -> GreedyAgreement:
    from edgesdk.evaluation.greedy import first_divergence, greedy_texts, summarise

    divergences = []
    with click.progressbar(length=len(prompts), label="answering", file=sys.stderr) as bar:
        for prompt_tokens, answer in greedy_texts(model, prompts, tokens):
            divergences.append(first_divergence(prompt_tokens, answer, scorer(answer)))
            bar.update(1)
    return summarise(divergences, tokens)


def _show(report: AgreementReport, chats: ChatAgreement | None, greedy: GreedyAgreement | None) -> None:
    facts = [("scored positions", str(report.positions)), ("perplexity", f"{report.perplexity:.4f}")]
    if report.reference_perplexity is not None:
        facts += [
            ("reference perplexity", f"{report.reference_perplexity:.4f}"),
            ("perplexity ratio", f"{report.perplexity_ratio:.4f}"),
            ("KL divergence, nats", f"{report.kl_nats:.4f}"),
            ("KL divergence of 99 in 100 positions, at most", f"{report.kl_p99_nats:.4f}"),
            ("top-1 agreement", f"{report.top1_agreement:.4f}"),
        ]
    if chats is not None:
        facts.append(("built-in questions answered as by the reference", chats_text(chats)))
    if greedy is not None:
        facts.append(
            (
                f"greedy answers of {greedy.tokens} tokens",
                f"{greedy.identical} identical, {greedy.near_ties} differ first at a near-tie, "
                f"{greedy.diverged} diverge, of {greedy.prompts}",
            )
        )
    print_facts(facts)
