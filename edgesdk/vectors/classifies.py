"""Methods of a model that classify texts; `classify` is the verb.

As in `compares`, they run beside whatever else uses the backend, in cells of their own that they give back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from edgesdk.backends.protocol import Int
from edgesdk.bundle.whole_text import expect_causal
from edgesdk.decoding.option_types import whole_text
from edgesdk.errors import UnsupportedOption, quoted
from edgesdk.vectors.compares import Comparing
from edgesdk.vectors.read_texts import check_texts

if TYPE_CHECKING:  # every model has these methods, and few processes call them
    from edgesdk.decoding.completion import Chunk
    from edgesdk.decoding.request_reader import AnswerRequest
    from edgesdk.decoding.stream import Cancelled
    from edgesdk.dispatch.exit_rule import EarlyExit, ExitRule, Head
    from edgesdk.dispatch.exit_sequence import ExitLog
    from edgesdk.dispatch.exit_steps import ExitSteps
    from edgesdk.vectors.classify import Classification, ClassifiedTexts, LabelTask


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
            early_exit: a rule or its file, from `edgesdk train exits`, or `fixed:18`, `top_prob:0.9` or
                `label_prob:0.9`: take the answer after fewer blocks where the rule says so. None runs the
                whole model.

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
        from edgesdk.vectors.classify import classify_whole, label_task
        from edgesdk.vectors.open_exits import exit_rule_for, task_prompts

        expect_causal(self.decoder)
        task = label_task(self.reader.tokenizer, labels, instruction, _pairs(examples))
        rule = None if early_exit is None else exit_rule_for(self, early_exit, labels=True)
        prompts = task_prompts(self, check_texts("texts", texts), task)
        if rule is not None:
            return self._classify_early(prompts, task, rule)
        runner = self._runner("classifying")
        try:
            return classify_whole(runner, prompts, task, len(self.decoder.blocks))
        finally:
            runner.close()

    @cached_property
    def _idle_steps(self) -> deque[ExitSteps]:
        """Segments that nobody runs; at most one, handed out without a lock."""
        return deque(maxlen=1)

    @cached_property
    def _exit_log(self) -> ExitLog:
        """What has left early so far; for the receipt."""
        from edgesdk.dispatch.exit_sequence import ExitLog

        return ExitLog(len(self.decoder.blocks))

    @property
    def _exit_notes(self) -> tuple[str, ...]:
        """Lines for the receipt; none, and no log, as long as nobody asked for exits."""
        return self._exit_log.notes if "_exit_log" in vars(self) else ()

    def _run_early(
        self, request: AnswerRequest, early_exit: EarlyExit
    ) -> Callable[[Cancelled], Iterator[Chunk]]:
        from edgesdk.vectors.open_exits import answer_early

        return answer_early(self, self._exit_log, early_exit, request)

    def _classify_early(self, prompts: list[Int], task: LabelTask, rule: ExitRule) -> ClassifiedTexts:
        from edgesdk.vectors.classify import classify_early
        from edgesdk.vectors.open_exits import open_exit_steps

        # Fresh cells cost as much as a fifth of a text of 40 tokens, so those of the last call are kept.
        kept = None
        with suppress(IndexError):
            kept = self._idle_steps.pop()
        steps = kept if kept is not None and kept.context == self.context else open_exit_steps(self)
        head: Head = "labels" if steps.stacks.labels and rule.suits_labels else "all"
        try:
            found = classify_early(steps, prompts, task, rule, head=head)
        except BaseException:
            steps.close()
            raise
        self._idle_steps.append(steps)
        if found.figures is not None:
            self._exit_log.add(found.figures)
        return found


def _pairs(examples: object) -> Sequence[tuple[str, str]]:
    if isinstance(examples, str) or not isinstance(examples, Sequence):
        raise UnsupportedOption(f"examples is {quoted(examples)}, expected pairs of a text and its label")
    return examples
