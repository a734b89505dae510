"""Reads and checks the `tokenizer.*` keys of a GGUF file's metadata.

After this every list has the right type and length, every id is in range, and every token is valid
Unicode and unique. It does not know what a pre-tokenizer name means or how ids are made (title:
GGUF, section "Tokenizer"; token kinds as in SentencePiece's model proto).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgesdk.errors import CheckpointError

_KEY = "tokenizer.ggml."
_TOKEN_LIMIT_CHARS = 1024
"""Far above any real token; keeps the work that is quadratic in a token's length bounded."""


class TokenKind(enum.IntEnum):
    """What a token is for."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


_LAST_KIND = int(max(TokenKind))


@dataclass(frozen=True)
class AddedToken:
    """A token that is found in text before anything else happens to it.

    Attributes:
        id: its id.
        text: its text.
        special: whether decoding may leave it out.
    """

    id: int
    text: str
    special: bool


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a file.

    Attributes:
        tokens: text by id, unique.
        kinds: kind by id.
        scores: score by id; None when the file has none.
        ids: id by text.
    """

    tokens: tuple[str, ...]
    kinds: tuple[TokenKind, ...]
    scores: tuple[float, ...] | None
    ids: Mapping[str, int]

    def is_filler(self, token: int) -> bool:
        """Whether a converter made the token up to fill the embedding matrix."""
        return self.tokens[token] in (f"[PAD{token}]", f"[EMPTY_{token}]")

    def of_kind(self, *kinds: TokenKind) -> list[int]:
        """Ids of these kinds, ascending, without fillers."""
        return [i for i, kind in enumerate(self.kinds) if kind in kinds and not self.is_filler(i)]


def read_vocabulary(metadata: Mapping[str, object]) -> Vocabulary:
    """Reads tokens, kinds and scores.

    Args:
        metadata: a GGUF file's metadata as plain Python values.

    Raises:
        CheckpointError: a list is missing, malformed, or of another length than the tokens.
    """
    listed = _strings(metadata, "tokens")
    if not listed:
        raise CheckpointError(f"{_KEY}tokens is missing or empty; the file has no tokenizer to convert")
    tokens = tuple(text or f"[EMPTY_{i}]" for i, text in enumerate(listed))
    ids: dict[str, int] = {}
    for i, text in enumerate(tokens):
        if ids.setdefault(text, i) != i:
            raise CheckpointError(
                f"{_KEY}tokens has {text[:40]!r} at {ids[text]} and again at {i}, expected once"
            )
        if len(text) > _TOKEN_LIMIT_CHARS:
            raise CheckpointError(
                f"{_KEY}tokens[{i}] has {len(text)} characters, expected at most {_TOKEN_LIMIT_CHARS}"
            )
    return Vocabulary(tokens, _kinds(metadata, len(tokens)), _scores(metadata, len(tokens)), ids)


def read_merges(metadata: Mapping[str, object], vocabulary: Vocabulary) -> list[tuple[str, str]] | None:
    """The merges in order of rank, or None when the file lists none.

    Raises:
        CheckpointError: an entry is not two tokens that make a third.
    """
    merges: list[tuple[str, str]] = []
    for i, entry in enumerate(_strings(metadata, "merges")):
        # Neither spelling has a space inside of a token, yet the first character is never the separator.
        cut = entry.find(" ", 1)
        left, right = entry[:cut], entry[cut + 1 :]
        if cut < 0 or not right:
            raise CheckpointError(f"{_KEY}merges[{i}] is {entry[:40]!r}, expected two tokens and a space")
        for part in (left, right, left + right):
            if part not in vocabulary.ids:
                raise CheckpointError(
                    f"{_KEY}merges[{i}] needs the token {part[:40]!r}, which is not in {_KEY}tokens"
                )
        merges.append((left, right))
    return merges or None


def read_text(metadata: Mapping[str, object], key: str) -> str | None:
    """An optional text.

    Raises:
        CheckpointError: the value is something else.
    """
    value = metadata.get(key)
    if value is None or (isinstance(value, str) and _is_unicode(value)):
        return value
    raise CheckpointError(f"{key} is {type(value).__name__}, expected Unicode text")


def read_flag(metadata: Mapping[str, object], name: str) -> bool | None:
    """An optional boolean under `tokenizer.ggml.`.

    Raises:
        CheckpointError: the value is something else.
    """
    value = metadata.get(_KEY + name)
    if value is None or isinstance(value, bool):
        return value
    raise CheckpointError(f"{_KEY}{name} is {value!r}, expected true or false")


def read_id(metadata: Mapping[str, object], name: str, vocabulary: Vocabulary) -> int | None:
    """An optional token id under `tokenizer.ggml.`.

    Raises:
        CheckpointError: the value is no id of this vocabulary.
    """
    value = metadata.get(_KEY + name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < len(vocabulary.tokens):
        raise CheckpointError(
            f"{_KEY}{name} is {value!r}, expected a token id below {len(vocabulary.tokens)}"
        )
    return value


def _strings(metadata: Mapping[str, object], name: str) -> list[str]:
    values = _list(metadata, name)
    for i, value in enumerate(values):
        if not isinstance(value, str) or not _is_unicode(value):
            raise CheckpointError(f"{_KEY}{name}[{i}] is {type(value).__name__}, expected Unicode text")
    return [str(value) for value in values]


def _kinds(metadata: Mapping[str, object], count: int) -> tuple[TokenKind, ...]:
    values = _list(metadata, "token_type")
    if not values:
        return (TokenKind.NORMAL,) * count
    _same_length(values, "token_type", count)
    kinds = []
    for i, value in enumerate(values):
        # 0 is the format's "undefined", which every reader takes for normal.
        if not isinstance(value, int) or not 0 <= value <= _LAST_KIND:
            raise CheckpointError(f"{_KEY}token_type[{i}] is {value!r}, expected 0 to {_LAST_KIND}")
        kinds.append(TokenKind(value or TokenKind.NORMAL))
    return tuple(kinds)


def _scores(metadata: Mapping[str, object], count: int) -> tuple[float, ...] | None:
    values = _list(metadata, "scores")
    if not values:
        return None
    _same_length(values, "scores", count)
    scores = []
    for i, value in enumerate(values):
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise CheckpointError(f"{_KEY}scores[{i}] is {value!r}, expected a finite number")
        scores.append(float(value))
    return tuple(scores)


def _list(metadata: Mapping[str, object], name: str) -> Sequence[object]:
    value = metadata.get(_KEY + name, ())
    if isinstance(value, list | tuple):
        return value
    raise CheckpointError(f"{_KEY}{name} is {type(value).__name__}, expected a list")


def _same_length(values: Sequence[object], name: str, count: int) -> None:
    if len(values) != count:
        raise CheckpointError(f"{_KEY}{name} has {len(values)} entries, expected {count}, one for each token")


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
