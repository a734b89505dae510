"""What each `tokenizer.ggml.pre` name means: how text is cut into words before byte-level merging.

A GGUF file names its pre-tokenizer instead of describing it. This table gives, for every name that
the format defines, the steps that the `tokenizers` package runs: the patterns are those of the
tokenizers that the names were made for (title: GGUF, section "Tokenizer"; each family's published
tokenizer.json), not the rewritten ones that engines without a full regular expression library use.
It knows nothing of vocabularies or merges.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from edgesdk.errors import CheckpointError
from edgesdk_converters.tokenizers import split_patterns as p
from edgesdk_converters.tokenizers.parts import Component

Spelling = Literal["bytes", "text"]
"""How tokens are spelled: GPT-2's printable byte alphabet, or plain text with ▁ for a space."""


@dataclass(frozen=True)
class SplitRule:
    """How one family prepares text.

    Attributes:
        steps: pre-tokenizers in order, in tokenizer.json's form.
        gpt2_words: whether GPT-2's word pattern runs after them.
        after: pre-tokenizers that run last, on text already spelled in the byte alphabet.
        nfc: whether text is brought to Unicode's normal form C first.
        whole_words: a word that is itself a token is taken whole, whatever the merges say.
        adds_bos: the default where the file has no `add_bos_token`.
        spelling: how tokens are spelled.
        ranks: the vocabulary's order is the order of merges, for files without a list of merges.
    """

    steps: tuple[Component, ...] = ()
    gpt2_words: bool = False
    after: tuple[Component, ...] = ()
    nfc: bool = False
    whole_words: bool = False
    adds_bos: bool = False
    spelling: Spelling = "bytes"
    ranks: bool = False


def split_rule(name: str) -> SplitRule:
    """The rule that a pre-tokenizer name stands for.

    Args:
        name: value of `tokenizer.ggml.pre`.

    Raises:
        CheckpointError: the name is unknown, or belongs to models that are not decoders.
    """
    if name in _RULES:
        return _RULES[name]
    if name in _REFUSED:
        raise CheckpointError(
            f"tokenizer.ggml.pre is {name!r} ({_REFUSED[name]}), which this version does not rebuild; "
            "convert from the Hugging Face checkpoint, which has a tokenizer.json"
        )
    near = difflib.get_close_matches(name, _RULES, n=4, cutoff=0.4) or sorted(_RULES)[:4]
    raise CheckpointError(
        f"tokenizer.ggml.pre is {name!r}, which this version does not know (nearest known: "
        f"{', '.join(near)}); convert from the Hugging Face checkpoint, which has a tokenizer.json"
    )


def known_names() -> tuple[str, ...]:
    """Every name that has a rule, sorted."""
    return tuple(sorted(_RULES))


def _split(pattern: str) -> Component:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


_EACH_DIGIT: Component = {"type": "Digits", "individual_digits": True}
_DIGIT_RUNS: Component = {"type": "Digits", "individual_digits": False}
_PUNCTUATION_RUNS: Component = {"type": "Punctuation", "behavior": "Contiguous"}
_EACH_PUNCTUATION: Component = {"type": "Punctuation", "behavior": "Isolated"}

_GPT2 = SplitRule(gpt2_words=True)
_GPT2_NFC = SplitRule(gpt2_words=True, nfc=True)
_DIGITS_GPT2 = SplitRule((_EACH_DIGIT,), gpt2_words=True)
_LLAMA3 = SplitRule((_split(p.LLAMA3),), whole_words=True, adds_bos=True)
_GPT4 = SplitRule((_split(p.LLAMA3),))
_GPT4O = SplitRule((_split(p.GPT4O),))
_QWEN2 = SplitRule((_split(p.QWEN2),), nfc=True)
_QWEN2_PLAIN = SplitRule((_split(p.QWEN2),))
_BLOOM = SplitRule((_split(p.BLOOM),))
_DEEPSEEK3 = SplitRule((_split(p.DIGITS_3), _split(p.CJK_KANA), _split(p.DEEPSEEK3)))
_BAILING = SplitRule((_split(p.BAILING),))
_COHERE2 = SplitRule((_split(p.DIGITS_3_FROM_RIGHT), _split(p.GPT4O)), nfc=True)
_SPACES_AS_TEXT = SplitRule(spelling="text")
# Falcon's vocabulary shows that digits were found after bytes were spelled: some bytes look like digits.
_FALCON = SplitRule((_PUNCTUATION_RUNS,), gpt2_words=True, after=(_DIGIT_RUNS, _split(p.ASCII_THREES)))

_RULES: Mapping[str, SplitRule] = MappingProxyType(
    {
        # GPT-2's words as they are
        "gpt-2": _GPT2,
        "phi-2": _GPT2,
        "jina-es": _GPT2,
        "jina-de": _GPT2,
        "jina-v1-en": _GPT2,
        "jina-v2-es": _GPT2,
        "jina-v2-de": _GPT2,
        "jina-v2-code": _GPT2,
        "roberta-bpe": _GPT2,
        "gigachat": _GPT2,
        "a.x-4.0": _GPT2,
        "mellum": _GPT2,
        "exaone4": _GPT2,
        "jais": _GPT2,
        "trillion": _GPT2,
        "granite-docling": _GPT2,
        "mpt": _GPT2_NFC,
        "olmo": _GPT2_NFC,
        "modern-bert": _GPT2_NFC,
        # ... after every digit was set apart
        "starcoder": _DIGITS_GPT2,
        "refact": _DIGITS_GPT2,
        "smollm": _DIGITS_GPT2,
        "codeshell": _DIGITS_GPT2,
        "exaone": _DIGITS_GPT2,
        "minerva-7b": _DIGITS_GPT2,
        "mellum2": _DIGITS_GPT2,
        "command-r": SplitRule((_EACH_DIGIT,), gpt2_words=True, nfc=True),
        # Llama 3's pattern, digits by threes
        "llama3": _LLAMA3,
        "llama-v3": _LLAMA3,
        "llama-bpe": _LLAMA3,
        "falcon3": _LLAMA3,
        "falcon-h1": _LLAMA3,
        "pixtral": _LLAMA3,
        "midm-2.0": _LLAMA3,
        "lfm2": _LLAMA3,
        "jina-v5-nano": _LLAMA3,
        "dbrx": _GPT4,
        "smaug-bpe": _GPT4,
        "chatglm-bpe": _GPT4,
        "glm4": SplitRule((_split(p.LLAMA3),), whole_words=True),
        "glm5": SplitRule((_split(p.LLAMA3),), whole_words=True),
        "minicpm5": SplitRule((_split(p.DIGITS_3), _split(p.MINICPM5)), whole_words=True),
        "jais-2": SplitRule((_split(p.JAIS2),)),
        # the same with single digits
        "qwen2": _QWEN2,
        "deepseek-r1-qwen": _QWEN2,
        "f2llmv2": _QWEN2,
        "stablelm2": _QWEN2,
        "megrez": _QWEN2_PLAIN,
        "kormo": _QWEN2_PLAIN,
        "hunyuan": _QWEN2_PLAIN,
        "solar-open": _QWEN2_PLAIN,
        "grok-2": _QWEN2_PLAIN,
        "qwen35": SplitRule((_split(p.QWEN35),), nfc=True),
        "laguna": SplitRule((_split(p.LINES), _split(p.QWEN2))),
        "ufakzeka": SplitRule((_split(p.UFAKZEKA),)),
        "seed-coder": SplitRule((_split(p.SEED_CODER),)),
        "bailingmoe": _BAILING,
        "bailingmoe2": _BAILING,
        "llada-moe": _BAILING,
        "exaone-moe": SplitRule((_split(p.EXAONE_MOE),)),
        # words told apart by case
        "gpt-4o": _GPT4O,
        "llama4": _GPT4O,
        "kanana2": _GPT4O,
        "talkie": _GPT4O,
        "minimax-m2": _GPT4O,
        "granite-embed-multi-97m": SplitRule((_split(p.GPT4O),), whole_words=True),
        "tekken": SplitRule((_split(p.TEKKEN),), whole_words=True, adds_bos=True),
        "tiny_aya": _COHERE2,
        "cohere2moe": _COHERE2,
        "youtu": SplitRule((_split(p.YOUTU_SCRIPTS), _split(p.YOUTU)), whole_words=True),
        "kimi-k2": SplitRule((_split(p.KIMI_K2),), whole_words=True, ranks=True),
        # DeepSeek's step-wise splits
        "deepseek-llm": SplitRule(
            (
                _split(p.LINE_BREAK),
                _split(p.DEEPSEEK_WORDS),
                _split(p.DEEPSEEK_PUNCTUATION),
                _split(p.SPACES_AT_END),
                _split(p.CJK_HANGUL),
                _EACH_DIGIT,
            )
        ),
        "deepseek-coder": SplitRule(
            (
                _split(p.LINE_BREAK),
                _split(p.SPACED_LETTERS),
                _split(p.SPACED_PUNCTUATION),
                _split(p.CJK_HANGUL),
                _EACH_DIGIT,
            )
        ),
        "deepseek-v3": _DEEPSEEK3,
        "hunyuan-dense": _DEEPSEEK3,
        "joyai-llm": _DEEPSEEK3,
        "hy_v4": _DEEPSEEK3,
        "spark2_5": SplitRule((_split(p.DIGITS_3), _split(p.CJK_KANA), _split(p.SPARK), _split(p.DIGIT))),
        "afmoe": SplitRule((_split(p.DIGITS_3_ALIGNED), _split(p.ASIAN_SCRIPTS), _split(p.DEEPSEEK3))),
        # BLOOM's words
        "bloom": _BLOOM,
        "poro-chat": _BLOOM,
        "gpt3-finnish": _BLOOM,
        "viking": SplitRule((_split(p.BLOOM), _EACH_DIGIT)),
        # Falcon's, and the format's `default`, which was made after it for models without a name
        "falcon": _FALCON,
        "default": SplitRule(
            (
                _split(p.SIGN_RUNS),
                _split(p.GPT2),
                _split(p.DIGIT_RUNS),
                _split(p.ASCII_THREES),
            )
        ),
        "chameleon": SplitRule(
            (
                _split(p.SENTINEL),
                _split(p.IMAGE_TOKEN),
                _split(p.CHAMELEON_SPACES),
                _EACH_DIGIT,
                _EACH_PUNCTUATION,
            ),
            gpt2_words=True,
            adds_bos=True,
        ),
        "superbpe": SplitRule((_split(p.DIGIT_RUNS), _split(p.BEFORE_DIGIT_THREES))),
        # no split: spaces become ▁ and merging sees the whole text
        "gemma4": SplitRule(spelling="text", adds_bos=True),
        "granite-embed-multi-311m": SplitRule(spelling="text", adds_bos=True),
        "sarvam-moe": _SPACES_AS_TEXT,
    }
)

_REFUSED = MappingProxyType({"whitespace": "words of a Chinese embedding model"})
