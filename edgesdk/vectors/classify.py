"""Which of some labels a text gets: by the model's own next token after a prompt that ends in `Label:`.

A label is told from others by its first token, so that one row of logits answers, or one logit for each
label where the bundle has a head over labels. With a rule for early exits
a text runs through as many blocks as its answer needs (`edgesdk.dispatch.exit_prompts`). What all prompts
begin with (instruction and examples) is run once.

Papers: GPT-3 (Brown et al., 2020) for the prompt, AdaInfer (Fan et al., IJCAI 2025) for leaving early.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.protocol import Float, Int
from edgesdk.decoding.option_types import whole_text
from edgesdk.dispatch.exit_prompts import (
    AskedLabels,
    ExitedPrompt,
    Watch,
    close_lists,
    run_beginning,
    run_prompts,
)
from edgesdk.dispatch.exit_rule import ExitRule, Head
from edgesdk.dispatch.exit_sequence import ExitFigures, exit_figures
from edgesdk.dispatch.exit_steps import ExitSteps
from edgesdk.errors import DeviceError, UnsupportedOption, quoted
from edgesdk.kv.step_runner import StepRunner
from edgesdk.text.tokenizer import Tokenizer
from edgesdk.vectors.run_shared import run_shared, shared_beginning

_ASK = "Label:"
_MOST_LABELS = 1000


@dataclass(frozen=True)
class Classification:
    """What a text was found to be.

    Attributes:
        label: the likeliest.
        chances: of each label; their sum is 1.
        blocks: of the model that were run for it.
        heads: how often the head was run for it.
    """

    label: str
    chances: Mapping[str, float]
    blocks: int
    heads: int = 1


@dataclass(frozen=True)
class ClassifiedTexts:
    """Texts with what they were found to be.

    Attributes:
        results: in the order of the texts.
        figures: how early they left; None where no rule was given.
    """

    results: tuple[Classification, ...]
    figures: ExitFigures | None = None


@dataclass(frozen=True)
class LabelTask:
    """Labels, and how a model is asked for one.

    Attributes:
        labels: each once.
        tokens: (labels,) int32, the token that each begins with in an answer.
        beginning: what stands before each text.
    """

    labels: tuple[str, ...]
    tokens: Int
    beginning: str

    def prompt(self, text: str) -> str:
        """What a model is asked about a text."""
        return f"{self.beginning}Text: {text}\n{_ASK}"

    def choose(
        self, logits: Float, blocks: int, heads: int, offsets: NDArray[np.float64] | None = None
    ) -> Classification:
        """The label that (labels,) logits say, once `offsets` are taken off their log-probabilities."""
        rows = label_chances(logits)
        if offsets is not None:
            rows = rows - offsets
        chances = np.exp(rows - rows.max())
        chances /= chances.sum()
        named = dict(zip(self.labels, chances.tolist(), strict=True))
        return Classification(self.labels[int(rows.argmax())], named, blocks, heads)


def label_chances(logits: Float) -> NDArray[np.float64]:
    """Log-probabilities of labels among each other.

    Args:
        logits: (labels,).

    Raises:
        DeviceError: some of the logits are NaN or infinity.
    """
    rows = logits.astype(np.float64)
    if not np.isfinite(rows).all():
        raise DeviceError("the backend returned logits that are not finite numbers; try another backend")
    rows -= rows.max()
    found: NDArray[np.float64] = rows - np.log(np.exp(rows).sum())
    return found


def label_task(
    tokenizer: Tokenizer, labels: object, instruction: object = "", examples: Sequence[tuple[str, str]] = ()
) -> LabelTask:
    """Checks labels and examples, and writes what stands before each text.

    Args:
        tokenizer: of the model.
        labels: two words or more, which begin with different tokens.
        instruction: stands first; none if empty.
        examples: texts with their labels, which stand before each text.

    Raises:
        UnsupportedOption: a label, the instruction or an example is not as it should be.
    """
    if isinstance(labels, str) or not isinstance(labels, Sequence):
        raise UnsupportedOption(f"labels is {quoted(labels)}, expected a list of words")
    words = tuple(whole_text("a label", label).strip() for label in labels)
    if not 2 <= len(words) <= _MOST_LABELS:
        raise UnsupportedOption(f"{len(words)} labels are given, expected 2 to {_MOST_LABELS}")
    taken: dict[int, str] = {}
    for word in words:
        token = _first_token(tokenizer, word)
        if token in taken:
            raise UnsupportedOption(
                f"the labels {quoted(taken[token])} and {quoted(word)} begin with the same token; choose "
                "words that begin differently"
            )
        taken[token] = word
    told = whole_text("instruction", instruction)
    parts = [f"{told.strip()}\n\n"] if told.strip() else []
    for example in examples:
        if isinstance(example, str) or not isinstance(example, Sequence) or len(example) != 2:
            raise UnsupportedOption(f"an example is {quoted(example)}, expected a text and its label")
        text, label = (whole_text("an example", part).strip() for part in example)
        if label not in words:
            raise UnsupportedOption(
                f"an example has the label {quoted(label)}, expected one of {quoted(words)}"
            )
        parts.append(f"Text: {text}\n{_ASK} {label}\n\n")
    return LabelTask(words, np.array(list(taken), np.int32), "".join(parts))


def _first_token(tokenizer: Tokenizer, word: str) -> int:
    """The token that a label begins with where an answer begins.

    Raises:
        UnsupportedOption: it is not to be told from what stands before it.
    """
    before = tokenizer.encode(_ASK, add_bos=False)
    ids = tokenizer.encode(f"{_ASK} {word}", add_bos=False)
    if not word or len(ids) <= len(before) or ids[: len(before)] != before:
        raise UnsupportedOption(
            f"the label {quoted(word)} begins with no token of its own; take another word"
        )
    return ids[len(before)]


def classify_whole(
    runner: StepRunner, prompts: Sequence[Int], task: LabelTask, blocks: int
) -> ClassifiedTexts:
    """Classifies by the whole model.

    Args:
        runner: that nobody else uses meanwhile.
        prompts: token ids, (n,) int32 each.
        task: what they ask.
        blocks: of the model.

    Raises:
        CapacityError: one does not fit the context.
        DeviceError: the backend failed.
    """
    found: list[Classification | None] = [None] * len(prompts)
    for given in run_shared(runner, prompts):
        found[given.place] = task.choose(given.rows[-1][task.tokens], blocks, 1)
    return ClassifiedTexts(tuple(each for each in found if each is not None))


def classify_early(
    steps: ExitSteps,
    prompts: Sequence[Int],
    task: LabelTask,
    rule: ExitRule | None,
    watch: Watch | None = None,
    *,
    head: Head = "all",
) -> ClassifiedTexts:
    """Classifies by as much of the model as a rule wants.

    Args:
        steps: that nobody else uses meanwhile.
        prompts: token ids, (n,) int32 each.
        task: what they ask.
        rule: when to leave; None for never.
        watch: told of every exit: blocks that have run, the prompt, and (labels,) logits there.
        head: that whoever looks asks; over labels only where the stacks have it.

    Raises:
        CapacityError: one does not fit the context.
        DeviceError: the backend failed.
    """

    @cache  # asked for every text, and found by comparing words
    def offsets(blocks: int) -> NDArray[np.float64]:
        return np.zeros(len(task.labels)) if rule is None else rule.offsets_at(blocks, task.labels)

    def of_labels(logits: Float) -> Float:
        return logits if head == "labels" else logits[task.tokens]

    def told(blocks: int, prompt: ExitedPrompt, logits: Float) -> None:
        if watch is not None:
            watch(blocks, prompt, of_labels(logits))

    asked = AskedLabels(task.tokens, offsets) if head == "labels" else None
    shared = shared_beginning(prompts)
    after = run_beginning(steps, prompts[0][:shared]) if shared else None
    try:
        rest = [prompt[shared:] for prompt in prompts]
        watching = None if watch is None else told
        ran: list[ExitedPrompt] = list(
            run_prompts(steps, rest, rule, after=after, watch=watching, labels=asked)
        )
    finally:
        if after is not None:
            close_lists(after)
    results = tuple(
        task.choose(of_labels(each.logits), each.blocks, each.heads, offsets(each.blocks)) for each in ran
    )
    return ClassifiedTexts(results, _figures(steps, ran, None if asked is None else len(task.labels)))


def _figures(steps: ExitSteps, ran: Sequence[ExitedPrompt], labels: int | None) -> ExitFigures:
    counts: dict[int, int] = {}
    tokens: dict[int, int] = {}
    for each in ran:
        counts[each.blocks] = counts.get(each.blocks, 0) + 1
        tokens[each.blocks] = tokens.get(each.blocks, 0) + each.tokens
    heads = sum(each.heads for each in ran)
    return exit_figures(steps, counts, heads, filled=False, tokens=tokens, labels=labels)
