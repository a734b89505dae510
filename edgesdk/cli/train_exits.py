"""`edgesdk train exits`: when an answer can be taken after fewer blocks, learnt from a task."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from edgesdk.cli.convert import converters_installed
from edgesdk.cli.convert_options import split_list
from edgesdk.cli.options import json_option, list_option, threads_option
from edgesdk.cli.output import print_facts, print_json
from edgesdk.cli.progress_line import tell_counts

EXAMPLES = """\b
Examples:
  edgesdk convert smollm2-135m leaving --target litert --exits 20,24,27
  edgesdk train exits leaving rule.json --task reviews.jsonl
  edgesdk train exits leaving rule.json --task reviews.jsonl --rule crf --features gap,top_prob,cos_hidden
"""


@click.command(short_help="Train a rule for early exits.", epilog=EXAMPLES)
@click.argument("bundle")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--task",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help='JSON lines: {"text": "...", "label": "..."}, at least 60 beside the examples.',
)
@click.option(
    "--rule",
    "kind",
    type=click.Choice(["svm", "crf", "top_prob", "fixed"]),
    default="svm",
    show_default=True,
    help="svm and crf learn from features; top_prob is a threshold, fixed one block for all.",
)
@list_option(
    "--features",
    "What svm and crf read: gap, top_prob, cos_attention, cos_feed_forward, cos_hidden.",
    default="gap,top_prob",
)
@click.option(
    "--shots",
    type=click.IntRange(min=0),
    default=4,
    show_default=True,
    metavar="N",
    help="Examples of each label in the prompt, taken from the task.",
)
@click.option("--instruction", default="", metavar="TEXT", help="Stands before the examples. Default: none.")
@click.option(
    "--loss",
    type=click.FloatRange(0, 100, max_open=True),
    default=1.0,
    show_default=True,
    metavar="POINTS",
    help="Points of accuracy that may be lost on the texts that the threshold is chosen on.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N", help="Of parts."
)
@click.option(
    "--head",
    type=click.Choice(["labels", "all"]),
    help="Over which tokens gap and top_prob are: the task's labels, for `edgesdk classify`, or all tokens, "
    "for answers that are written, too. Default: labels, where BUNDLE has a head over them.",
)
@threads_option
@json_option
def train_exits_command(
    bundle: str,
    out: Path,
    task: Path,
    kind: Literal["svm", "crf", "top_prob", "fixed"],
    features: str,
    shots: int,
    instruction: str,
    loss: float,
    seed: int,
    head: Literal["labels", "all"] | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Trains a rule for BUNDLE, which was converted with --exits, and writes it to the file OUT.

    The model classifies every text with all of its blocks and is watched at each exit; the rule learns where
    it has already said what it will say. Half of the texts train it, a quarter chooses its threshold, a
    quarter measures it. The majority class stands beside the accuracy: a model that says one label to
    everything agrees with itself.
    """
    with converters_installed():
        from edgesdk.vectors.labelled_texts import read_labelled
        from edgesdk_converters.training.train_exits import ExitTraining, train_exits

        training = ExitTraining(kind, split_list(features), shots, instruction, loss, seed, head)
        told, texts = tell_counts("texts"), read_labelled(task)
        report = train_exits(bundle, texts, out, training, task=task.name, threads=threads, told=told)
    if as_json:
        print_json(report)
        return
    score = report.held_back
    left = ", ".join(f"{count} after {blocks}" for blocks, count in score.exits.items())
    print_facts(
        [
            ("rule", f"{out} ({report.rule.kind}, threshold {report.rule.threshold:.3g})"),
            ("head", "over the labels" if report.rule.head == "labels" else "over all tokens"),
            ("learnt from", f"{report.learnt_from} texts, measured on {score.texts} others"),
            ("majority class", f"{score.majority:.1%}"),
            ("whole model", f"{score.accuracy_whole:.1%}"),
            ("with exits", f"{score.accuracy:.1%}, {score.agreement:.1%} as the whole model says"),
            ("blocks run", f"{score.blocks_share:.1%} ({left})"),
            ("work", f"{score.work_share:.1%} of the multiplications, heads counted"),
        ]
    )
