"""Prompts are refused by their length only if they cannot fit."""

import json

import pytest
from tokenizers import AddedToken, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Engine

from edgesdk.errors import CapacityError
from edgesdk.text.prompt_limit import _DROPS, chars_per_token, check_count_fits, check_text_fits

TEXTS = ["the " * 500, "é\u0301" * 700, " " * 2000, "日本語" * 300, "<|start|>" * 200, "\x00\n\t" * 500]


@pytest.fixture
def longest(tokenizer):
    return max(map(len, tokenizer.engine.get_vocab()))


def test_no_text_has_fewer_tokens_than_the_bound_says(tokenizer, longest):
    assert chars_per_token(tokenizer) == longest
    for text in TEXTS:
        count = len(tokenizer.encode(text, add_bos=False))
        assert count * chars_per_token(tokenizer) >= len(text)
        check_text_fits(text, tokenizer, count)


def test_a_text_beyond_the_bound_is_refused_before_it_is_tokenised(tokenizer, longest, monkeypatch):
    monkeypatch.setattr(type(tokenizer), "encode", None)
    most = max(longest, 8) * 20
    check_text_fits("x" * most, tokenizer, 20)
    with pytest.raises(CapacityError, match=rf"has {most + 1} characters, the context holds 20 tokens"):
        check_text_fits("x" * (most + 1), tokenizer, 20)


@pytest.mark.parametrize(
    "change",
    [
        lambda engine: setattr(engine, "normalizer", normalizers.Strip()),
        lambda engine: setattr(engine, "normalizer", normalizers.Replace(" ", "")),
        lambda engine: setattr(
            engine, "normalizer", normalizers.Sequence([normalizers.NFC(), normalizers.StripAccents()])
        ),
        lambda engine: setattr(engine, "pre_tokenizer", pre_tokenizers.Whitespace()),
        lambda engine: engine.add_tokens([AddedToken("<x>", lstrip=True)]),
    ],
)
def test_tokenizers_that_drop_characters_get_a_wider_bound(byte_level, save, change):
    engine = Engine.from_str(byte_level.engine.to_str())
    change(engine)
    found = save(engine, "<|start|>", "<|end|>")
    assert chars_per_token(found) == max(map(len, engine.get_vocab())) * _DROPS


def test_composition_and_unknown_characters_count(byte_level, save):
    engine = Engine.from_str(byte_level.engine.to_str())
    engine.normalizer = normalizers.NFC()
    longest = max(map(len, engine.get_vocab()))
    assert chars_per_token(save(engine, "<|start|>", "<|end|>")) == 4 * longest
    # A vocabulary may lack bytes, which are then dropped; some no text has.
    parts = json.loads(byte_level.engine.to_str())
    vocab = parts["model"]["vocab"]
    parts["model"]["vocab"] = {k: v for k, v in vocab.items() if k not in "\xc0\xc1\xf5\xff"}
    assert chars_per_token(save(Engine.from_str(json.dumps(parts)), "<|start|>", "<|end|>")) == longest
    parts = json.loads(byte_level.engine.to_str())
    parts["model"]["vocab"] = {k: v for k, v in parts["model"]["vocab"].items() if k != "Ā"}
    pruned = save(Engine.from_str(json.dumps(parts)), "<|start|>", "<|end|>")
    assert chars_per_token(pruned) == longest * _DROPS


def test_counts():
    check_count_fits(20, 20)
    with pytest.raises(CapacityError, match="21 tokens, the context holds 20"):
        check_count_fits(21, 20)
