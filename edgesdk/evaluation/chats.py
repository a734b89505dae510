"""Chat agreement: of a few questions, how many a model answers as the float32 reference does, token by token.

What a user sees of a quantised model is its answers, and those hang on near-ties that KL divergence and
top-1 agreement on prose hardly show. Greedy answers are compared without generating any: one pass over
question and reference's answer finds the first token at which the model would have chosen otherwise,
because up to there both texts are the same. (Int8 activations may round otherwise with other tokens in a
step, so that a single answer may be counted otherwise than it is generated; the share is the same.)

It does not know the questions, nor where the answers come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.protocol import TokenSequence
from edgesdk.bundle.manifest import ChatAgreement
from edgesdk.model import Model

Text = NDArray[np.int32]

PIECE_TOKENS = 8
"""Tokens of an answer that are looked at together: what follows the first other choice need not be run."""


@dataclass(frozen=True)
class Chats:
    """Questions with the reference's greedy answers.

    Attributes:
        questions: (n,) int32 token ids each, as the model's template puts them.
        answers: (n,) int32 each; one that is shorter than the others ends with an end token.
    """

    questions: tuple[Text, ...]
    answers: tuple[Text, ...]


def check_chats(model: Model, chats: Chats) -> ChatAgreement | None:
    """Counts the questions that a model answers as the reference does.

    Args:
        model: loaded.
        chats: from the model's bundle.

    Returns:
        The counts, of the questions that fit the model's context; None if none does.

    Raises:
        DeviceError: the backend fails.
    """
    fitting = [
        (question, answer)
        for question, answer in zip(chats.questions, chats.answers, strict=True)
        if len(question) + len(answer) <= model.full_context
    ]
    if not fitting:
        return None
    sequence = model.new_sequence()
    try:
        equal = sum(
            same_tokens(sequence, question, answer, held) == len(answer)
            for (question, answer), held in zip(fitting, _held([q for q, _ in fitting]), strict=True)
        )
    finally:
        sequence.close()
    longest = max(len(answer) for _, answer in fitting)
    return ChatAgreement(questions=len(fitting), tokens=longest, equal=equal)


def same_tokens(sequence: TokenSequence, question: Text, answer: Text, held: int = 0) -> int:
    """How many tokens of an answer a model would have chosen itself before its first other choice.

    Args:
        sequence: holds the first `held` tokens of the question; tokens after these are forgotten.
        question: (n,) int32.
        answer: (m,) int32.
        held: less than n.
    """
    sequence.truncate(held)
    if int(sequence.extend(question[held:]).argmax()) != answer[0]:
        return 0
    for start in range(0, len(answer) - 1, PIECE_TOKENS):
        piece = answer[start : min(start + PIECE_TOKENS, len(answer) - 1)]
        chosen = sequence.score(piece).argmax(-1)
        other = np.flatnonzero(chosen != answer[start + 1 : start + 1 + len(piece)])
        if len(other):
            return start + 1 + int(other[0])
    return len(answer)


def _held(questions: list[Text]) -> list[int]:
    """For each question, how many of its first tokens are also the one's before; its last never counts."""
    held = [0]
    for before, question in pairwise(questions):
        most = min(len(before), len(question) - 1)
        other = np.flatnonzero(before[:most] != question[:most])
        held.append(int(other[0]) if len(other) else most)
    return held
