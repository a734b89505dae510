import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesdk.drafts.suffix_index import BORDER, LONGEST_MATCH, SHORTEST_MATCH, SuffixIndex


def ints(*tokens):
    return np.array(tokens, np.int32)


def longest_by_hand(text, end):
    """For each earlier place of a text, how many tokens before it equal those before `end`."""
    found = {}
    for place in range(1, end):
        length = 0
        while length < min(place, LONGEST_MATCH) and text[place - 1 - length] == text[end - 1 - length]:
            length += 1
        if length >= SHORTEST_MATCH:
            found[place] = length
    return found


def build(text, cuts=()):
    index = SuffixIndex()
    for piece in np.split(text, sorted(cuts)):
        index.add(piece)
    return index


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_it_finds_what_a_search_by_hand_finds(data):
    # Few enough repetitions that no chain is cut off.
    alphabet = data.draw(st.integers(8, 30))
    text = np.array(data.draw(st.lists(st.integers(0, alphabet), min_size=1, max_size=60)), np.int32)
    block = text[: data.draw(st.integers(0, len(text)))]
    text = np.concatenate([text, block])
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=4))
    found = build(text, cuts).find(text, 1000)
    by_hand = longest_by_hand(text.tolist(), len(text))
    assert all(by_hand.get(match.place) == match.length for match in found)
    order = [(-match.length, -match.place) for match in found]
    assert order == sorted(order)
    if by_hand:
        assert found[0].length == max(by_hand.values())


def test_the_newest_of_equal_matches_comes_first():
    text = ints(1, 2, 3, 1, 2, 4, 1, 2)
    assert [match.place for match in build(text).find(text, 9)] == [5, 2]


def test_its_own_end_is_no_match():
    text = ints(1, 2, 3)
    assert build(text).find(text, 9) == []
    assert [match.place for match in build(text).find(ints(9, 1, 2), 9)] == [2]


@pytest.mark.parametrize("length", [0, 1])
def test_texts_too_short_to_match_find_nothing(length):
    assert build(ints(1, 1, 1)).find(ints(*[1] * length), 9) == []


def test_a_long_match_is_found_behind_many_short_ones():
    rare = ints(*range(100, 110))
    frequent = np.tile(ints(108, 109, 7), 100)  # its last two tokens, far more often than a chain is long
    text = np.concatenate([rare, ints(55), frequent, rare])
    (best, *_) = build(text).find(text, 4)
    assert best.length == 10
    assert text[best.place] == 55


def test_no_match_and_no_continuation_crosses_a_border():
    index = build(ints(1, 2, BORDER, 3, 4))
    assert index.find(ints(2, 3), 9) == []
    (match,) = index.find(ints(1, 2), 9)
    assert index.tokens[match.place] == BORDER


def test_the_older_half_is_forgotten():
    index = SuffixIndex(64)
    rng = np.random.default_rng(0)
    for _ in range(50):
        index.add(rng.integers(0, 1000, 10).astype(np.int32))
        assert len(index) <= 64
    index.add(ints(*range(2000, 2030)))
    (match,) = index.find(ints(2003, 2004, 2005), 1)
    assert index.tokens[match.place] == 2006
    assert index.nbytes < 64 * 600
    index.add(ints(*range(3000, 3200)))  # longer than it may be
    assert index.tokens.tolist() == list(range(3136, 3200))
