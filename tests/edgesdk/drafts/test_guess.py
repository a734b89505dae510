import numpy as np
import pytest

from edgesdk.decoding.draft import Chances
from edgesdk.drafts.guess import Guess

TREE = Guess((5, 6, 7, 8, 9), (-1, 0, -1, 1, 2), (0, 1, 2, 3, 4))


def test_a_guess_is_a_draft():
    draft = TREE.draft()
    assert draft.tokens.tolist() == [5, 6, 7, 8, 9]
    assert draft.parents.tolist() == [-1, 0, -1, 1, 2]
    assert draft.tokens.dtype == draft.parents.dtype == np.int32
    assert draft.chances is None


@pytest.mark.parametrize(
    ("rows", "tokens", "parents"),
    [
        ([0], (5,), (-1,)),
        ([0, 2], (5, 7), (-1, -1)),
        ([2, 4], (7, 9), (-1, 0)),
        ([0, 1, 2, 4], (5, 6, 7, 9), (-1, 0, -1, 2)),
        ([0, 1, 2, 3, 4], TREE.tokens, TREE.parents),
    ],
)
def test_a_part_keeps_who_follows_whom(rows, tokens, parents):
    part = TREE.part(rows)
    assert (part.tokens, part.parents) == (tokens, parents)
    assert part.kinds == tuple(rows)


def test_a_part_keeps_its_distributions():
    drawn = tuple(Chances(np.array([token], np.int32), np.array([1.0])) for token in (5, 6))
    guess = Guess((5, 6), (-1, 0), (0, 0), drawn)
    assert guess.part([0]).draft().chances == drawn[:1]
