"""`edgesdk skeleton`: an answer by a plan of sub-problems."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgesdk.bundle.write_file import check_target, write_file
from edgesdk.cli.load_options import load_options
from edgesdk.cli.options import (
    Answering,
    item_options,
    json_option,
    model_argument,
    read_text_file,
    template_option,
)
from edgesdk.cli.output import print_json, show_changes, show_receipt
from edgesdk.errors import EdgeError

if TYPE_CHECKING:
    from edgesdk.bundle.records import JsonValue
    from edgesdk.load_options import LoadOptions

EXAMPLES = """\b
Examples:
  edgesdk skeleton smollm2 "How do I plan a garden?"
  edgesdk skeleton smollm2 "How do I plan a garden?" --plan plan.txt --svg plan.svg
  edgesdk skeleton smollm2 "How do I plan a garden?" --hard qwen3 --hard-from 4
  edgesdk skeleton smollm2 "How do I plan a garden?" --no-edges --wait-for-plan --json
"""


@click.command(short_help="Answer by a plan of sub-problems.", epilog=EXAMPLES)
@model_argument
@click.argument("prompt")
@click.option(
    "--plan",
    "plan_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A plan, one line for each sub-problem: number | sub-problem | parents or - | difficulty 1 to 5. "
    "Default: the model writes one.",
)
@click.option(
    "--most-nodes",
    type=click.IntRange(min=1, max=64),
    default=8,
    show_default=True,
    metavar="N",
    help="Most sub-problems that the model may plan.",
)
@click.option("--free-plan", is_flag=True, help="Let the model write its plan without a grammar.")
@click.option("--wait-for-plan", is_flag=True, help="Start no sub-problem before the whole plan is written.")
@click.option("--no-edges", is_flag=True, help="Let no sub-problem wait for others, nor see their answers.")
@click.option(
    "--hard",
    "hard_model",
    metavar="MODEL",
    help="What answers the difficult sub-problems. Default: the same model.",
)
@click.option(
    "--hard-variant",
    metavar="NAME",
    help="Variant for the difficult sub-problems, of --hard or of the same bundle. Default: the first that "
    "suits.",
)
@click.option(
    "--hard-from",
    type=click.IntRange(min=1, max=5),
    default=4,
    show_default=True,
    metavar="N",
    help="Least difficulty of those.",
)
@click.option(
    "--node-deadline",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Time for each sub-problem, once it may begin. Default: as long as it takes.",
)
@click.option(
    "--deadline",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Time for everything; what is not written by then says so. Default: as long as it takes.",
)
@click.option(
    "--svg",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw the plan over time into this file. Default: a tree on standard error only.",
)
@load_options
@item_options
@template_option
@json_option
def command(
    model: str,
    prompt: str,
    plan_file: Path | None,
    most_nodes: int,
    free_plan: bool,
    wait_for_plan: bool,
    no_edges: bool,
    hard_model: str | None,
    hard_variant: str | None,
    hard_from: int,
    node_deadline: float | None,
    deadline: float | None,
    svg: Path | None,
    loading: LoadOptions,
    answering: Answering,
    template_variables: Mapping[str, JsonValue],
    as_json: bool,
) -> None:
    """Answers PROMPT by a plan: sub-problems that do not need each other are answered at once, with MODEL.

    MODEL is named as for `edgesdk run`. The answers stream to standard output in the plan's order; the plan
    over time goes to standard error. A plan that breaks its form is given up for a plain answer, which is
    said there. Exit code 1 says that a sub-problem has no whole answer.
    """
    from dataclasses import replace

    from edgesdk.cli.convert_once import find_or_convert
    from edgesdk.load_model import load
    from edgesdk.orchestration.draw_plan import plan_svg, plan_tree
    from edgesdk.plans.read_plan import read_plan

    plan = None if plan_file is None else read_plan(read_text_file(plan_file))
    if svg is not None:
        check_target(svg)
    with ExitStack() as opened:
        first = opened.enter_context(load(find_or_convert(model), loading))
        receipt = first.receipt
        show_receipt(receipt, loading)
        second = None
        if hard_model is not None or hard_variant is not None:
            other = replace(loading, variant=hard_variant)
            second = opened.enter_context(load(find_or_convert(hard_model or model), other))
            show_receipt(second.receipt, other)
        answer = None
        for chunk in first.stream_by_skeleton(
            prompt,
            plan=plan,
            most_nodes=most_nodes,
            constrained=not free_plan,
            pipelined=not wait_for_plan,
            edges=not no_edges,
            hard=second,
            hard_from=hard_from,
            node_deadline_s=node_deadline,
            deadline_s=deadline,
            template_variables=template_variables or None,
            **answering,
        ):
            answer = chunk.answer
            if as_json:
                continue
            if chunk.withdrawn:
                click.echo()
                click.echo("the plan broke; what was written so far is no part of the answer", err=True)
            click.echo(chunk.text, nl=False)
        if answer is None:
            raise EdgeError("the answer ended without its last piece; please report this")
        if svg is not None and answer.nodes:
            write_file(svg, plan_svg(answer))
        if as_json:
            print_json({"answer": answer, "receipt": first.receipt})
        else:
            click.echo()
            click.echo(plan_tree(answer), err=True)
            show_changes(receipt, first.receipt)
    if not answer.complete:
        raise SystemExit(1)
