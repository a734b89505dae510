"""An answer by its skeleton: a plan of sub-problems, those at once that do not need each other.

It plans, starts and joins; the engines run.

Paper: Adaptive Skeleton Graph Decoding (arXiv 2402.12280): dependencies, difficulty and pipelined planning.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Unpack

from edgesdk.decoding.grammar import check_grammar
from edgesdk.decoding.option_types import whole_text
from edgesdk.decoding.options import GenerationOptions
from edgesdk.errors import EdgeError, UnsupportedOption
from edgesdk.orchestration.hosted_engine import engine_on
from edgesdk.orchestration.plan_prompt import plan_regex
from edgesdk.orchestration.route import Route
from edgesdk.orchestration.skeleton_run import SkeletonRun
from edgesdk.plans.model_or_engine import ModelOrEngine
from edgesdk.plans.skeleton_answer import SkeletonAnswer, SkeletonChunk
from edgesdk.plans.skeleton_options import SkeletonKeywords, SkeletonOptions, split_skeleton_keywords


def answer_by_skeleton(
    on: ModelOrEngine, question: str, **options: Unpack[SkeletonKeywords]
) -> SkeletonAnswer:
    """Answers a question by its skeleton; `Model.answer_by_skeleton` says more.

    Args:
        on: a loaded model or an engine; it plans, and answers the nodes that `hard` does not.
        question: to be answered.
        **options: fields of `SkeletonOptions` and `GenerationOptions`.

    Raises:
        UnsupportedOption: an option has no meaning, or the backend keeps its cache to itself.
        CapacityError: the question does not fit.
        DeviceError: the model or the engine is closed.
    """
    answer = None
    for chunk in stream_by_skeleton(on, question, **options):
        answer = chunk.answer
    if answer is None:
        raise EdgeError("the answer ended without its last piece; please report this")
    return answer


def stream_by_skeleton(
    on: ModelOrEngine, question: str, **options: Unpack[SkeletonKeywords]
) -> Iterator[SkeletonChunk]:
    """As `answer_by_skeleton`, piece by piece in reading order; closing the iterator cancels all nodes.

    What is wrong with the options is raised by the call, the rest with the first piece.
    """
    planning, answering = split_skeleton_keywords(options)
    asked = whole_text("question", question)
    if not asked.strip():
        raise UnsupportedOption("the question is empty, expected a text")
    check_grammar(answering)
    if planning.plan is None and planning.constrained:
        check_grammar(GenerationOptions(regex=plan_regex(planning.most_nodes)))
    return _chunks(on, asked, planning, answering)


def _chunks(
    on: ModelOrEngine, question: str, planning: SkeletonOptions, answering: GenerationOptions
) -> Iterator[SkeletonChunk]:
    began_s = time.perf_counter()

    def route(to: ModelOrEngine) -> Route:
        engine = opened.enter_context(engine_on(to))
        variables = planning.template_variables
        made = Route(engine, question, planning.instruction, variables, answering.adapter)
        opened.callback(made.close)
        return made

    with ExitStack() as opened:
        easy = route(on)
        hard = easy if planning.hard is None or planning.hard is on else route(planning.hard)
        yield from SkeletonRun(question, planning, answering, easy, hard, began_s).chunks()
