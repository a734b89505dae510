"""Which ids begin, end and frame a text.

A file names an end token, and often more tokens end an answer in practice: chat models were trained
to stop at the end of a turn. Those are recognised by their published texts, among tokens that are
marked as control or user-defined. It knows nothing of how text becomes ids.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgesdk.bundle.manifest import TokenizerRecord
from edgesdk.bundle.records import JsonValue
from edgesdk.errors import CheckpointError
from edgesdk_converters.tokenizers.parts import Component, Parts
from edgesdk_converters.tokenizers.vocabulary import (
    AddedToken,
    TokenKind,
    Vocabulary,
    read_flag,
    read_id,
)

_ENDS = frozenset(
    {
        "</s>",
        "<eos>",
        "<EOT>",
        "_<EOT>",
        "[EOS]",
        "[EOT]",
        "[e~[",
        "<turn|>",
        "<|call|>",
        "<|calls|>",
        "<|end|>",
        "<|end_of_text|>",
        "<|endoftext|>",
        "<|eom_id|>",
        "<|eot_id|>",
        "<|flush|>",
        "<|im_end|>",
        "<|return|>",
        "<|tool_response>",
        "<|END_OF_TURN_TOKEN|>",
        "<end_of_turn>",
        "<end_of_utterance>",
        "<｜end▁of▁sentence｜>",  # noqa: RUF001 - spelled so in the vocabulary
    }
)
# In vocabularies with channels this token ends a message, not an answer.
_CHANNELLED = ({"<|return|>", "<|call|>"}, {"<|calls|>", "<|flush|>"})
_MESSAGE_END = "<|end|>"


def token_roles(metadata: Mapping[str, object], vocabulary: Vocabulary, parts: Parts) -> TokenizerRecord:
    """Ids by role.

    Args:
        metadata: the file's metadata.
        vocabulary: its tokens.
        parts: for the defaults of its kind.

    Raises:
        CheckpointError: an id is out of range, or a start token is asked for and not named.
    """
    bos = read_id(metadata, "bos_token_id", vocabulary)
    eos = read_id(metadata, "eos_token_id", vocabulary)
    if metadata.get("tokenizer.ggml.model") == "llama":
        bos = _default(bos, "<s>", vocabulary)
        eos = _default(eos, "</s>", vocabulary)
    asked = read_flag(metadata, "add_bos_token")
    if asked and bos is None:
        raise CheckpointError(
            "tokenizer.ggml.add_bos_token is true and there is no tokenizer.ggml.bos_token_id to add"
        )
    named = [eos, *(read_id(metadata, f"{role}_token_id", vocabulary) for role in ("eot", "eom"))]
    return TokenizerRecord(
        bos_id=bos,
        eos_ids=tuple(dict.fromkeys([i for i in named if i is not None] + _ends_by_text(vocabulary))),
        add_bos=bos is not None and (parts.adds_bos if asked is None else asked),
        bos_token=None if bos is None else vocabulary.tokens[bos],
        eos_token=None if eos is None else vocabulary.tokens[eos],
    )


def added_tokens(
    metadata: Mapping[str, object], vocabulary: Vocabulary, record: TokenizerRecord
) -> list[AddedToken]:
    """Tokens that are found in text as they stand, ascending by id.

    Args:
        metadata: the file's metadata.
        vocabulary: its tokens.
        record: its start and end tokens are special, however the file marks them.

    Raises:
        CheckpointError: the id of the unknown token is no id.
    """
    found = dict.fromkeys(vocabulary.of_kind(TokenKind.USER_DEFINED), False)
    found |= dict.fromkeys(vocabulary.of_kind(TokenKind.CONTROL), True)
    found |= {i: True for i in (record.bos_id, *record.eos_ids) if i is not None}
    # Old converters mark filler as unknown too, so only the one that is named counts.
    unknown = read_id(metadata, "unknown_token_id", vocabulary)
    if unknown is not None and vocabulary.kinds[unknown] == TokenKind.UNKNOWN:
        found[unknown] = True
    return [AddedToken(i, vocabulary.tokens[i], found[i]) for i in sorted(found)]


def frame(record: TokenizerRecord, vocabulary: Vocabulary, *, add_eos: bool) -> Component | None:
    """The post-processor that puts start and end tokens around a text, None when there is nothing to add."""
    before = [record.bos_id] if record.add_bos and record.bos_id is not None else []
    after = list(record.eos_ids[:1]) if add_eos and record.eos_token is not None else []
    if not before and not after:
        return None
    return {
        "type": "TemplateProcessing",
        "single": _template("A", 0, before, after, vocabulary),
        "pair": _template("A", 0, before, after, vocabulary) + _template("B", 1, before, after, vocabulary),
        "special_tokens": {
            vocabulary.tokens[i]: {"id": vocabulary.tokens[i], "ids": [i], "tokens": [vocabulary.tokens[i]]}
            for i in before + after
        },
    }


def _template(
    name: str, part: int, before: list[int], after: list[int], vocabulary: Vocabulary
) -> list[JsonValue]:
    def special(token: int) -> JsonValue:
        return {"SpecialToken": {"id": vocabulary.tokens[token], "type_id": part}}

    text: JsonValue = {"Sequence": {"id": name, "type_id": part}}
    return [*map(special, before), text, *map(special, after)]


def _default(token: int | None, text: str, vocabulary: Vocabulary) -> int | None:
    """Old files leave out what was once fixed by the kind of vocabulary."""
    if token is not None:
        return token
    found = vocabulary.ids.get(text)
    return found if found is not None and vocabulary.kinds[found] == TokenKind.CONTROL else None


def _ends_by_text(vocabulary: Vocabulary) -> list[int]:
    marked = vocabulary.of_kind(TokenKind.CONTROL, TokenKind.USER_DEFINED)
    ends = {vocabulary.tokens[i]: i for i in marked if vocabulary.tokens[i] in _ENDS}
    if any(channel <= ends.keys() for channel in _CHANNELLED):
        ends.pop(_MESSAGE_END, None)
    return sorted(ends.values())
