"""An answer with its sources, and how it came about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgesdk.decoding.stopping import FinishReason
from edgesdk.retrieval.passage import Passage

GateName = Literal["always", "never", "logprob", "entropy", "ask", "flare", "head"]
StageName = Literal["coarse answer", "gate", "rewrite", "claim", "search", "prompt", "answer"]


@dataclass(frozen=True)
class Stage:
    """One decision on the way.

    Attributes:
        name: of the stage.
        decided: what came of it, in words.
        seconds: what it took.
        score: what it was decided by, if that is a number.
    """

    name: StageName
    decided: str
    seconds: float
    score: float | None = None


@dataclass(frozen=True)
class SourcedAnswer:
    """An answer with its sources.

    Attributes:
        question: as it was asked.
        text: the answer.
        searched: whether the index was asked.
        passages: what the model was given, in the order of their numbers from 1.
        cited: numbers of its sources, rising: those that the answer names in brackets, else that of the
            passage which has most of its words.
        named: whether the answer named them itself.
        queries: what was searched for.
        coarse: the model's own first answer; empty where the gate needed none.
        finish_reason: how the answer ended.
        stages: every decision, in order.
    """

    question: str
    text: str
    searched: bool
    passages: tuple[Passage, ...]
    cited: tuple[int, ...]
    named: bool
    queries: tuple[str, ...]
    coarse: str
    finish_reason: FinishReason
    stages: tuple[Stage, ...]

    @property
    def sources(self) -> tuple[Passage, ...]:
        """The passages that the answer stands on, as far as that shows."""
        return tuple(self.passages[number - 1] for number in self.cited)
