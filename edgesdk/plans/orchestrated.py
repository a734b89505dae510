"""Methods of models and engines that are carried out above both of them.

A model's `ask_many` needs an engine, and an engine a model, so an import in either would run up. They are
found by their public names instead, which the package's `__init__` gives out: it stands above all rooms.
What they take and give is data of this room, below both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, Unpack, cast

from edgesdk.decoding.option_names import lists_fields
from edgesdk.decoding.options import GenerationOptions
from edgesdk.plans.ask_options import AskKeywords, AskOptions
from edgesdk.plans.model_or_engine import ModelOrEngine
from edgesdk.plans.skeleton_options import SkeletonKeywords, SkeletonOptions

if TYPE_CHECKING:  # what comes back is made by those who answer
    from edgesdk.plans.many_answers import ManyAnswers
    from edgesdk.plans.skeleton_answer import SkeletonAnswer, SkeletonChunk


class Orchestrated(ModelOrEngine):
    """What answers many questions, or one by its skeleton: a `Model` or an `Engine`."""

    @lists_fields(AskOptions, GenerationOptions)
    def ask_many(self, context: str, queries: Sequence[str], **options: Unpack[AskKeywords]) -> ManyAnswers:
        """Answers many questions about one text, which is run once: as many answers, in order.

        A text that is longer than the model's context is split by tokens, with an overlap, and the answers
        to its parts are merged.

        Args:
            context: the text.
            queries: questions about it.
            **options: `max_tokens` goes for each answer, 96 unless said otherwise.

        Raises:
            UnsupportedOption: an option has no meaning, or the backend keeps its cache to itself.
            CapacityError: not even a small part of the text fits beside a question.
            DeviceError: the model or the engine is closed.
        """
        ask = cast(_AskMany, _carried_out("ask_many"))
        return ask(self, context, queries, **options)

    @lists_fields(SkeletonOptions, GenerationOptions)
    def answer_by_skeleton(self, question: str, **options: Unpack[SkeletonKeywords]) -> SkeletonAnswer:
        """Answers a question by a plan of sub-problems, those at once that do not need each other.

        A plan that breaks its form is given up for a plain answer, which says so.

        Args:
            question: to be answered.
            **options: `max_tokens` goes for each node, 96 unless said otherwise.

        Raises:
            UnsupportedOption: an option has no meaning, or the backend keeps its cache to itself.
            CapacityError: the question does not fit.
            DeviceError: the model or the engine is closed.
        """
        answer = cast(_AnswerBySkeleton, _carried_out("answer_by_skeleton"))
        return answer(self, question, **options)

    @lists_fields(SkeletonOptions, GenerationOptions)
    def stream_by_skeleton(
        self, question: str, **options: Unpack[SkeletonKeywords]
    ) -> Iterator[SkeletonChunk]:
        """As `answer_by_skeleton`, piece by piece in reading order; closing it cancels all nodes."""
        stream = cast(_StreamBySkeleton, _carried_out("stream_by_skeleton"))
        return stream(self, question, **options)


class _AskMany(Protocol):
    def __call__(
        self, on: ModelOrEngine, context: str, queries: Sequence[str], **options: Unpack[AskKeywords]
    ) -> ManyAnswers: ...


class _AnswerBySkeleton(Protocol):
    def __call__(
        self, on: ModelOrEngine, question: str, **options: Unpack[SkeletonKeywords]
    ) -> SkeletonAnswer: ...


class _StreamBySkeleton(Protocol):
    def __call__(
        self, on: ModelOrEngine, question: str, **options: Unpack[SkeletonKeywords]
    ) -> Iterator[SkeletonChunk]: ...


def _carried_out(name: str) -> object:
    return getattr(import_module("edgesdk"), name)
