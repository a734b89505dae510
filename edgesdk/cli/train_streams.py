"""`edgesdk train streams`, a command of the group in `train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from edgesdk.cli.convert import converters_installed
from edgesdk.cli.convert_options import split_list
from edgesdk.cli.options import json_progress_option, list_option, revision_option
from edgesdk.cli.output import print_facts, print_json, print_table
from edgesdk.cli.training_options import Learning, learning_options, read_learning, run_training

if TYPE_CHECKING:
    from edgesdk_converters.training.train_streams import StreamReport

EXAMPLES = """\b
Examples:
  edgesdk train streams smollm2-135m mystreams --hours 2
  edgesdk train streams smollm2-135m mystreams --form streams --layers 10 --streams 3
  edgesdk train streams model.gguf mystreams --steps 500 --tokens 50000 --data answers --data mails.txt
"""


@click.argument("target")
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--mode",
    type=click.Choice(["lossless", "shared"]),
    default="lossless",
    show_default=True,
    help="lossless: the model is frozen, and its answers stay what they are; shared: it learns, too, and "
    "becomes another, OUT/adapter merged into TARGET.",
)
@click.option(
    "--form",
    type=click.Choice(["masks", "streams"]),
    default="masks",
    show_default=True,
    help="masks: streams are rows of all layers; streams: they begin before the top layers, as the state of "
    "their token and a learned vector.",
)
@click.option(
    "--streams",
    type=click.IntRange(1, 8),
    default=2,
    show_default=True,
    metavar="N",
    help="Tokens ahead of the model's own that are guessed.",
)
@click.option(
    "--layers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Layers that streams run through, in the form streams. Default: a third.",
)
@click.option(
    "--rank",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    metavar="N",
    help="Of the low-rank parts that products of streams have.",
)
@list_option(
    "--parts",
    "Products of each layer that have them: some of q, k, v, o, gate, up, down, joined by commas.",
    default="q,o,down",
)
@click.option(
    "--loss",
    default="kld",
    show_default=True,
    metavar="NAME",
    help="kld, tvd, tvd++, tvd++sampled, ce, kld-tvd or kld-tvd++: KL divergence first, then the other.",
)
@learning_options
@revision_option
@json_progress_option
def _train(
    target: str,
    out: Path,
    mode: Literal["lossless", "shared"],
    form: Literal["masks", "streams"],
    streams: int,
    layers: int | None,
    rank: int,
    parts: str,
    loss: str,
    learning: Learning,
    revision: str | None,
    as_json: bool,
) -> None:
    """Trains streams for the checkpoint TARGET and writes them into the folder OUT.

    TARGET is a Hugging Face directory, a .gguf file, a hub id, or smollm2-135m. It writes answers, and learns
    to say with further rows of a step what it says some tokens later; its own rows stay what they are. Ctrl-C
    and kill lose little: the same command goes on where it was. `edgesdk convert --streams OUT` then gives
    the model its streams, after --mode shared with --merge-adapter OUT/adapter.
    """
    with converters_installed():
        from edgesdk_converters.training.stream_training import StreamTraining
        from edgesdk_converters.training.train_streams import train_streams

        options = StreamTraining(
            mode=mode,
            form=form,
            streams=streams,
            layers=layers,
            rank=rank,
            parts=split_list(parts),
            loss=loss,
            **read_learning(learning),
        )
        made = run_training(
            lambda report: train_streams(target, out, options, revision=revision, report=report), as_json
        )
    _show(*made, as_json)


train_streams_command = click.command(
    "streams", short_help="Train streams for a checkpoint.", epilog=EXAMPLES
)(_train)


def _show(report: StreamReport, wall_s: float, as_json: bool) -> None:
    if as_json:
        print_json({"event": "done", "wall_s": wall_s, "report": report}, one_line=True)
        return
    print_facts(
        [
            ("streams", str(report.streams)),
            ("form", report.form),
            ("trained", f"{report.steps} steps, {report.places} places, {wall_s / 60:.1f} min in all"),
            ("parameters", f"{report.parameters / 1e6:.1f} M, {report.share:.1%} of the target's"),
            (
                "merge",
                "not needed: the model is as it was" if report.adapter is None else str(report.adapter),
            ),
            ("losses", "losses.svg" if report.plotted else "not drawn: matplotlib is not installed"),
        ]
    )
    for change in report.changes:
        click.echo(
            f"the changed model on {change.texts}: {change.bits_after:.3f} bits a byte, "
            f"{change.bits_before:.3f} before; {change.same:.1%} of {change.tokens} likeliest tokens are "
            "the same"
        )
    worth = report.worth
    if worth is None:
        click.echo("not judged: no greedy answers were held back")
        return
    rows = [
        (str(j), f"{efficiency:.2f}", f"{right:.3f}", *(f"{share:.3f}" for share in among), f"{kept:.3f}")
        for j, (efficiency, right, among, kept) in enumerate(
            zip(worth.efficiency, worth.right, worth.among, worth.kept, strict=True), 1
        )
    ]
    print_table(
        ("streams>", "tokens a call>", "all right>", "best 1>", "best 2>", "best 4>", "kept if drawn>"),
        rows,
        title=f"On {worth.texts} greedy answers that were held back ({worth.tokens} tokens)",
    )
