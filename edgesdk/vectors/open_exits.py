"""The exits of a loaded model: its segments, rules that suit them, and what it says on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from edgesdk.backends.protocol import Int
from edgesdk.decoding.completion import Chunk
from edgesdk.decoding.generate_early import generate_early
from edgesdk.decoding.request_reader import AnswerRequest
from edgesdk.decoding.stream import Cancelled
from edgesdk.dispatch.exit_prompts import Watch
from edgesdk.dispatch.exit_rule import EarlyExit, ExitRule, Head, read_rule
from edgesdk.dispatch.exit_sequence import ExitLog
from edgesdk.dispatch.exit_steps import ExitSteps
from edgesdk.errors import UnsupportedOption
from edgesdk.kv.step_model import StepModel
from edgesdk.vectors.classify import ClassifiedTexts, LabelTask, classify_early
from edgesdk.vectors.compares import Comparing


def open_exit_steps(model: Comparing) -> ExitSteps:
    """A model's segments, with cells of their own; the caller closes them.

    Raises:
        UnsupportedOption: the bundle has no exits, or the backend keeps its cache to itself.
        DeviceError: the sizes do not suit.
    """
    variant = model.bundle.variant(model.receipt.variant)
    stacks, backend = model.bundle.manifest.exits_of(variant), model.backend
    if stacks is None or not isinstance(backend, StepModel):
        raise UnsupportedOption(
            "the bundle has no exits; convert it with --exits 20,24,27, say, for litert or onnx-step"
        )
    return ExitSteps(backend.backend, model.decoder, stacks, model.context)


def has_label_head(model: Comparing) -> bool:
    """Whether a model's bundle has exits with a head over labels."""
    stacks = model.bundle.manifest.exits_of(model.bundle.variant(model.receipt.variant))
    return stacks is not None and stacks.labels


def exit_rule_for(model: Comparing, early_exit: EarlyExit, *, labels: bool = False) -> ExitRule:
    """The rule that is meant, checked against a model's bundle.

    Args:
        model: that it is for.
        early_exit: a rule, its file, or one in short.
        labels: whether it is for an answer that is one of some labels.

    Raises:
        UnsupportedOption: the bundle has no exits, or the rule cannot be read or suits another bundle.
    """
    variant = model.bundle.variant(model.receipt.variant)
    return read_rule(early_exit, model.bundle.manifest.exits_of(variant), variant.numbers, labels=labels)


def answer_early(
    model: Comparing, log: ExitLog, early_exit: EarlyExit, request: AnswerRequest
) -> Callable[[Cancelled], Iterator[Chunk]]:
    """How an answer is written whose tokens leave the model early.

    Args:
        model: with exits.
        log: of what it did, for its receipt.
        early_exit: by which rule.
        request: of the answer.

    Raises:
        UnsupportedOption: as `exit_rule_for`, or an adapter is asked for, too.
    """
    rule = exit_rule_for(model, early_exit)
    if request.gates:
        raise UnsupportedOption("early exits are the model's alone; leave adapter or early_exit out")
    return partial(generate_early, partial(open_exit_steps, model), log, rule, request)


def task_prompts(model: Comparing, texts: Sequence[str], task: LabelTask) -> list[Int]:
    """What a model is asked about each text, as token ids.

    Raises:
        CapacityError: a text does not fit the context.
    """
    return [
        np.asarray(model.reader.known_ids(task.prompt(text.strip()), model.context), np.int32)
        for text in texts
    ]


def watch_exits(
    model: Comparing, texts: Sequence[str], task: LabelTask, watch: Watch, head: Head = "all"
) -> ClassifiedTexts:
    """Classifies by the whole model and shows every exit on the way; for training and measurements.

    Args:
        model: from a bundle with exits.
        texts: to be classified.
        task: what they are asked.
        watch: told of every exit of every text, with (labels,) logits.
        head: that is asked there.

    Raises:
        UnsupportedOption: the bundle has no exits or not that head, or the backend keeps its cache to itself.
        CapacityError: a text does not fit the context.
        DeviceError: the model is closed, or the backend fails.
    """
    steps = open_exit_steps(model)
    try:
        if head == "labels" and not steps.stacks.labels:
            raise UnsupportedOption(
                "the bundle has exits and no head over labels; convert it again with --exits, or take the "
                "head of all tokens"
            )
        return classify_early(steps, task_prompts(model, texts, task), task, None, watch, head=head)
    finally:
        steps.close()
