"""Damaged or contradictory metadata: one clear line each."""

import pytest

from edgesdk.errors import CheckpointError
from edgesdk_converters.tokenizers.from_gguf import tokenizer_from_gguf

GPT2 = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": ["a", "b", "ab", "<end>"],
    "tokenizer.ggml.token_type": [1, 1, 1, 3],
    "tokenizer.ggml.merges": ["a b"],
    "tokenizer.ggml.eos_token_id": 3,
}
LLAMA = {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", "a", "▁a"],
    "tokenizer.ggml.scores": [0.0, 0.0, 0.0, -2.0, -1.0],
    "tokenizer.ggml.token_type": [2, 3, 3, 1, 1],
}
CASES = [
    (GPT2, "model", "bert", "model is 'bert', expected one of gpt2"),
    (GPT2, "model", None, "model is None"),
    (GPT2, "model", 3, "model is int, expected Unicode text"),
    (GPT2, "pre", "qwen-2", "nearest known: .*qwen2"),
    (GPT2, "tokens", None, "tokens is NoneType, expected a list"),
    (GPT2, "tokens", [], "tokens is missing or empty"),
    (GPT2, "tokens", "abc", "tokens is str, expected a list"),
    (GPT2, "tokens", ["a", "b", "ab", 5], r"tokens\[3\] is int"),
    (GPT2, "tokens", ["a", "b", "ab", "\udc80"], r"tokens\[3\] is str, expected Unicode"),
    (GPT2, "tokens", ["a", "b", "ab", "a"], "'a' at 0 and again at 3"),
    (GPT2, "tokens", ["a", "b", "ab", "x" * 5000], r"tokens\[3\] has 5000 characters, expected at most"),
    (GPT2, "tokens", ["a", "b", "ab"], "token_type has 4 entries, expected 3"),
    (GPT2, "token_type", [1, 1, 1, 9], r"token_type\[3\] is 9, expected 0 to 6"),
    (GPT2, "token_type", [1, 1, 1, None], r"token_type\[3\] is None"),
    (GPT2, "merges", None, "merges is NoneType, expected a list"),
    (GPT2, "merges", [], "merges is missing or empty"),
    (GPT2, "merges", ["ab"], r"merges\[0\] is 'ab', expected two tokens"),
    (GPT2, "merges", ["a "], r"merges\[0\] is 'a ', expected two tokens"),
    (GPT2, "merges", ["a z"], r"merges\[0\] needs the token 'z'"),
    (GPT2, "merges", ["b a"], r"merges\[0\] needs the token 'ba'"),
    (GPT2, "eos_token_id", 4, "eos_token_id is 4, expected a token id below 4"),
    (GPT2, "eos_token_id", -1, "eos_token_id is -1"),
    (GPT2, "eos_token_id", True, "eos_token_id is True"),
    (GPT2, "eos_token_id", "3", "eos_token_id is '3'"),
    (GPT2, "eot_token_id", 99, "eot_token_id is 99"),
    (GPT2, "add_bos_token", 1, "add_bos_token is 1, expected true or false"),
    (GPT2, "add_bos_token", True, "no tokenizer.ggml.bos_token_id to add"),
    (LLAMA, "scores", [0.0], "scores has 1 entries, expected 5"),
    (LLAMA, "scores", [0.0, 0.0, 0.0, float("nan"), 1.0], r"scores\[3\] is nan, expected a finite number"),
    (LLAMA, "scores", [0.0, 0.0, 0.0, "x", 1.0], r"scores\[3\] is 'x'"),
    (LLAMA, "unknown_token_id", 5, "unknown_token_id is 5"),
    (LLAMA | {"tokenizer.ggml.token_type": [1] * 5}, "model", "t5", "unknown_token_id is missing"),
    (LLAMA, "precompiled_charsmap", [1], "precompiled_charsmap has 1 bytes"),
]


@pytest.mark.parametrize("sound", [GPT2, LLAMA], ids=["gpt2", "llama"])
def test_the_sound_ones_pass(sound):
    assert tokenizer_from_gguf(sound).tokenizer_json


@pytest.mark.parametrize(
    ("sound", "key", "value", "message"), CASES, ids=[f"{c[1]}-{i}" for i, c in enumerate(CASES)]
)
def test_damage_is_one_clear_line(sound, key, value, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        tokenizer_from_gguf(sound | {f"tokenizer.ggml.{key}": value})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_template_that_is_no_text_is_refused():
    with pytest.raises(CheckpointError, match="chat_template is list"):
        tokenizer_from_gguf(GPT2 | {"tokenizer.chat_template": ["x"]})


def test_templates_by_name():
    named = {
        "tokenizer.chat_template": "d",
        "tokenizer.chat_template.tool_use": "t",
        "tokenizer.chat_template.rag": "r",
    }
    found = tokenizer_from_gguf(GPT2 | named | {"tokenizer.chat_templates": ["tool_use", "rag"]})
    assert (found.chat_template, found.tool_template) == ("d", "t")
    assert found.notes == ("the chat template named 'rag' is left out",)


def test_a_token_without_text_gets_one():
    made = tokenizer_from_gguf(GPT2 | {"tokenizer.ggml.tokens": ["a", "b", "ab", ""]})
    assert "[EMPTY_3]" in made.tokenizer_json
