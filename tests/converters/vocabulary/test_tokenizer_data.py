"""What a token is merged from: the same as the tokenizers package does it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesdk.errors import TransformError
from edgesdk_converters.vocabulary.tokenizer_data import TokenizerData, last_merge, split_merge


@settings(max_examples=200, deadline=None)
@given(
    merges=st.lists(st.tuples(st.text("ab", min_size=1, max_size=3), st.text("ab", min_size=1, max_size=3)),
                    max_size=12, unique=True),
    word=st.text("ab", min_size=1, max_size=9),
)  # fmt: skip
def test_a_word_becomes_one_token_exactly_when_the_package_says_so(merges, word):
    from tokenizers.models import BPE

    reachable, kept = {"a", "b"}, []
    for left, right in merges:
        if left in reachable and right in reachable:
            reachable.add(left + right)
            kept.append((left, right))
    vocab = {text: i for i, text in enumerate(sorted(reachable))}
    pieces = [t.value for t in BPE(vocab, kept).tokenize(word)]
    last = last_merge(word, {pair: rank for rank, pair in reversed(list(enumerate(kept)))})
    if len(word) > 1:
        assert (last is not None) == (pieces == [word])
    if last is not None:
        assert "".join(last) == word
        assert last in kept


def test_every_trained_token_has_parents_or_spells(grown):
    data = TokenizerData(grown("byte_level").tokenizer.tokenizer_json)
    for token in set(data.texts) - data.added_ids - data.alphabet_ids:
        left, right = data.parents(token)
        assert data.texts[left] + data.texts[right] == data.texts[token]
    assert data.parents(1) == ()


def test_a_repeated_letter_is_merged_from_the_left():
    assert last_merge("aaa", {("a", "a"): 0, ("aa", "a"): 1}) == ("aa", "a")
    assert last_merge("aaa", {("a", "a"): 0, ("a", "aa"): 1}) is None


def test_a_long_token_takes_no_long_time():
    ranks = {("a" * 2**i, "a" * 2**i): i for i in range(17)}
    assert last_merge("a" * 2**17, ranks) == ("a" * 2**16, "a" * 2**16)


def test_both_spellings_of_a_merge():
    assert split_merge("a b") == split_merge(["a", "b"]) == ("a", "b")
    for damaged in ("ab", "a b c", ["a"], ["a", 1], None):
        with pytest.raises(TransformError, match="expected two tokens"):
            split_merge(damaged)


def test_a_file_that_does_not_load_is_one_line():
    for text in ("", "{}", '{"model": 1}', "[]"):
        with pytest.raises(TransformError, match="does not load") as caught:
            TokenizerData(text)
        assert "\n" not in str(caught.value)
