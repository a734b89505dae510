"""`edgesdk train`: what is added to a model and has to be learnt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgesdk.cli.convert import converters_installed
from edgesdk.cli.options import json_option, json_progress_option, revision_option, threads_option
from edgesdk.cli.output import print_facts, print_json, print_table
from edgesdk.cli.progress_line import tell_counts
from edgesdk.cli.train_adapter import train_adapter_command
from edgesdk.cli.train_exits import train_exits_command
from edgesdk.cli.train_streams import train_streams_command
from edgesdk.cli.training_options import Learning, learning_options, read_learning, run_training

if TYPE_CHECKING:
    from edgesdk.retrieval.judge_file import Reads
    from edgesdk_converters.training.train_draft import DraftReport

EXAMPLES = """\b
Examples:
  edgesdk train draft smollm2-135m mydraft --hours 2
  edgesdk train streams smollm2-135m mystreams --hours 2
  edgesdk train adapter smollm2-135m letters --data letters.txt --steps 200
  edgesdk train judge smollm2 judge.json --facts facts.jsonl
  edgesdk train exits leaving rule.json --task reviews.jsonl
"""

JUDGE_EXAMPLES = """\b
Examples:
  edgesdk convert smollm2-135m knowing --target litert --hidden-states
  edgesdk train judge knowing judge.json --facts facts.jsonl
  edgesdk ask knowing notes.index "Who was Ada Lovelace?" --gate head --judge judge.json
"""

DRAFT_EXAMPLES = """\b
Examples:
  edgesdk train draft smollm2-135m mydraft --hours 2
  edgesdk train draft model.gguf mydraft --data answers --data mails.txt --loss tvd++
  edgesdk train draft owner/name mydraft --steps 2000 --tokens 100000 --seed 7 --json
"""


@click.group(short_help="Train what is added to a model.", epilog=EXAMPLES)
def command() -> None:
    """Trains additions to a model, which stays what it is. Needs the `train` and `convert` extras.

    What can be trained: a draft, which guesses the tokens that a model will say, so that one step judges
    several; streams, by which a model guesses them itself; a judge, which tells whether a model knows what it
    says (`edgesdk ask --gate head`); a rule that says when an answer can be taken after fewer blocks
    (`edgesdk classify --early-exit`); an adapter, by which a model learns from texts of yours.
    """


command.add_command(train_adapter_command, "adapter")


@command.command(short_help="Train a draft for a checkpoint.", epilog=DRAFT_EXAMPLES)
@click.argument("target")
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--loss",
    default="kld-tvd++",
    show_default=True,
    metavar="NAME",
    help="kld, tvd, tvd++, tvd++sampled, ce (pretraining), kld-tvd or kld-tvd++: KL divergence first, then "
    "the other.",
)
@click.option(
    "--width",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    metavar="N",
    help="Of the draft's feed-forward part.",
)
@click.option(
    "--words",
    type=click.IntRange(min=2),
    default=8192,
    show_default=True,
    metavar="N",
    help="Tokens that the draft can say: the most frequent ones.",
)
@click.option(
    "--depth",
    type=click.IntRange(1, 16),
    default=4,
    show_default=True,
    metavar="N",
    help="Tokens ahead that it learns.",
)
@learning_options
@revision_option
@json_progress_option
def draft(
    target: str,
    out: Path,
    loss: str,
    width: int,
    words: int,
    depth: int,
    learning: Learning,
    revision: str | None,
    as_json: bool,
) -> None:
    """Trains a draft for the checkpoint TARGET and writes it into the folder OUT.

    TARGET is a Hugging Face directory, a .gguf file, a hub id, or smollm2-135m. The target writes answers,
    runs once over them, and the draft learns to say what it says. Ctrl-C and kill lose little: the same
    command goes on where it was. `edgesdk convert --draft OUT` then puts the draft beside its target.
    """
    with converters_installed():
        from edgesdk_converters.training.draft_training import DraftTraining
        from edgesdk_converters.training.train_draft import train_draft

        options = DraftTraining(
            loss=loss,
            width=width,
            words=words,
            depth=depth,
            **read_learning(learning),
        )
        made = run_training(
            lambda report: train_draft(target, out, options, revision=revision, report=report), as_json
        )
    _show(*made, as_json)


command.add_command(train_streams_command)
command.add_command(train_exits_command, "exits")


@command.command(short_help="Train a judge of what a model knows.", epilog=JUDGE_EXAMPLES)
@click.argument("bundle")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--facts",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help='JSON lines: {"question": "...", "answers": ["..."], "about": "..."}. Questions about one thing '
    "are learnt from together or not at all.",
)
@click.option(
    "--reads",
    type=click.Choice(["answer", "question"]),
    default="answer",
    show_default=True,
    help="What it judges by: the model's own first answer, or the question alone, which spares that answer.",
)
@threads_option
@json_option
def judge(bundle: str, out: Path, facts: Path, reads: Reads, threads: int | None, as_json: bool) -> None:
    """Trains a judge for BUNDLE and writes it to the file OUT.

    The model answers every question by itself; the judge learns from which of its answers were right, by how
    sure it was of them and, in a bundle with --hidden-states, by what it held after them. A quarter of the
    things is held back, to measure it on.
    """
    with converters_installed():
        import sklearn  # noqa: F401 - before a model answers for minutes

        from edgesdk_converters.training.train_judge import read_facts, train_judge

        told = tell_counts("questions answered")
        report = train_judge(bundle, read_facts(facts), out, reads=reads, threads=threads, told=told)
    if as_json:
        print_json(report)
        return
    print_facts(
        [
            ("judge", str(out)),
            ("learnt from", f"{report.questions} questions, {report.known:.0%} of all known"),
            ("AUROC", f"{report.auroc:.3f} on {report.held_back} questions about other things"),
            ("log-probability alone", f"{report.auroc_logprob:.3f}"),
            ("entropy alone", f"{report.auroc_entropy:.3f}"),
            (
                "hidden states",
                "read" if report.hidden else "none in this bundle; convert it with --hidden-states",
            ),
        ]
    )


def _show(report: DraftReport, wall_s: float, as_json: bool) -> None:
    if as_json:
        print_json({"event": "done", "wall_s": wall_s, "report": report}, one_line=True)
        return
    print_facts(
        [
            ("draft", str(report.draft)),
            ("trained", f"{report.steps} steps, {report.positions} positions, {wall_s / 60:.1f} min in all"),
            ("losses", "losses.svg" if report.plotted else "not drawn: matplotlib is not installed"),
        ]
    )
    if report.worth is None:
        click.echo("not judged: no greedy answers were held back")
        return
    worth = report.worth
    rows = [
        (str(gamma), f"{efficiency:.2f}", f"{right:.3f}", f"{kept:.3f}")
        for gamma, (efficiency, right, kept) in enumerate(
            zip(worth.efficiency, worth.right, worth.kept, strict=True), 1
        )
    ]
    print_table(
        ("drafted>", "tokens a step>", "all right>", "kept if drawn>"),
        rows,
        title=f"On {worth.texts} greedy answers that were held back ({worth.tokens} tokens)",
    )
