"""A trained judge: a logistic head on how sure the model is of an answer, and on what it holds after it.

The hidden state is the one that the model's head reads after question and answer, where its bundle gives it
(`convert --hidden-states`). Without one the head has the figures of belief alone.

Paper: SlimPLM trains its judge as a model of its own; a head on the proxy's state costs one run of the proxy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgesdk.backends.protocol import StatedSequence
from edgesdk.errors import CapacityError, RetrievalError
from edgesdk.model import Model
from edgesdk.retrieval.gate_desk import COARSE, GateDesk
from edgesdk.retrieval.judge_file import JudgeFile
from edgesdk.retrieval.judges import Judgement

BELIEFS = 4
"""Features before the hidden state: mean log-probability, mean entropy, log of the least probability, and log
of the number of tokens."""


def model_numbers(model: Model) -> str:
    """Digest of the weights of the variant that runs."""
    return model.bundle.variant(model.receipt.variant).numbers


def judge_features(desk: GateDesk, question: str, tokens: Sequence[int]) -> npt.NDArray[np.float64]:
    """(4,) or (4 + E,) features of an answer to a question.

    Args:
        desk: of the model that is judged.
        question: what is asked.
        tokens: (n,) ids of the answer, at least one.

    Raises:
        CapacityError: they do not fit the context.
    """
    belief = desk.belief(question, tokens)
    figures = [
        belief.mean_logprob,
        belief.mean_entropy,
        math.log(max(belief.least, 1e-9)),
        math.log(belief.tokens),
    ]
    hidden = _hidden(desk, question, tokens)
    return np.concatenate([figures, hidden]) if hidden is not None else np.array(figures)


def _hidden(desk: GateDesk, question: str, tokens: Sequence[int]) -> npt.NDArray[np.float64] | None:
    model = desk.engine.model
    prompt = desk.writer.write(COARSE, f"Question: {question}").ids
    sequence = model.new_sequence()
    try:
        if not isinstance(sequence, StatedSequence):
            return None
        sequence.extend(np.asarray([*prompt, *tokens], np.int32))
        state = sequence.hidden
        return None if state is None else np.array(state, np.float64).reshape(-1)
    finally:
        sequence.close()


@dataclass(frozen=True)
class HeadJudge:
    """Judges by a trained head.

    Attributes:
        head: its numbers.
        threshold: least probability.
    """

    head: JudgeFile
    threshold: float
    needs_answer: bool = True

    def judge(self, desk: GateDesk, question: str, answer: str, tokens: Sequence[int]) -> Judgement:
        """Runs question and answer.

        Raises:
            RetrievalError: the head is another model's.
        """
        if not tokens:
            return Judgement(None, None, "there is no answer to judge")
        try:
            features = judge_features(desk, question, tokens)
        except CapacityError:
            return Judgement(None, None, "question and answer are too long to judge")
        if len(features) != len(self.head.weights):
            raise RetrievalError(
                f"the judge has {len(self.head.weights)} features, this model gives {len(features)}; "
                "convert it with --hidden-states as before, or train the judge again"
            )
        chance = chance_known(self.head, features)
        return Judgement(
            chance >= self.threshold, chance, f"known by {chance:.2f}, from {self.threshold:.2f} on"
        )


def chance_known(head: JudgeFile, features: npt.NDArray[np.float64]) -> float:
    """Probability that the model knows, by the head."""
    centred = (features - np.array(head.mean)) / np.array(head.scale)
    return float(1 / (1 + np.exp(-np.clip(centred @ np.array(head.weights) + head.bias, -60, 60))))


def check_judge(head: JudgeFile, model: Model) -> None:
    """Refuses a judge of another model.

    Raises:
        RetrievalError: it was made for other weights.
    """
    if head.numbers != model_numbers(model):
        raise RetrievalError(
            f"the judge was made for other weights than those of {model.bundle.manifest.name}; "
            "train one for this bundle with: edgesdk train judge"
        )
