"""Start and end tokens, named by the file or known by their texts."""

import pytest
from tokenizers import Tokenizer

from edgesdk_converters.tokenizers.from_gguf import tokenizer_from_gguf


def made(tokens, **keys):
    """A vocabulary of `a` and these tokens; (text, kind) sets another kind than control."""
    pairs = [("a", 1), *(t if isinstance(t, tuple) else (t, 3) for t in tokens)]
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": keys.pop("pre", "gpt-2"),
        "tokenizer.ggml.tokens": ["b", "ab", *(text for text, _ in pairs)],
        "tokenizer.ggml.token_type": [1, 1, *(kind for _, kind in pairs)],
        "tokenizer.ggml.merges": ["a b"],
    }
    files = tokenizer_from_gguf(metadata | {f"tokenizer.ggml.{k}": v for k, v in keys.items()})
    return files.record, Tokenizer.from_str(files.tokenizer_json)


def test_the_named_end_comes_first_then_ends_of_turns():
    record, _ = made(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<x>"], eos_token_id=5, eot_token_id=6)
    assert record.eos_ids == (5, 6, 3)
    assert record.eos_token == "<|im_end|>"
    assert record.bos_id is None
    assert not record.add_bos


def test_text_that_only_looks_like_an_end_is_none():
    """HTML is ordinary text to some vocabularies."""
    record, _ = made([("</s>", 1), ("<|eot_id|>", 4)])
    assert record.eos_ids == (4,)
    assert record.eos_token is None


def test_with_channels_the_end_of_a_message_is_not_the_end():
    assert made(["<|end|>"])[0].eos_ids == (3,)
    assert made(["<|end|>", "<|return|>", "<|call|>"])[0].eos_ids == (4, 5)


@pytest.mark.parametrize(
    ("pre", "asked", "adds"),
    [("llama-bpe", None, True), ("gpt-2", None, False), ("gpt-2", True, True), ("llama-bpe", False, False)],
)
def test_the_start_token_is_added_by_name_or_by_family(pre, asked, adds):
    keys = {} if asked is None else {"add_bos_token": asked}
    record, tokenizer = made(["<bos>"], pre=pre, bos_token_id=3, **keys)
    assert record.add_bos is adds
    assert record.bos_token == "<bos>"
    assert tokenizer.encode("ab").ids == ([3, 1] if adds else [1])


def test_special_tokens_are_left_out_of_answers_and_user_defined_ones_are_not():
    _, tokenizer = made(["<|im_end|>", ("<think>", 4)], eos_token_id=3)
    ids = tokenizer.encode("<think>ab<|im_end|>", add_special_tokens=False).ids
    assert ids == [4, 1, 3]
    assert tokenizer.decode(ids) == "<think>ab"
