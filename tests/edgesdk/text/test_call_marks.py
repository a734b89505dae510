"""Marks that begin calls, and marks in sentences."""

import pytest

from edgesdk.text.call_marks import next_mark

CALL = '<c>{"name": "f"}</c>'
SPOKEN = ["`<c>`", '"<c>", and', "<c>.", "Between <c> and </c> it stands", "the <c> tag"]
BEGUN = [CALL, "<c>\n{", "<c>", "<c> {", "<c>f(", "<c> f(x)</c>", '<c> f\n{"a": 1}</c>', "<c>\nf\n</c>"]


@pytest.mark.parametrize("text", SPOKEN)
def test_a_mark_in_a_sentence_begins_no_call(text):
    assert next_mark(text, "<c>", "</c>") == -1
    assert next_mark(f"{text} {CALL}", "<c>", "</c>") == len(text) + 1
    assert next_mark(f"{text}\nThus:\n{CALL} {text}", "<c>", "</c>") == len(text) + 7


@pytest.mark.parametrize("text", BEGUN)
def test_what_may_be_a_call_is_one(text):
    assert next_mark(text, "<c>", "</c>") == 0


def test_words_may_be_a_call_where_a_form_has_them():
    assert next_mark("<c> f", "<c>", "", words=False) == 0
    assert next_mark("`<c>` f", "<c>", "", words=False) == -1


def test_the_search_begins_where_it_is_told_to():
    assert next_mark(CALL * 2, "<c>", "</c>", 1) == len(CALL)
    assert next_mark(CALL, "<c>", "</c>", len(CALL)) == -1
