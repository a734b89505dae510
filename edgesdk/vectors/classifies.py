"""Methods of a model that classify texts; `classify` is the verb.

As in `compares`, they run beside whatever else uses the backend, in cells of their own that they give back.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from edgesdk.backends.protocol import Int
from edgesdk.decoding.option_types import whole_text
from edgesdk.dispatch.exit_prompts import Watch
from edgesdk.dispatch.exit_rule import EarlyExit, ExitRule, read_rule
from edgesdk.dispatch.exit_sequence import ExitLog
from edgesdk.dispatch.exit_steps import ExitSteps
from edgesdk.errors import UnsupportedOption, quoted
from edgesdk.kv.step_model import StepModel
from edgesdk.vectors.classify import (
    Classification,
    ClassifiedTexts,
    LabelTask,
    classify_early,
    classify_whole,
    label_task,
)
from edgesdk.vectors.compares import Comparing
from edgesdk.vectors.read_texts import check_texts


class Classifying(Comparing):
    """What classifies texts: a `Model`."""

    def classify(
        self,
        text: str,
        labels: Sequence[str],
        *,
        instruction: str = "",
        examples: Sequence[tuple[str, str]] = (),
        early_exit: EarlyExit | None = None,
    ) -> Classification:
        """Which of some labels a text gets, by the model's next token after it.

        Args:
            text: to be classified.
            labels: two words or more; each begins with a token of its own.
            instruction: stands before examples and text.
            examples: texts with their labels, which a small model needs.
            early_exit: a rule or its file, from `edgesdk train exits`, or `fixed:18` or `top_prob:0.9`: take
                the answer after fewer blocks where the rule says so. None runs the whole model.

        Raises:
            UnsupportedOption: an argument has no meaning, the bundle has no exits, or the backend keeps its
                cache to itself.
            CapacityError: the text does not fit the context.
            DeviceError: the model is closed, or the backend fails.
        """
        told = whole_text("text", text)
        found = self.classify_many(
            [told], labels, instruction=instruction, examples=examples, early_exit=early_exit
        )
        return found.results[0]

    def classify_many(
        self,
        texts: Sequence[str],
        labels: Sequence[str],
        *,
        instruction: str = "",
        examples: Sequence[tuple[str, str]] = (),
        early_exit: EarlyExit | None = None,
    ) -> ClassifiedTexts:
        """Likewise for many texts at once, which share the run of instruction and examples.

        Args:
            texts: to be classified.
            labels: as for `classify`.
            instruction: likewise.
            examples: likewise.
            early_exit: likewise; texts leave one by one.

        Returns:
            A classification for each text and, with a rule, how early they left.

        Raises:
            UnsupportedOption: as for `classify`.
            CapacityError: a text does not fit the context.
            DeviceError: the model is closed, or the backend fails.
        """
        task = label_task(self.reader.tokenizer, labels, instruction, _pairs(examples))
        rule = None if early_exit is None else self.exit_rule(early_exit)
        prompts = self._prompts(check_texts("texts", texts), task)
        if rule is not None:
            return self._classify_early(prompts, task, rule, None)
        runner = self._runner("classifying")
        try:
            return classify_whole(runner, prompts, task, len(self.decoder.blocks))
        finally:
            runner.close()

    def watch_exits(self, texts: Sequence[str], task: LabelTask, watch: Watch) -> ClassifiedTexts:
        """Classifies by the whole model and shows every exit on the way; for training and measurements.

        Args:
            texts: to be classified.
            task: what they are asked.
            watch: told of every exit of every text.

        Raises:
            UnsupportedOption: the bundle has no exits, or the backend keeps its cache to itself.
            CapacityError: a text does not fit the context.
            DeviceError: the model is closed, or the backend fails.
        """
        return self._classify_early(self._prompts(check_texts("texts", texts), task), task, None, watch)

    def exit_rule(self, early_exit: EarlyExit) -> ExitRule:
        """The rule that is meant, checked against the bundle.

        Raises:
            UnsupportedOption: the bundle has no exits, or the rule cannot be read or suits another bundle.
        """
        variant = self.bundle.variant(self.receipt.variant)
        return read_rule(early_exit, self.bundle.manifest.exits_of(variant), variant.numbers)

    def exit_steps(self, context: int | None = None) -> ExitSteps:
        """The model's segments, with cells of their own; the caller closes them.

        Args:
            context: most tokens of a sequence; the model's when None.

        Raises:
            UnsupportedOption: the bundle has no exits, or the backend keeps its cache to itself.
            DeviceError: the sizes do not suit.
        """
        variant = self.bundle.variant(self.receipt.variant)
        stacks, backend = self.bundle.manifest.exits_of(variant), self.backend
        if stacks is None or not isinstance(backend, StepModel):
            raise UnsupportedOption(
                "the bundle has no exits; convert it with --exits 12,18,24, say, for litert or onnx-step"
            )
        return ExitSteps(backend.backend, self.decoder, stacks, context or self.context)

    @cached_property
    def exit_log(self) -> ExitLog:
        """What has left early so far; for the receipt."""
        return ExitLog(len(self.decoder.blocks))

    def _classify_early(
        self, prompts: list[Int], task: LabelTask, rule: ExitRule | None, watch: Watch | None
    ) -> ClassifiedTexts:
        steps = self.exit_steps()
        try:
            found = classify_early(steps, prompts, task, rule, watch)
        finally:
            steps.close()
        if rule is not None and found.figures is not None:
            self.exit_log.add(found.figures)
        return found

    def _prompts(self, texts: Sequence[str], task: LabelTask) -> list[Int]:
        return [
            np.asarray(self.reader.known_ids(task.prompt(text.strip()), self.context), np.int32)
            for text in texts
        ]


def _pairs(examples: object) -> Sequence[tuple[str, str]]:
    if isinstance(examples, str) or not isinstance(examples, Sequence):
        raise UnsupportedOption(f"examples is {quoted(examples)}, expected pairs of a text and its label")
    return examples
