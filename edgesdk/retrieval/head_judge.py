"""A trained judge: a logistic head on how sure the model is of an answer, and on what it holds after it.

The hidden state is the one that the model's head reads after question and answer, where its bundle gives it
(`convert --hidden-states`). Without one the head has the figures of belief alone. A judge may also read the
question alone: figures of the first token that the model would say, and the state before it.

Paper: SlimPLM trains its judge as a model of its own; a head on the proxy's state costs one run of the proxy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgesdk.errors import CapacityError, RetrievalError
from edgesdk.model import Model
from edgesdk.retrieval.gate_desk import COARSE, GateDesk, surety
from edgesdk.retrieval.judge_file import JudgeFile
from edgesdk.retrieval.judges import Judgement

BELIEFS = 4
"""Features before the hidden state: mean log-probability, mean entropy, log of the least probability, and log
of the number of tokens. Of a question alone, of what the model would say first: log-probability of the
likeliest token, entropy, log-probability of the second, and log of the number of tokens of the prompt."""


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
    belief, hidden = desk.belief_and_state(question, tokens)
    figures = [
        belief.mean_logprob,
        belief.mean_entropy,
        math.log(max(belief.least, 1e-9)),
        math.log(belief.tokens),
    ]
    return np.concatenate([figures, hidden])


def question_features(desk: GateDesk, question: str) -> npt.NDArray[np.float64]:
    """(4,) or (4 + E,) features of a question, without any answer to it.

    Args:
        desk: of the model that is judged.
        question: what is asked.

    Raises:
        CapacityError: it does not fit the context.
    """
    prompt = desk.writer.write(COARSE, f"Question: {question}").ids
    logits, hidden = desk.run(prompt)
    logprobs, entropy = surety(logits)
    second, best = np.partition(logprobs, -2)[-2:]
    return np.concatenate([[best, entropy, max(second, math.log(1e-9)), math.log(len(prompt))], hidden])


@dataclass(frozen=True)
class HeadJudge:
    """Judges by a trained head.

    Attributes:
        head: its numbers.
        threshold: least probability.
    """

    head: JudgeFile
    threshold: float

    @property
    def needs_answer(self) -> bool:
        """Whether it judges by what the model says."""
        return self.head.reads == "answer"

    def judge(self, desk: GateDesk, question: str, answer: str, tokens: Sequence[int]) -> Judgement:
        """Runs question and answer.

        Raises:
            RetrievalError: the head is another model's.
        """
        if self.needs_answer and not tokens:
            return Judgement(None, None, "there is no answer to judge")
        try:
            features = (
                judge_features(desk, question, tokens)
                if self.needs_answer
                else question_features(desk, question)
            )
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
