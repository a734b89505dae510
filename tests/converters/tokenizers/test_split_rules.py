"""Every named pre-tokenizer, run, and pinned to what was checked against independent implementations."""

import hashlib
import json
from pathlib import Path

import pytest
import regex
from tokenizers import Regex, Tokenizer, pre_tokenizers

from edgesdk.errors import CheckpointError
from edgesdk_converters.tokenizers import split_patterns
from edgesdk_converters.tokenizers.from_gguf import tokenizer_from_gguf
from edgesdk_converters.tokenizers.split_rules import known_names, split_rule

PINNED = json.loads((Path(__file__).parent / "words_by_name.json").read_text(encoding="utf-8"))
BYTE_NAMES = [name for name in known_names() if split_rule(name).spelling == "bytes"]


def words(name, text):
    """The words that merging would see, spelled in bytes."""
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": name,
        "tokenizer.ggml.tokens": ["a", "b", "ab"],
        "tokenizer.ggml.merges": ["a b"],
    }
    tokenizer = Tokenizer.from_str(tokenizer_from_gguf(metadata).tokenizer_json)
    if tokenizer.normalizer is not None:
        text = tokenizer.normalizer.normalize_str(text)
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]


def digest(name, lines):
    text = json.dumps([words(name, line) for line in lines])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_every_name_is_pinned():
    assert sorted(PINNED) == sorted(BYTE_NAMES)


@pytest.mark.parametrize("name", BYTE_NAMES)
def test_words_are_the_pinned_ones(name, fixed_lines):
    assert digest(name, fixed_lines) == PINNED[name]


@pytest.mark.parametrize("name", BYTE_NAMES)
def test_nothing_is_lost_by_splitting(name, fixed_lines):
    whole = "mpt" if split_rule(name).nfc else "gpt-2"
    for line in fixed_lines:
        assert "".join(words(name, line)) == "".join(words(whole, line))


def isolated(compiled, line):
    """Matches and what lies between them."""
    end = 0
    for match in compiled.finditer(line):
        if match.start() > end:
            yield line[end : match.start()]
        yield match.group()
        end = match.end()
    if end < len(line):
        yield line[end:]


@pytest.mark.parametrize(
    "pattern",
    [
        "LLAMA3",
        "QWEN2",
        "QWEN35",
        "GPT4O",
        "TEKKEN",
        "KIMI_K2",
        "DEEPSEEK3",
        "BAILING",
        "EXAONE_MOE",
        "JAIS2",
    ],
)
def test_patterns_mean_the_same_to_another_engine(pattern, fixed_lines):
    """Python's `regex` shares no code with the engine inside `tokenizers`."""
    text = getattr(split_patterns, pattern)
    compiled = regex.compile(text, regex.V1)
    engine = pre_tokenizers.Split(Regex(text), "isolated")
    for line in fixed_lines:
        pieces = [line[start:end] for _, (start, end) in engine.pre_tokenize_str(line)]
        assert pieces == list(isolated(compiled, line))


def test_an_unknown_name_lists_its_neighbours():
    with pytest.raises(CheckpointError, match=r"'qwen9'.*nearest known: qwen"):
        split_rule("qwen9")


def test_a_name_of_encoders_is_refused_with_the_reason():
    with pytest.raises(CheckpointError, match=r"whitespace.*embedding"):
        split_rule("whitespace")
