"""What every stage needs: the model that answers, its prompts, the time that is left, and the record."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt

from edgesdk.backends.protocol import StatedSequence, TokenSequence
from edgesdk.backends.sequence_room import check_room
from edgesdk.decoding.completion import Completion
from edgesdk.engine.engine import Engine
from edgesdk.engine.request_options import RequestOptions
from edgesdk.orchestration.prompt_writer import PromptWriter
from edgesdk.plans.allowance import Allowance
from edgesdk.retrieval.gate_options import GateOptions
from edgesdk.retrieval.sourced_answer import Stage, StageName

_LOOK_S = 0.05
_REPETITION_PENALTY = 1.05  # of the paper, for what the proxy writes


@dataclass
class Note:
    """What a stage says of itself while it runs."""

    decided: str = ""
    score: float | None = None


@dataclass(frozen=True)
class Belief:
    """How sure a model is of an answer: figures over its tokens, from raw logits.

    Attributes:
        mean_logprob: of the tokens, nats.
        mean_entropy: of the distributions that they were chosen from, nats.
        least: probability of the least likely token.
        tokens: how many.
    """

    mean_logprob: float
    mean_entropy: float
    least: float
    tokens: int


@dataclass
class GateDesk:
    """Where one question is answered.

    Attributes:
        engine: runs the requests.
        writer: writes prompts for its model.
        options: how to answer.
        allowance: how long it may go on.
        stages: what was decided so far.
    """

    engine: Engine
    writer: PromptWriter
    options: GateOptions
    allowance: Allowance
    stages: list[Stage] = field(default_factory=list)

    @contextmanager
    def stage(self, name: StageName) -> Iterator[Note]:
        """Runs a stage and keeps what it says."""
        note, began = Note(), time.perf_counter()
        yield note
        self.stages.append(Stage(name, note.decided, time.perf_counter() - began, note.score))

    def is_over(self) -> bool:
        """Whether nothing more may be begun."""
        return self.allowance.is_over() or self.allowance.is_cancelled()

    def write(self, *parts: str, max_tokens: int, **changed: object) -> Completion:
        """Has the model write something, greedily.

        Args:
            parts: of its prompt.
            max_tokens: most tokens.
            changed: further options of the request.

        Raises:
            EdgeError: it cannot, or the prompt does not fit.
        """
        given = {
            "max_tokens": max_tokens,
            "temperature": 0.0,
            "repetition_penalty": _REPETITION_PENALTY,
            "deadline_s": self.allowance.left_s(),
            **changed,
        }
        generation = self.writer.write(*parts).submit(self.engine, cast(RequestOptions, given))
        while not self.allowance.is_cancelled():
            try:
                return generation.result(None if self.options.cancelled is None else _LOOK_S)
            except TimeoutError:
                continue
        generation.cancel()
        return generation.result()

    def belief(self, question: str, answer: Sequence[int]) -> Belief:
        """How sure the model is of an answer, whoever wrote it: one run of prompt and answer.

        Args:
            question: what the model is asked.
            answer: (n,) token ids, at least one.

        Raises:
            CapacityError: they do not fit the context.
        """
        return self._run_answer(question, answer, state=False)[0]

    def belief_and_state(
        self, question: str, answer: Sequence[int]
    ) -> tuple[Belief, npt.NDArray[np.float64]]:
        """The same, and what the head reads after the answer: (E,), or (0,) where no bundle gives it.

        Raises:
            CapacityError: they do not fit the context.
        """
        return self._run_answer(question, answer, state=True)

    def run(self, tokens: Sequence[int]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Logits (V,) after tokens, and what the head read for them: (E,), or (0,) where no bundle gives it.

        Raises:
            CapacityError: they do not fit the context.
        """
        with self._sequence() as sequence:
            logits = np.array(sequence.extend(np.asarray(tokens, np.int32)), np.float64)
            return logits.reshape(-1), _state(sequence)

    def _run_answer(
        self, question: str, answer: Sequence[int], *, state: bool
    ) -> tuple[Belief, npt.NDArray[np.float64]]:
        """Prompt and answer once. The prompt pays for one row of logits: each costs some layers."""
        prompt = np.asarray(self.writer.write(COARSE, f"Question: {question}").ids, np.int32)
        tokens = np.asarray(answer, np.int32)
        check_room(len(prompt) + len(tokens), 0, self.engine.model.context)
        with self._sequence() as sequence:
            rows = [np.array(sequence.extend(prompt), np.float64).reshape(1, -1)]
            if len(tokens) > 1:
                rows.append(np.array(sequence.score(tokens[:-1]), np.float64))
            hidden = np.empty(0)
            if state:
                sequence.extend(tokens[-1:])
                hidden = _state(sequence)
        logprobs, entropy = surety(np.concatenate(rows))
        chosen = logprobs[np.arange(len(tokens)), tokens]
        belief = Belief(float(chosen.mean()), float(entropy.mean()), float(np.exp(chosen.min())), len(tokens))
        return belief, hidden

    @contextmanager
    def _sequence(self) -> Iterator[TokenSequence]:
        sequence = self.engine.model.new_sequence()
        try:
            yield sequence
        finally:
            sequence.close()


def _state(sequence: TokenSequence) -> npt.NDArray[np.float64]:
    hidden = sequence.hidden if isinstance(sequence, StatedSequence) else None
    return np.array([] if hidden is None else hidden, np.float64).reshape(-1)


def surety(
    logits: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Log-probabilities (..., V) of logits (..., V), and the entropy (...) of each row, in nats."""
    logprobs = logits - logits.max(axis=-1, keepdims=True)
    logprobs -= np.log(np.exp(logprobs).sum(axis=-1, keepdims=True))
    return logprobs, -(np.exp(logprobs) * logprobs).sum(axis=-1)


COARSE = "Answer the question in one short sentence."
"""What the model is told for its own first answer."""
