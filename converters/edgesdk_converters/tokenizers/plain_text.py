"""Parts of vocabularies that spell tokens as plain text, with ▁ for a space and `<0xXX>` for single bytes.

Llama, Mistral, Phi-3 and Gemma are of this kind. There are no words: the model sees the whole text between
two added tokens. Where the merges come from is the caller's business.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgesdk_converters.tokenizers.parts import SPACE, Component, Parts, bpe_model, replace, sequence
from edgesdk_converters.tokenizers.vocabulary import TokenKind, Vocabulary, read_id


def plain_text_parts(
    metadata: Mapping[str, object],
    vocabulary: Vocabulary,
    merges: list[tuple[str, str]],
    *,
    adds_bos: bool,
    prefix: bool = False,
    normalizers: tuple[Component, ...] = (),
) -> Parts:
    """Parts of any BPE that spells tokens as text, with ▁ for a space and `<0xXX>` for bytes.

    Args:
        metadata: the file's metadata.
        vocabulary: its tokens.
        merges: pairs in order of rank.
        adds_bos: default of the kind.
        prefix: whether text begins with a space of its own, which decoding takes away.
        normalizers: what happens before spaces are replaced.

    Raises:
        CheckpointError: the id of the unknown token is no id.
    """
    unknown = unknown_id(metadata, vocabulary)
    return Parts(
        normalizer=spaces_to_text(normalizers, prefix=prefix),
        pre_tokenizer=None,
        model=bpe_model(
            vocabulary.ids,
            merges,
            unk_token=None if unknown is None else vocabulary.tokens[unknown],
            byte_fallback=has_bytes(vocabulary),
        ),
        decoder=text_to_spaces(prefix=prefix),
        adds_bos=adds_bos,
    )


def spaces_to_text(before: tuple[Component, ...], *, prefix: bool) -> Component:
    """The normalizer that spells spaces as ▁, after those in `before`; with `prefix` it puts one in front."""
    steps: list[Component] = [*before, replace(" ", SPACE)]
    if prefix:
        steps.insert(-1, {"type": "Prepend", "prepend": SPACE})
    return sequence("normalizers", steps)


def text_to_spaces(*, prefix: bool) -> Component:
    """The decoder that undoes `spaces_to_text` and joins bytes to characters."""
    steps: list[Component] = [replace(SPACE, " "), {"type": "ByteFallback"}, {"type": "Fuse"}]
    if prefix:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return sequence("decoders", steps)


def has_bytes(vocabulary: Vocabulary) -> bool:
    """Whether there are tokens for single bytes."""
    return "<0x00>" in vocabulary.ids


def unknown_id(metadata: Mapping[str, object], vocabulary: Vocabulary) -> int | None:
    """Id of the token for what has none: the one the file names, else the first of that kind.

    Raises:
        CheckpointError: the named id is no id.
    """
    named = read_id(metadata, "unknown_token_id", vocabulary)
    return named if named is not None else next(iter(vocabulary.of_kind(TokenKind.UNKNOWN)), None)
