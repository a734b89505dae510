"""What comes of many questions about one text: as many answers, in order, each saying how it came about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgesdk.bundle.records import JsonValue
from edgesdk.decoding.stopping import FinishReason

AskMode = Literal["fork", "paper", "constrained", "single"]
"""How questions are put to the model; see `AskOptions.mode`."""

HowAnswered = Literal["fork", "paper", "constrained", "single", "alone", "merged"]
"""`fork`, `paper`, `constrained`, `single`: in the first go, as the mode says; `alone`: asked again, by
itself; `merged`: from the answers to several parts of the text."""


@dataclass(frozen=True)
class ItemAnswer:
    """The answer to one question.

    Attributes:
        query: the question.
        text: the answer; empty where `error` says why there is none.
        value: it as JSON, where a schema was given and the text is complete.
        how: what gave it.
        finish_reason: of the request that gave it; None where that failed.
        note: what was wrong at first; None where nothing was.
        error: why there is no answer, or why it is not whole; None where it is.
        parts: of the text that were read for it, more than one where the text was too long.
    """

    query: str
    text: str
    value: JsonValue
    how: HowAnswered
    finish_reason: FinishReason | None = None
    note: str | None = None
    error: str | None = None
    parts: int = 1


@dataclass(frozen=True)
class ManyAnswers:
    """Answers to many questions about one text.

    Attributes:
        mode: how they were asked.
        answers: one for each question, in order.
        parts: that the text was split into; 1 where it was read whole.
        list_kept: of the modes that ask for one list: whether each list was a JSON list of the right length;
            None for the others.
        prompt_tokens: that were run, in the first go and in those that followed.
        prompt_tokens_apart: that as many separate calls would have run for the same text.
        new_tokens: that were chosen.
        wall_s: seconds from the call to the last answer.
    """

    mode: AskMode
    answers: tuple[ItemAnswer, ...]
    parts: int
    list_kept: bool | None
    prompt_tokens: int
    prompt_tokens_apart: int
    new_tokens: int
    wall_s: float

    @property
    def texts(self) -> tuple[str, ...]:
        """The answers alone."""
        return tuple(answer.text for answer in self.answers)

    @property
    def complete(self) -> bool:
        """Whether every question has a whole answer."""
        return all(answer.error is None for answer in self.answers)
