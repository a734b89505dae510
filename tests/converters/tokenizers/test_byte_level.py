# ruff: noqa: RUF001 - full-width signs are part of published patterns
"""Byte-level vocabularies against ones that the `tokenizers` package trained behind each family's splits."""

import json

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from edgesdk.errors import CheckpointError
from edgesdk_converters.tokenizers.from_gguf import tokenizer_from_gguf

# Written out as published, so that a slip in how the patterns are put together shows.
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def byte_level(*steps, use_regex=False):
    return pre_tokenizers.Sequence(
        [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)]
    )


def digits():
    return pre_tokenizers.Digits(individual_digits=True)


ORIGINALS = {
    "gpt-2": (None, lambda: byte_level(use_regex=True)),
    "mpt": ("NFC", lambda: byte_level(use_regex=True)),
    "smollm": (None, lambda: byte_level(digits(), use_regex=True)),
    "command-r": ("NFC", lambda: byte_level(digits(), use_regex=True)),
    "llama-bpe": (None, lambda: byte_level(split(LLAMA3))),
    "dbrx": (None, lambda: byte_level(split(LLAMA3))),
    "qwen2": ("NFC", lambda: byte_level(split(QWEN2))),
    "tekken": (None, lambda: byte_level(split(TEKKEN))),
    "gpt-4o": (None, lambda: byte_level(split(GPT4O))),
    "deepseek-v3": (
        None,
        lambda: byte_level(split(r"\p{N}{1,3}"), split("[一-龥\u3040-ゟ゠-ヿ]+"), split(DEEPSEEK3)),
    ),
    "bloom": (None, lambda: byte_level(split(" ?[^(\\s|[.,!?…。，、।۔،])]+"))),
    "falcon": (
        None,
        lambda: pre_tokenizers.Sequence(
            [
                pre_tokenizers.Punctuation("contiguous"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
                pre_tokenizers.Digits(individual_digits=False),
                split("[0-9][0-9][0-9]"),
            ]
        ),
    ),
}
WHOLE_WORDS = {"llama-bpe", "tekken"}
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def train(name, lines):
    """A tokenizer as its makers would have published it."""
    normalizer, splits = ORIGINALS[name]
    tokenizer = Tokenizer(models.BPE(ignore_merges=name in WHOLE_WORDS))
    if normalizer:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = splits()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines[::2], trainer)
    tokenizer.add_tokens(["<tool_call>"])
    return tokenizer


def as_gguf(name, tokenizer):
    """Its metadata as converters to GGUF write it."""
    size = tokenizer.get_vocab_size()
    kinds = [1] * size
    for special in SPECIAL:
        kinds[tokenizer.token_to_id(special)] = 3
    kinds[tokenizer.token_to_id("<tool_call>")] = 4
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": name,
        # The embedding matrix is padded, as most are.
        "tokenizer.ggml.tokens": [tokenizer.id_to_token(i) for i in range(size)] + [f"[PAD{size}]"],
        "tokenizer.ggml.token_type": [*kinds, 5],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in merges],
        "tokenizer.ggml.bos_token_id": tokenizer.token_to_id("<|im_start|>"),
        "tokenizer.ggml.eos_token_id": tokenizer.token_to_id("<|im_end|>"),
    }


@pytest.mark.parametrize("name", ORIGINALS)
def test_ids_are_those_of_the_original(name, lines):
    original = train(name, lines)
    rebuilt = Tokenizer.from_str(tokenizer_from_gguf(as_gguf(name, original)).tokenizer_json)
    texts = [*lines, "<|im_start|>user\nhi<|im_end|>", "a<tool_call>b <tool_call>"]
    wanted = [encoding.ids for encoding in original.encode_batch(texts, add_special_tokens=False)]
    found = [encoding.ids for encoding in rebuilt.encode_batch(texts, add_special_tokens=False)]
    differing = [text for text, a, b in zip(texts, wanted, found, strict=True) if a != b]
    assert not differing
    assert rebuilt.decode_batch(found) == original.decode_batch(wanted)


def test_every_line_survives_the_round_trip(lines):
    rebuilt = Tokenizer.from_str(
        tokenizer_from_gguf(as_gguf("llama-bpe", train("llama-bpe", lines))).tokenizer_json
    )
    for line in lines:
        ids = rebuilt.encode(line, add_special_tokens=False).ids
        assert rebuilt.decode(ids, skip_special_tokens=False) == line


def test_filler_is_never_found_in_text(lines):
    metadata = as_gguf("gpt-2", train("gpt-2", lines))
    filler = metadata["tokenizer.ggml.tokens"][-1]
    metadata["tokenizer.ggml.token_type"][-1] = 4  # as older converters have it
    rebuilt = Tokenizer.from_str(tokenizer_from_gguf(metadata).tokenizer_json)
    assert rebuilt.token_to_id(filler) not in rebuilt.encode(filler).ids


def test_a_vocabulary_in_order_of_rank_needs_no_merges():
    tokens = ["a", "b", "c", "Ġ", "ab", "abc", "bc", "Ġabc"]
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "kimi-k2",
        "tokenizer.ggml.tokens": tokens,
    }
    rebuilt = Tokenizer.from_str(tokenizer_from_gguf(metadata).tokenizer_json)
    assert rebuilt.encode("abc abc bc").tokens == ["abc", "Ġabc", "Ġ", "bc"]
    metadata["tokenizer.ggml.pre"] = "qwen2"
    with pytest.raises(CheckpointError, match="merges is missing"):
        tokenizer_from_gguf(metadata)


def test_a_missing_pre_tokenizer_is_not_guessed(lines):
    metadata = as_gguf("gpt-2", train("gpt-2", lines))
    del metadata["tokenizer.ggml.pre"]
    with pytest.raises(CheckpointError, match=r"tokenizer\.ggml\.pre is missing"):
        tokenizer_from_gguf(metadata)
