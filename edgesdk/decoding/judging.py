"""Has a sequence run drafts: as a tree where its backend can, else as a chain that is scored and shortened.

A backend with a cache of its own has one row after the other, so of a tree it gets the first path. It knows
nothing of how drafts come about or are accepted.
"""

from __future__ import annotations

import numpy as np

from edgesdk.backends.protocol import Int, JudgingSequence, TokenSequence, Walk
from edgesdk.decoding.draft import Draft

MOST_CHAINED = 15
"""Drafts of a chain that is scored."""


class ChainJudge:
    """Judges chains on any `TokenSequence`: it scores them, then forgets from the first wrong one on."""

    def __init__(self, sequence: TokenSequence) -> None:
        """Uses a sequence."""
        self._sequence = sequence

    def most_drafts(self, tokens: int) -> int:
        """Most drafted tokens that a step judges beside so many others."""
        return MOST_CHAINED

    def judge(self, tokens: Int, draft: Draft, walk: Walk) -> None:
        """Appends tokens, and those of a chain that `walk` keeps; as `JudgingSequence.judge`."""
        sequence = self._sequence
        length = sequence.length + len(tokens)
        rows = sequence.score(np.concatenate([tokens, draft.tokens]))
        kept = 0
        try:
            kept = len(walk(rows[len(tokens) - 1 :]))
        finally:
            sequence.truncate(length + kept)

    def fit(self, draft: Draft) -> Draft:
        """What of a draft it can judge: the first path."""
        return first_path(draft)


class TreeJudge:
    """Judges trees on a sequence that can."""

    def __init__(self, sequence: JudgingSequence) -> None:
        """Uses a sequence."""
        self._sequence = sequence

    def most_drafts(self, tokens: int) -> int:
        """Most drafted tokens that a step judges beside so many others."""
        return self._sequence.most_drafts(tokens)

    def judge(self, tokens: Int, draft: Draft, walk: Walk) -> None:
        """Appends tokens, and those of a tree that `walk` keeps; as `JudgingSequence.judge`."""
        self._sequence.judge(tokens, draft.tokens, draft.parents, walk, draft.streams)

    def fit(self, draft: Draft) -> Draft:
        """What of a draft it can judge: all."""
        return draft


def judge_of(sequence: TokenSequence) -> ChainJudge | TreeJudge:
    """What judges drafts on a sequence."""
    return TreeJudge(sequence) if isinstance(sequence, JudgingSequence) else ChainJudge(sequence)


def first_path(draft: Draft) -> Draft:
    """The tokens of a draft that follow one another, always the first that does."""
    keeps = []
    at = -1
    streams = [0] * len(draft.tokens) if draft.streams is None else draft.streams.tolist()
    for row, parent in enumerate(draft.parents.tolist()):
        keeps.append(parent == at and not streams[row])
        at = row if keeps[-1] else at
    return draft.pick(keeps) or draft
