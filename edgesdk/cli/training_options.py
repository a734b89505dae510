"""Options that trainings of `edgesdk train` share, and how one is carried out and told."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, TypeVar

import click

from edgesdk.cli.options import Command, Decorator, grouped
from edgesdk.cli.progress_line import ProgressLine, print_event

if TYPE_CHECKING:
    from edgesdk_converters.progress import Report

Made = TypeVar("Made")

steps_option = click.option(
    "--steps", type=click.IntRange(min=1), metavar="N", help="How many steps, in place of --hours."
)


def hours_option(when: str = "") -> Decorator:
    """`--hours`, and from when on they are counted."""
    return click.option(
        "--hours",
        type=click.FloatRange(min=0, min_open=True),
        metavar="H",
        help=f"How long to train{when}: steps are timed and their number fixed. Default: 1.",
    )


def length(hours: float | None, steps: int | None) -> float | None:
    """The hours that are meant: one, where neither they nor steps are given."""
    return 1.0 if hours is None and steps is None else hours


def seed_option(of: str) -> Decorator:
    """`--seed`, and of what."""
    return click.option(
        "--seed",
        type=click.IntRange(0, (1 << 31) - 1),
        default=0,
        show_default=True,
        metavar="N",
        help=f"Of {of}.",
    )


def work_option(what: str) -> Decorator:
    """`--work`, and what the folder is for."""
    return click.option(
        "--work",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help=f"Folder for {what}, which goes on where it was. Default: OUT/work.",
    )


class Learning(TypedDict):
    """From which texts to learn and for how long, as it was typed."""

    hours: float | None
    steps: int | None
    data: tuple[str, ...]
    answer_tokens: int
    seed: int
    teacher: Path | None
    work: Path | None
    numbers: Literal["float32", "bfloat16"]
    threads: int | None


_LEARNING: tuple[Decorator, ...] = (
    hours_option(", once the texts are there"),
    steps_option,
    click.option(
        "--data",
        multiple=True,
        default=("answers",),
        show_default=True,
        metavar="WHAT",
        help="answers: the target writes them to instructions that are shipped; sample: the shipped "
        "calibration sample; or a UTF-8 text file. Several times for several.",
    ),
    click.option(
        "--tokens",
        "answer_tokens",
        type=click.IntRange(min=1000),
        default=400_000,
        show_default=True,
        metavar="N",
        help="Tokens of answers that the target writes.",
    ),
    seed_option("instructions, draws and first numbers"),
    click.option(
        "--teacher",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="BUNDLE",
        help="Bundle of the target that writes the answers. Default: the target is converted to w8-round.",
    ),
    work_option("answers, states and the run"),
    click.option(
        "--numbers",
        type=click.Choice(["float32", "bfloat16"]),
        default="float32",
        show_default=True,
        help="Of the factors of products in training; bfloat16 is faster where the processor multiplies it.",
    ),
    click.option("--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads of the teacher."),
)


def learning_options(function: Command) -> Command:
    """Adds the options of `Learning`, handed on as `learning`."""
    return grouped(function, "learning", tuple(Learning.__annotations__), _LEARNING)


def read_learning(learning: Learning) -> Learning:
    """The same with the hours that are meant."""
    return {**learning, "hours": length(learning["hours"], learning["steps"])}


def run_training(train: Callable[[Report], Made], as_json: bool) -> tuple[Made, float]:
    """Trains under a line of progress, or under lines of JSON; what came of it, and the seconds it took."""
    started = time.perf_counter()
    with ProgressLine() as line:
        made = train(print_event if as_json else line)
    return made, time.perf_counter() - started
