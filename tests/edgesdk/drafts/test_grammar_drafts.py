"""Guesses by a grammar: over a grammar that is a table, and over real ones."""

from dataclasses import replace

import pytest

from edgesdk.drafts.grammar_drafts import GrammarDrafts
from edgesdk.errors import UnsupportedOption


class Table:
    """A grammar: what text is due after so many tokens, how it is spelled, and what each token forces."""

    def __init__(self, due, spelled, forced=None, refused=(), at=0):
        self.due, self.spelled, self.forced, self.refused, self.at = due, spelled, forced or {}, refused, at

    def next_text(self):
        return self.due.get(self.at, b"")

    def spell(self, text):
        return self.spelled.get(text)

    def take(self, token):
        if token in self.refused:
            return None
        forced = self.forced.get(token, ())
        self.at += 1 + len(forced)
        return forced


@pytest.fixture
def propose(ask):
    def make(source, tokens, table, key=1, **limits):
        (found,) = source.guess([replace(ask(tokens, key=key, **limits), grammar=lambda: table)])
        return found

    return make


def test_a_text_is_guessed_in_its_usual_spelling_with_what_it_forces(propose):
    table = Table({0: b' "', 4: b"}"}, {b' "': 7, b"}": 9}, {7: (1, 2, 3)})
    found = propose(GrammarDrafts(), [5, 6], table)
    assert found.tokens == (7, 1, 2, 3, 9)
    assert found.parents == (-1, 0, 1, 2, 3)
    assert found.kinds == (0, 2, 2, 2, 0)


def test_no_more_is_guessed_than_asked_for(propose):
    table = {0: b"a", 3: b"b"}
    assert propose(GrammarDrafts(), [5], Table(table, {b"a": 7}, {7: (1, 2)}), deepest=2).tokens == (7, 1)
    assert propose(GrammarDrafts(), [5], Table(table, {b"a": 7}, {7: (1, 2)}), most=1).tokens == (7,)


def test_what_came_before_is_guessed_again(propose):
    source = GrammarDrafts()
    assert propose(source, [5], Table({0: b"}"}, {b"}": 7})).tokens == (7,)
    # Another token came, which the grammar allows as well.
    found = propose(source, [5, 8], Table({0: b"}"}, {b"}": 7}))
    assert (found.tokens, found.kinds) == ((8,), (1,))
    assert propose(source, [1, 2], Table({0: b"}"}, {b"}": 7}), key=2).tokens == (8,)
    # Where it may not come, nothing is guessed.
    assert propose(source, [1, 2], Table({0: b"}"}, {b"}": 7}, refused=(8,)), key=3) is None
    assert source.nbytes > 0
    source.close()
    assert propose(source, [5], Table({0: b"}"}, {b"}": 7})).tokens == (7,)


def test_only_what_came_after_a_right_guess_is_learned(propose):
    source = GrammarDrafts()
    chain = {0: b"a", 2: b"b"}
    assert propose(source, [5], Table(chain, {b"a": 7, b"b": 8}, {7: (1,)})).tokens == (7, 1, 8)
    # The guess went wrong before `b` was due: nothing is known of it.
    propose(source, [5, 9, 9, 9], Table({}, {}))
    assert propose(source, [5], Table({0: b"b"}, {b"b": 8}), key=2).kinds == (0,)
    source.forget(2)
    assert propose(source, [5], Table(chain, {b"a": 7, b"b": 8}, {7: (1,), 9: (1,)}), key=3).tokens == (
        9,
        1,
        8,
    )
    propose(source, [5, 9, 1, 4], Table({}, {}), key=3)
    assert propose(source, [5], Table({0: b"b"}, {b"b": 8}), key=4).tokens == (4,)


def test_free_answers_get_nothing(propose, ask):
    source = GrammarDrafts()
    assert source.guess([ask([1, 2])]) == [None]
    assert source.guess([replace(ask([1, 2]), grammar=lambda: None)]) == [None]
    assert propose(source, [1], Table({}, {})) is None
    assert propose(source, [1], Table({0: b"x"}, {})) is None


def test_a_grammar_that_cannot_go_on_is_left_to_the_choice(propose, ask):
    def fail():
        raise UnsupportedOption("the grammar cannot go on")

    assert GrammarDrafts().guess([replace(ask([1, 2]), grammar=fail)]) == [None]
    table = Table({0: b"x"}, {b"x": 1})
    table.take = lambda token: fail()
    assert propose(GrammarDrafts(), [1], table) is None
