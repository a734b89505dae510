"""The exits of a loaded model: its segments, rules that suit them, and what it says on the way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgesdk.backends.protocol import Int
from edgesdk.dispatch.exit_prompts import Watch
from edgesdk.dispatch.exit_rule import EarlyExit, ExitRule, read_rule
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


def exit_rule_for(model: Comparing, early_exit: EarlyExit) -> ExitRule:
    """The rule that is meant, checked against a model's bundle.

    Raises:
        UnsupportedOption: the bundle has no exits, or the rule cannot be read or suits another bundle.
    """
    variant = model.bundle.variant(model.receipt.variant)
    return read_rule(early_exit, model.bundle.manifest.exits_of(variant), variant.numbers)


def task_prompts(model: Comparing, texts: Sequence[str], task: LabelTask) -> list[Int]:
    """What a model is asked about each text, as token ids.

    Raises:
        CapacityError: a text does not fit the context.
    """
    return [
        np.asarray(model.reader.known_ids(task.prompt(text.strip()), model.context), np.int32)
        for text in texts
    ]


def watch_exits(model: Comparing, texts: Sequence[str], task: LabelTask, watch: Watch) -> ClassifiedTexts:
    """Classifies by the whole model and shows every exit on the way; for training and measurements.

    Args:
        model: from a bundle with exits.
        texts: to be classified.
        task: what they are asked.
        watch: told of every exit of every text.

    Raises:
        UnsupportedOption: the bundle has no exits, or the backend keeps its cache to itself.
        CapacityError: a text does not fit the context.
        DeviceError: the model is closed, or the backend fails.
    """
    steps = open_exit_steps(model)
    try:
        return classify_early(steps, task_prompts(model, texts, task), task, None, watch)
    finally:
        steps.close()
