import numpy as np
import pytest

from edgesdk.drafts.guess import Guess
from edgesdk.drafts.kept_rates import KeptRates

CHAIN = Guess((5, 6, 7), (-1, 0, 1), (0, 1, 1))
TREE = Guess((5, 6, 8), (-1, 0, -1), (0, 1, 2))


def ints(*tokens):
    return np.array(tokens, np.int32)


def seen(rates, guess, *tokens, key=1):
    rates.expect(key, guess, 1)
    rates.compare(key, ints(9, *tokens))


def test_before_anything_is_known_the_source_is_believed():
    rates = KeptRates((0.5, 0.25))
    assert rates.rate(1, 0) == 0.5
    assert rates.reach(1, CHAIN) == pytest.approx([0.5, 0.125, 0.03125])


def test_a_branch_counts_where_those_before_it_were_wrong():
    rates = KeptRates((0.5, 0.25, 0.4))
    assert rates.reach(1, TREE) == pytest.approx([0.5, 0.125, 0.5 * 0.4])


def test_what_came_raises_and_lowers_rates():
    rates = KeptRates((0.5, 0.5, 0.5))
    for _ in range(30):
        seen(rates, TREE, 8, 1)  # never the first, always the second branch
    assert rates.rate(1, 0) < 0.05
    assert rates.rate(1, 2) > 0.95
    assert rates.rate(1, 1) == 0.5  # nobody knows: its predecessor was never right


def test_tokens_may_come_one_by_one():
    at_once, one_by_one = KeptRates((0.5, 0.5)), KeptRates((0.5, 0.5))
    for _ in range(5):
        seen(at_once, CHAIN, 5, 6, 1)
        one_by_one.expect(1, CHAIN, 1)
        text = [9, 5, 6, 1]
        for end in range(1, len(text) + 1):
            one_by_one.expect(1, Guess((99,), (-1,), (0,)), end)  # the first guess is still open
            one_by_one.compare(1, ints(*text[:end]))
    assert [at_once.rate(1, kind) for kind in (0, 1)] == [one_by_one.rate(1, kind) for kind in (0, 1)]


def test_a_guess_that_is_right_to_its_end_is_over():
    rates = KeptRates((0.5, 0.5))
    seen(rates, Guess((5,), (-1,), (0,)), 5)
    before = rates.rate(1, 0)
    rates.compare(1, ints(9, 5, 5, 5))
    assert rates.rate(1, 0) == before > 0.5


def test_answers_have_rates_of_their_own():
    rates = KeptRates((0.5,))
    one = Guess((5,), (-1,), (0,))
    for _ in range(20):
        seen(rates, one, 5, key=1)
        seen(rates, one, 6, key=2)
    assert rates.rate(1, 0) > 0.8
    assert rates.rate(2, 0) < 0.2
    assert 0.4 < rates.rate(3, 0) < 0.6
    rates.forget(1)
    assert rates.rate(1, 0) == rates.rate(3, 0)


def test_what_was_long_ago_fades():
    rates = KeptRates((0.5,))
    one = Guess((5,), (-1,), (0,))
    for _ in range(200):
        seen(rates, one, 6)
    for _ in range(100):
        seen(rates, one, 5)
    assert rates.overall > 0.8
    assert rates.rate(7, 0) > 0.8
