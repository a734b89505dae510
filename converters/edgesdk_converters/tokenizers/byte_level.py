"""Rebuilds the vocabularies that GGUF calls `gpt2`: byte-level BPE behind a named pre-tokenizer.

A few of those names spell tokens as plain text with ▁ for a space instead of GPT-2's byte alphabet;
they are rebuilt here too, since their merges are listed in the same way. It knows nothing of special
tokens or of what is put around a prompt (paper: Language Models are Unsupervised Multitask Learners,
section 2.2).
"""

from __future__ import annotations

from collections.abc import Mapping

from edgesdk.errors import CheckpointError
from edgesdk_converters.tokenizers.derive_merges import merges_by_rank
from edgesdk_converters.tokenizers.parts import Component, Parts, bpe_model, sequence
from edgesdk_converters.tokenizers.plain_text import plain_text_parts
from edgesdk_converters.tokenizers.split_rules import SplitRule, split_rule
from edgesdk_converters.tokenizers.vocabulary import Vocabulary, read_merges, read_text


def byte_level_parts(metadata: Mapping[str, object], vocabulary: Vocabulary) -> Parts:
    """Parts of a `gpt2` vocabulary.

    Args:
        metadata: the file's metadata.
        vocabulary: its tokens.

    Raises:
        CheckpointError: the pre-tokenizer is not named or not known, or the merges do not fit.
    """
    name = read_text(metadata, "tokenizer.ggml.pre")
    if name is None:
        raise CheckpointError(
            "tokenizer.ggml.pre is missing, so how text is split is not known; convert from the Hugging Face "
            "checkpoint, or take a GGUF file that was made after April 2024"
        )
    rule = split_rule(name)
    merges = _merges(metadata, vocabulary, rule)
    if rule.spelling == "text":
        return plain_text_parts(metadata, vocabulary, merges, adds_bos=rule.adds_bos)
    steps: list[Component] = [*rule.steps, _byte_level(gpt2_words=rule.gpt2_words), *rule.after]
    return Parts(
        normalizer={"type": "NFC"} if rule.nfc else None,
        pre_tokenizer=sequence("pretokenizers", steps),
        model=bpe_model(vocabulary.ids, merges, whole_words=rule.whole_words),
        decoder={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        adds_bos=rule.adds_bos,
    )


def gemma4_parts(metadata: Mapping[str, object], vocabulary: Vocabulary) -> Parts:
    """Parts of a `gemma4` vocabulary, a kind of its own in the format.

    Raises:
        CheckpointError: the merges are missing or do not fit.
    """
    rule = split_rule("gemma4")
    merges = _merges(metadata, vocabulary, rule)
    return plain_text_parts(metadata, vocabulary, merges, adds_bos=rule.adds_bos)


def _merges(metadata: Mapping[str, object], vocabulary: Vocabulary, rule: SplitRule) -> list[tuple[str, str]]:
    merges = read_merges(metadata, vocabulary)
    if merges is None and rule.ranks:
        return merges_by_rank(vocabulary)
    if merges is None:
        raise CheckpointError(
            "tokenizer.ggml.merges is missing or empty, and this kind of tokenizer needs it"
        )
    return merges


def _byte_level(*, gpt2_words: bool) -> Component:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": gpt2_words}
