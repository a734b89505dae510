"""Bounds of tokenizer.json, each with a harmless file just beyond it."""

import base64
import json

import pytest

from edgesdk.bundle import check_tokenizer as module
from edgesdk.bundle.check_tokenizer import check_tokenizer
from edgesdk.errors import BundleError


def tokenizer(**parts):
    return {"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}, **parts}


def added(**changed):
    return tokenizer(added_tokens=[{"id": 2, "content": "<s>", "special": True, **changed}])


def replace(pattern, content):
    return {"type": "Replace", "pattern": pattern, "content": content}


def sequence(*steps):
    return tokenizer(normalizer={"type": "Sequence", "normalizers": list(steps)})


def charsmap(longest):
    table = (8).to_bytes(4, "little") + bytes(8) + b"a\0" + b"b" * longest + b"\0"
    return tokenizer(
        normalizer={"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}
    )


def nested(levels):
    part = {"type": "Fuse"}
    for _ in range(levels // 2):
        part = {"type": "Sequence", "decoders": [part]}
    return tokenizer(decoder=part)


def vocabulary(vocab):
    return tokenizer(model={"type": "BPE", "vocab": vocab, "merges": []})


SPACE = {"String": " "}

TAKEN = {
    "plain": tokenizer(),
    "an added token": added(),
    "the highest id": vocabulary({"a": module.MOST_ID}),
    "unigram": tokenizer(model={"type": "Unigram", "vocab": [["a", -1.5]], "unk_id": 0}),
    "metaspace": sequence(
        replace(SPACE, "\u2581"), {"type": "NFKC"}, {"type": "Prepend", "prepend": "\u2581"}
    ),
    "split": tokenizer(pre_tokenizer={"type": "Split", "pattern": {"Regex": r"\s+"}, "behavior": "Isolated"}),
    "many steps": sequence(*[replace(SPACE, "_")] * (module.MOST_STEPS - 1)),
    "growth": sequence(*[replace(SPACE, "12345678")] * 4),
    "charsmap": charsmap(18),
    "levels": nested(module.MOST_LEVELS - 2),
}


@pytest.mark.parametrize("document", TAKEN.values(), ids=TAKEN)
def test_what_is_within_the_bounds_passes(document):
    check_tokenizer(json.dumps(document))
    check_tokenizer(json.dumps(document).encode())


REFUSED = {
    "id": (vocabulary({"a": module.MOST_ID + 1}), f"expected 0 to {module.MOST_ID}"),
    "negative id": (vocabulary({"a": -1}), "ids from -1"),
    "id of many digits": (vocabulary({"a": 10**80}), "beyond 64 bits"),
    "fraction": (vocabulary({"a": 0.5}), "no whole number"),
    "truth": (vocabulary({"a": True}), "no whole number"),
    "token": (vocabulary({"a" * (module.MOST_TOKEN_CHARS + 1): 0}), "16385 characters"),
    "piece": (
        tokenizer(model={"type": "Unigram", "vocab": [["a" * (module.MOST_TOKEN_CHARS + 1), 0.0]]}),
        "16385 characters",
    ),
    "added id": (added(id=module.MOST_ID + 1), "an added token has the id"),
    "added text": (added(content="a" * (module.MOST_TOKEN_CHARS + 1)), "an added token has 16385"),
    "steps": (sequence(*[replace(SPACE, "_")] * module.MOST_STEPS), "more than 64 steps"),
    "growth": (sequence(*[replace(SPACE, "123456789")] * 4), "may make a character 6561 and more"),
    "growth from nothing": (
        sequence(*[replace({"Regex": "x*"}, "1")] * 12, replace(SPACE, "12")),
        "may make a character 8192",
    ),
    "growth of a library's step": (sequence(*[{"type": "NFKC"}] * 3), "may make a character 5832"),
    "charsmap": (charsmap(module.MOST_GROWTH + 1), "may make a character 4097"),
    "no charsmap": (tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": "?"}), "base64"),
    "levels": (nested(module.MOST_LEVELS + 2), "levels deep"),
    "pattern": (
        tokenizer(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(?:x+)+"}}),
        "its pre_tokenizer has a pattern with a repeat without an end",
    ),
    "pattern of a decoder": (
        tokenizer(decoder={"type": "Sequence", "decoders": [replace({"Regex": r"(x)\1"}, "")]}),
        "its decoder has a pattern",
    ),
    "a list": ([], "no JSON object"),
}


@pytest.mark.parametrize(("document", "message"), REFUSED.values(), ids=REFUSED)
def test_what_passes_a_bound_is_one_line(document, message):
    with pytest.raises(BundleError) as caught:
        check_tokenizer(json.dumps(document))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("text", ["", "{", "nonsense", '{"model": 1, "model": 2}'])
def test_what_is_no_json_or_says_a_thing_twice_is_one_line(text):
    with pytest.raises(BundleError, match="is not a tokenizer"):
        check_tokenizer(text)


def test_the_number_of_added_tokens_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "MOST_ADDED", 3)
    three = [{"id": i, "content": str(i)} for i in range(3)]
    check_tokenizer(json.dumps(tokenizer(added_tokens=three)))
    with pytest.raises(BundleError, match="adds 4 tokens"):
        check_tokenizer(json.dumps(tokenizer(added_tokens=[*three, three[0]])))
    monkeypatch.setattr(module, "MOST_ADDED_CHARS", 2)
    with pytest.raises(BundleError, match="3 characters together"):
        check_tokenizer(json.dumps(tokenizer(added_tokens=three)))


def test_tokenizers_of_conversions_pass(byte_level, sentencepiece):
    for made in (byte_level, sentencepiece):
        check_tokenizer(made.engine.to_str())
