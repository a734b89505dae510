"""Ranks passages by what a decoder says when it is asked of each whether it answers a query: yes or no.

The score is the chance of `yes` against `no` as the next token, as in Qwen3-Reranker (Zhang et al., Qwen3
Embedding, section 2), whose words are the default instruction. What all prompts begin with is run once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgesdk.backends.protocol import Int
from edgesdk.errors import DeviceError, UnsupportedOption, quoted
from edgesdk.kv.step_runner import StepRunner
from edgesdk.text.tokenizer import Tokenizer
from edgesdk.vectors.run_shared import run_shared

SYSTEM = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".'
)
INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"


@dataclass(frozen=True)
class RankedPassage:
    """A passage with how well it answers.

    Attributes:
        index: its place among those that were given.
        score: from 0 to 1.
    """

    index: int
    score: float


def question(query: str, passage: str, instruction: str) -> str:
    """What a model is asked about one passage."""
    return f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {passage}"


def word_token(tokenizer: Tokenizer, word: str) -> int:
    """The token that begins a word as an answer.

    Raises:
        UnsupportedOption: there is none.
    """
    ids = tokenizer.encode(word, add_bos=False)
    if not ids:
        raise UnsupportedOption(f"the word {quoted(word)} has no tokens, expected a word to answer with")
    return ids[0]


def rank_prompts(runner: StepRunner, prompts: Sequence[Int], yes: int, no: int) -> list[RankedPassage]:
    """Ranks prompts by the chance of one token against another after each.

    Args:
        runner: that nobody else uses meanwhile.
        prompts: token ids, (n,) int32 each.
        yes: token whose chance is the score.
        no: the other one.

    Returns:
        All of them, the best first.

    Raises:
        CapacityError: one does not fit the context.
        DeviceError: the backend failed, or one of the two logits is NaN or infinity.
    """
    scores = np.zeros(len(prompts))
    for given in run_shared(runner, prompts):
        pair = given.rows[-1][[yes, no]].astype(np.float64)
        if not np.isfinite(pair).all():
            raise DeviceError("the backend returned logits that are not finite numbers; try another backend")
        scores[given.place] = pair[0] - pair[1]
    chances = 1 / (1 + np.exp(-np.clip(scores, -700, 700)))
    order = np.argsort(-scores, kind="stable")
    return [RankedPassage(int(index), float(chances[index])) for index in order]
