import numpy as np
import pytest

from edgesdk.drafts.lookup import Lookup
from edgesdk.drafts.suffix_index import LONGEST_MATCH


def paths(guess):
    """Every path of a guess from the root to a leaf."""
    found = []
    for row in range(len(guess.tokens)):
        if row not in guess.parents:
            path, at = [], row
            while at >= 0:
                path.append(guess.tokens[at])
                at = guess.parents[at]
            found.append(path[::-1])
    return found


def test_what_followed_before_is_guessed(ask):
    (guess,) = Lookup().guess([ask([1, 2, 3, 4, 5, 6, 1, 2, 3], most=3)])
    assert paths(guess) == [[4, 5, 6]]


def test_nothing_that_matches_gives_no_guess(ask):
    assert Lookup().guess([ask(range(20)), ask([7], key=2)]) == [None, None]


def test_the_longest_match_comes_first(ask):
    text = [1, 2, 3, 70, 71, 9, 2, 3, 80, 81, 1, 2, 3]
    (guess,) = Lookup(branches=1).guess([ask(text, most=2)])
    assert paths(guess) == [[70, 71]]


def test_places_that_go_on_differently_make_a_tree(ask):
    text = [1, 2, 3, 70, 71, 9, 1, 2, 3, 70, 75, 9, 1, 2, 3]
    (guess,) = Lookup().guess([ask(text, most=6, deepest=2)])
    assert sorted(paths(guess)) == [[70, 71], [70, 75]]
    (chain,) = Lookup(branches=1).guess([ask(text, most=6, deepest=2)])
    assert paths(chain) == [[70, 75]]


@pytest.mark.parametrize(("most", "deepest"), [(1, 1), (1, 8), (3, 8), (8, 3), (5, 2), (8, 40)])
def test_it_keeps_to_what_it_may(ask, most, deepest):
    rng = np.random.default_rng(1)
    text = np.tile(rng.integers(0, 4, 60), 3)
    (guess,) = Lookup().guess([ask(text, most=most, deepest=deepest)])
    assert len(guess.tokens) <= most
    assert max(map(len, paths(guess))) <= deepest
    guess.draft()  # which refuses what is no tree


def test_a_text_that_repeats_itself_goes_on(ask):
    (guess,) = Lookup(branches=1).guess([ask([9, 5, 6, 5, 6], most=7)])
    assert paths(guess) == [[5, 6, 5, 6, 5, 6, 5]]


def test_a_guess_is_a_function_of_the_tokens(ask):
    rng = np.random.default_rng(2)
    text = rng.integers(0, 6, 200)
    grown = Lookup()
    for end in range(2, 200, 7):
        (mine,) = grown.guess([ask(text[:end])])
        (anew,) = Lookup().guess([ask(text[:end])])
        assert (mine is None) == (anew is None)
        if mine is not None:
            assert (mine.tokens, mine.parents, mine.kinds) == (anew.tokens, anew.parents, anew.kinds)


def test_an_answer_that_was_shortened_is_read_anew(ask):
    lookup = Lookup()
    lookup.guess([ask([1, 2, 3, 4, 1, 2, 3])])
    (guess,) = lookup.guess([ask([5, 6, 7, 5, 6], most=1)])
    assert guess.tokens == (7,)


def test_given_texts_are_looked_up(ask):
    lookup = Lookup([np.arange(100, 120), np.arange(300, 310)])
    (guess,) = lookup.guess([ask([1, 305, 306])])
    assert paths(guess) == [[307, 308, 309]]  # and no further than its text
    lookup.forget(1)
    (guess,) = lookup.guess([ask([1, 101, 102], key=2, most=2)])
    assert paths(guess) == [[103, 104]]


@pytest.mark.parametrize("remember", [True, False])
def test_answers_that_ended_are_remembered_unless_told_otherwise(ask, remember):
    lookup = Lookup(remember=remember)
    lookup.guess([ask([50, 51, 52, 1, 2, 3, 4], prompt=3)])
    lookup.forget(1)
    (guess,) = lookup.guess([ask([9, 2, 3], key=2)])
    assert (guess is not None) == remember
    # The prompt is somebody's own: it is not.
    assert lookup.guess([ask([50, 51], key=3)]) == [None]


def test_one_text_does_not_see_another(ask):
    lookup = Lookup()
    found = lookup.guess([ask([1, 2, 3, 1, 2], key=1), ask([1, 2], key=2)])
    assert found[0] is not None
    assert found[1] is None


def test_longer_matches_and_later_branches_are_of_other_kinds(ask):
    lookup = Lookup()
    (short,) = lookup.guess([ask([7, 1, 2, 3, 9, 1, 2], most=1)])
    (long,) = lookup.guess([ask([*range(20), *range(19)], key=2, most=1)])
    assert lookup.priors[short.kinds[0]] < lookup.priors[long.kinds[0]]
    (tree,) = lookup.guess([ask([1, 2, 3, 9, 1, 2, 4, 9, 1, 2], key=3, most=4, deepest=1)])
    first, second = (lookup.priors[kind] for kind in tree.kinds)
    assert second < first
    elsewhere = Lookup([np.arange(20)])
    (found,) = elsewhere.guess([ask([3, 4], most=1)])
    assert found.kinds[0] >= len(lookup.priors) // 2


def test_the_longest_match_has_a_kind(ask):
    text = [*range(60), *range(40)]
    (guess,) = Lookup().guess([ask(text, most=40, deepest=LONGEST_MATCH + 8)])
    assert guess.tokens[:3] == (40, 41, 42)


def test_close_forgets_everything(ask):
    lookup = Lookup([np.arange(100, 120)])
    lookup.guess([ask([1, 2, 3, 1, 2], prompt=1)])
    assert lookup.nbytes > 0
    lookup.forget(1)
    lookup.close()
    lookup.close()
    assert lookup.guess([ask([1, 2], key=2), ask([101, 102], key=3)]) == [None, None]
