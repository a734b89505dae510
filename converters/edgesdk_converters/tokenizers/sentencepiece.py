"""Rebuilds the vocabularies that GGUF calls `llama` and `t5`: SentencePiece's BPE and Unigram models.

A text gets its leading ▁ after every added token as well as at its start, as Llama's published
tokenizer.json has it; the file does not say which of the two its own tokenizer does. Nothing is known here
of special tokens (paper: SentencePiece, Kudo and Richardson 2018).
"""

from __future__ import annotations

from collections.abc import Mapping

from edgesdk.bundle.records import JsonValue
from edgesdk.errors import CheckpointError
from edgesdk_converters.tokenizers.charsmap import charsmap_normalizer
from edgesdk_converters.tokenizers.derive_merges import merges_by_score
from edgesdk_converters.tokenizers.parts import Component, Parts
from edgesdk_converters.tokenizers.plain_text import (
    has_bytes,
    plain_text_parts,
    spaces_to_text,
    text_to_spaces,
    unknown_id,
)
from edgesdk_converters.tokenizers.vocabulary import Vocabulary, read_flag


def llama_parts(metadata: Mapping[str, object], vocabulary: Vocabulary) -> Parts:
    """Parts of a `llama` vocabulary, whose merges follow from its scores.

    Args:
        metadata: the file's metadata.
        vocabulary: its tokens.

    Raises:
        CheckpointError: scores are missing, or the normalizer's table is damaged.
    """
    prefix = read_flag(metadata, "add_space_prefix")
    return plain_text_parts(
        metadata,
        vocabulary,
        merges_by_score(vocabulary, _scores(vocabulary)),
        adds_bos=True,
        prefix=prefix is not False,
        normalizers=_normalizers(metadata),
    )


def unigram_parts(metadata: Mapping[str, object], vocabulary: Vocabulary) -> Parts:
    """Parts of a `t5` vocabulary.

    Args:
        metadata: the file's metadata.
        vocabulary: its tokens.

    Raises:
        CheckpointError: scores or the unknown token are missing, or the normalizer's table is damaged.
    """
    prefix = bool(read_flag(metadata, "add_space_prefix"))
    unknown = unknown_id(metadata, vocabulary)
    if unknown is None:
        raise CheckpointError(
            "tokenizer.ggml.unknown_token_id is missing, and a t5 vocabulary needs an unknown token"
        )
    pieces: list[JsonValue] = [
        [text, score] for text, score in zip(vocabulary.tokens, _scores(vocabulary), strict=True)
    ]
    return Parts(
        normalizer=spaces_to_text(_normalizers(metadata), prefix=prefix),
        pre_tokenizer=None,
        model={
            "type": "Unigram",
            "unk_id": unknown,
            "vocab": pieces,
            "byte_fallback": has_bytes(vocabulary),
        },
        decoder=text_to_spaces(prefix=prefix),
        adds_eos=True,
    )


def _normalizers(metadata: Mapping[str, object]) -> tuple[Component, ...]:
    steps: list[Component] = []
    charsmap = charsmap_normalizer(metadata)
    if charsmap is not None:
        steps.append(charsmap)
    if read_flag(metadata, "remove_extra_whitespaces"):
        # In this dialect ^ and $ would match at every line break.
        steps.append({"type": "Replace", "pattern": {"Regex": r"\A +| +\z"}, "content": ""})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    return tuple(steps)


def _scores(vocabulary: Vocabulary) -> tuple[float, ...]:
    if vocabulary.scores is None:
        raise CheckpointError("tokenizer.ggml.scores is missing, and this kind of tokenizer needs it")
    return vocabulary.scores
