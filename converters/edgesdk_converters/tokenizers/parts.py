"""The parts of a tokenizer.json that differ between kinds of vocabularies, and what they share.

It knows the file's JSON shapes (title: Hugging Face tokenizers, "Components"), not GGUF.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgesdk.bundle.records import JsonValue

Component = dict[str, JsonValue]

SPACE = "▁"
"""What SentencePiece writes for a space."""


@dataclass(frozen=True)
class Parts:
    """One kind of vocabulary, rebuilt.

    Attributes:
        normalizer: what happens to text first.
        pre_tokenizer: how it is cut into words.
        model: how words become tokens.
        decoder: how tokens become text.
        adds_bos: the kind's default where the file does not say.
        adds_eos: the same for the end token.
    """

    normalizer: Component | None
    pre_tokenizer: Component | None
    model: Component
    decoder: Component
    adds_bos: bool = False
    adds_eos: bool = False


def sequence(kind: str, steps: Sequence[Component]) -> Component:
    """One or more components as one: `kind` is the key that lists them."""
    if len(steps) == 1:
        return steps[0]
    return {"type": "Sequence", kind: list[JsonValue](steps)}


def replace(found: str, by: str) -> Component:
    """A normalizer or decoder that replaces text."""
    return {"type": "Replace", "pattern": {"String": found}, "content": by}


def bpe_model(
    ids: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    *,
    unk_token: str | None = None,
    byte_fallback: bool = False,
    whole_words: bool = False,
) -> Component:
    """A byte-pair encoding model.

    Args:
        ids: id by token.
        merges: pairs in order of rank.
        unk_token: stands for what has no token.
        byte_fallback: whether `<0xXX>` tokens spell what has no token.
        whole_words: whether a word that is a token is taken as it is.
    """
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": unk_token,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": unk_token is not None,
        "byte_fallback": byte_fallback,
        "ignore_merges": whole_words,
        "vocab": dict(ids),
        "merges": [list(pair) for pair in merges],
    }
