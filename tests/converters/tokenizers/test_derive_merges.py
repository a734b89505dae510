"""Merges from scores and from ranks."""

from edgesdk_converters.tokenizers.derive_merges import merges_by_rank, merges_by_score
from edgesdk_converters.tokenizers.vocabulary import read_vocabulary

TOKENS = ["<s>", "a", "b", "ab", "ba", "aba", "<0x0A>", "a b", "[PAD8]", "[PAD"]
METADATA = {
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.token_type": [3, 1, 1, 1, 1, 1, 6, 4, 5, 1],
    "tokenizer.ggml.scores": [0.0, -9.0, -9.0, -3.0, -1.0, -2.0, 0.0, -1000.0, -1000.0, -9.0],
}


def test_the_best_joined_token_comes_first():
    vocabulary = read_vocabulary(METADATA)
    assert merges_by_score(vocabulary, vocabulary.scores) == [
        ("b", "a"),
        ("a", "ba"),
        ("ab", "a"),
        ("a", "b"),
    ]


def test_ranks_are_ids():
    assert merges_by_rank(read_vocabulary(METADATA)) == [("a", "b"), ("b", "a"), ("a", "ba"), ("ab", "a")]
