"""Does the model know the answer? Judges that need no training; those of the paper's baselines.

Paper: SlimPLM ("Small Models, Big Insights"), whose judge says Known(True) or Known(False) of a question and
the proxy's own first answer; FLARE ("Active Retrieval Augmented Generation"), which searches where a token is
unlikely; 2501.12835, whose mean entropy and log-probability match trained judges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edgesdk.errors import CapacityError
from edgesdk.retrieval.gate_desk import GateDesk
from edgesdk.retrieval.sourced_answer import GateName

THRESHOLDS: dict[GateName, float] = {"logprob": -0.45, "entropy": 0.9, "ask": 0.5, "flare": 0.2}
"""From where on a model is taken to know."""

_EXAMPLES = (
    ("What is two plus two?", "Two plus two is four.", True),
    ("Who lives in the third house of our street?", "A doctor lives there.", False),
    ("What is the capital of France?", "The capital of France is Paris.", True),
    ("When did the boiler in our cellar break?", "It broke in 1999.", False),
)


@dataclass(frozen=True)
class Judgement:
    """What a judge says.

    Attributes:
        known: whether the model knows; None where the judge could not tell, which means search.
        score: larger where the model is surer; None without a figure.
        why: in words.
    """

    known: bool | None
    score: float | None
    why: str


class Judge(Protocol):
    """Says whether a model knows."""

    @property
    def needs_answer(self) -> bool:
        """Whether the model must first answer by itself."""
        ...

    def judge(self, desk: GateDesk, question: str, answer: str, tokens: Sequence[int]) -> Judgement:
        """Judges an answer to a question: the model's own, or a claim to a query of its own.

        Args:
            desk: of the model that is judged.
            question: what is asked.
            answer: what is said.
            tokens: its ids; may be empty.
        """
        ...


@dataclass(frozen=True)
class Fixed:
    """Says the same of everything: `always` searches, `never` does not."""

    known: bool
    needs_answer: bool = False

    def judge(self, desk: GateDesk, question: str, answer: str, tokens: Sequence[int]) -> Judgement:
        """The same as ever."""
        return Judgement(self.known, None, "never searches" if self.known else "always searches")


@dataclass(frozen=True)
class BeliefJudge:
    """Judges by how sure the model is of the answer's tokens.

    Attributes:
        gate: which figure.
        threshold: from where on it knows.
    """

    gate: GateName
    threshold: float
    needs_answer: bool = True

    def judge(self, desk: GateDesk, question: str, answer: str, tokens: Sequence[int]) -> Judgement:
        """Runs question and answer once."""
        if not tokens:
            return Judgement(None, None, "there is no answer to judge")
        try:
            belief = desk.belief(question, tokens)
        except CapacityError:
            return Judgement(None, None, "question and answer are too long to judge")
        if self.gate == "entropy":
            score, limit, what = -belief.mean_entropy, -self.threshold, "mean entropy"
            shown, bound = belief.mean_entropy, f"at most {self.threshold:.2f}"
        else:
            score = belief.mean_logprob if self.gate == "logprob" else belief.least
            what = "mean log-probability" if self.gate == "logprob" else "least probability"
            limit, shown, bound = self.threshold, score, f"at least {self.threshold:.2f}"
        return Judgement(score >= limit, score, f"{what} {shown:.2f}, known from {bound}")


@dataclass(frozen=True)
class AskJudge:
    """Asks the model itself, with four examples: the share of True against False, as its next token.

    Attributes:
        threshold: least share.
    """

    threshold: float
    needs_answer: bool = True

    def judge(self, desk: GateDesk, question: str, answer: str, tokens: Sequence[int]) -> Judgement:
        """Runs one prompt; the two words' likelihoods are compared, so it always says one of them."""
        lines = [
            f"Question: {asked}\nAnswer: {said}\nKnown({known})"
            for asked, said, known in (*_EXAMPLES, (question, answer, ""))
        ]
        text = "Is the answer known for certain? Known(True) or Known(False).\n\n" + "\n\n".join(lines)
        model = desk.engine.model
        try:
            ids = model.render_prompt(text.removesuffix(")"), raw=True)
            logits, _ = desk.run(ids)
        except CapacityError:
            return Judgement(None, None, "question and answer are too long to judge")
        # The text stands as it is, without the chat template, so that its next token is the word.
        first = [model.tokenizer.encode(word, add_bos=False)[0] for word in ("True", "False")]
        if first[0] == first[1]:
            return Judgement(None, None, "True and False begin with the same token")
        share = float(1 / (1 + np.exp(logits[first[1]] - logits[first[0]])))
        return Judgement(share >= self.threshold, share, f"says True by {share:.2f}")


def judge_of(gate: GateName, threshold: float | None) -> Judge:
    """The judge of a gate that needs no training.

    Args:
        gate: its name.
        threshold: from where on the model knows; None for the gate's own.
    """
    if gate in ("always", "never"):
        return Fixed(gate == "never")
    limit = THRESHOLDS[gate] if threshold is None else threshold
    return AskJudge(limit) if gate == "ask" else BeliefJudge(gate, limit)
