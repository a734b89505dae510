"""Tokens that the files beside a tokenizer.json add to it or mark as special, as transformers reads them.

`added_tokens_decoder` of tokenizer_config.json decides where it is given; else special_tokens_map.json and
added_tokens.json, which are older. Tokens with a role (`eos_token`, ...) are special, and are added where the
vocabulary lacks them. A token keeps the id that tokenizer.json has for it; a new one gets the next free id,
and where a file lists another for it, no reader could tell which row of the model is meant: that is refused.
(transformers 5, tokenization_utils_base.py and tokenization_utils_tokenizers.py)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgesdk.bundle.records import JsonValue
from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.text_file import Json, read_optional_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_LISTED = "added_tokens_decoder"
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_EXTRA = ("additional_special_tokens", "extra_special_tokens")
_LONGEST_CHARS = 1000
_MOST = 100_000


@dataclass(frozen=True)
class AddedToken:
    """A token that a side file lists.

    Attributes:
        text: what it is written as.
        flags: of `_FLAGS`, those that the file says.
        id: that the file gives it; None where it gives none.
        source: the file, for messages.
    """

    text: str
    flags: Mapping[str, bool]
    id: int | None
    source: str


def read_settings(folder: Path) -> Json:
    """tokenizer_config.json, with the roles of special_tokens_map.json where that one decides.

    Raises:
        CheckpointError: a file cannot be read.
    """
    settings = read_optional_json(folder / "tokenizer_config.json")
    if _LISTED in settings:
        return settings
    return {**settings, **read_optional_json(folder / "special_tokens_map.json")}


def listed_tokens(folder: Path, settings: Json) -> list[AddedToken]:
    """Every token that the side files name, in the order in which they are added.

    Args:
        folder: the directory.
        settings: from `read_settings`.

    Raises:
        CheckpointError: a file lists what is no token.
    """
    roles = list(_special_tokens(settings))
    special = {token.text for token in roles}
    found: list[AddedToken] = []
    if _LISTED in settings:
        name = "tokenizer_config.json"
        entries = settings[_LISTED]
        for key, entry in entries.items() if isinstance(entries, dict) else []:
            if not key.isdecimal() or len(key) > 9 or not isinstance(entry, dict):
                raise CheckpointError(
                    f"{_LISTED} of {name} has {key[:40]!r}, expected a token id and its flags"
                )
            found.append(_token(entry, int(key), name))
    else:
        name = "added_tokens.json"
        for text, identity in read_optional_json(folder / name).items():
            if isinstance(identity, bool) or not isinstance(identity, int) or not 0 <= identity < 10**9:
                raise CheckpointError(
                    f"{name} gives {text[:40]!r} the id {str(identity)[:40]}, expected an id"
                )
            flags = {"special": text in special, "normalized": text not in special}
            found.append(_token({"content": text, **flags}, identity, name))
    if len(found) > _MOST:
        raise CheckpointError(f"{name} lists {len(found)} tokens, expected at most {_MOST}")
    found.sort(key=lambda token: token.id or 0)
    texts = {token.text for token in found}
    return [*found, *(token for token in roles if token.text not in texts)]


def add_tokens(
    text: str, tokenizer: Tokenizer, tokens: list[AddedToken], special: set[str], rows: int | None
) -> tuple[str, tuple[str, ...]]:
    """A tokenizer.json with the tokens of its side files.

    Args:
        text: of the file.
        tokenizer: the same, loaded; it is altered.
        tokens: from `listed_tokens`.
        special: texts of tokens with a role.
        rows: of the model's embedding table; None where that is not known.

    Returns:
        The text, unchanged where nothing is new, and a line for each thing that was decided or left out.

    Raises:
        CheckpointError: a token would get another id than its file lists.
    """
    import tokenizers

    document = json.loads(text)
    entries = document.get("added_tokens") or []
    by_text = {entry["content"]: entry for entry in entries}
    notes: list[str] = []
    changed = False
    for token in tokens:
        known = tokenizer.token_to_id(token.text)
        wanted = {**token.flags, "special": token.flags.get("special", False) or token.text in special}
        if known is None:
            new = token.id if token.id is not None else tokenizer.get_vocab_size(with_added_tokens=True)
            if rows is not None and new >= rows:
                notes.append(
                    f"the token {token.text[:40]!r} of {token.source} is left out: its id is {new}, and the "
                    f"model has rows for {rows}"
                )
                continue
            tokenizer.add_tokens([tokenizers.AddedToken(token.text, normalized=False)])
            known = tokenizer.token_to_id(token.text)
            if token.id is not None and known != token.id:
                raise CheckpointError(
                    f"{token.source} gives {token.text[:40]!r} the id {token.id}, the next free id of "
                    f"tokenizer.json is {known}; save the tokenizer anew, with every token in tokenizer.json"
                )
        elif token.id is not None and token.id != known:
            notes.append(
                f"{token.source} gives {token.text[:40]!r} the id {token.id}; that of tokenizer.json, "
                f"{known}, counts"
            )
        entry = by_text.get(token.text)
        if entry is None:
            if token.id is None and not wanted["special"]:
                continue
            entry = {"id": known, "content": token.text, **dict.fromkeys(_FLAGS, False)}
            entry["normalized"] = not wanted["special"]
            entries.append(entry)
            by_text[token.text] = entry
            changed = True
        # What tokenizer.json calls special stays so: its text is no part of an answer.
        wanted["special"] = wanted["special"] or entry.get("special") is True
        changed = changed or any(entry.get(flag) != value for flag, value in wanted.items())
        entry |= wanted
    if not changed:
        return text, tuple(notes)
    document["added_tokens"] = sorted(entries, key=lambda entry: int(entry["id"]))
    return json.dumps(document, ensure_ascii=False), tuple(notes)


def _special_tokens(settings: Json) -> Iterator[AddedToken]:
    """Tokens with a role, and those that are special without one."""
    for role in _ROLES:
        yield from _role_token(settings.get(role), role)
    for key in _EXTRA:
        extra = settings.get(key)
        values = list(extra.values()) if isinstance(extra, dict) else extra
        for value in values if isinstance(values, list) else []:
            yield from _role_token(value, key)


def _role_token(value: JsonValue, key: str) -> Iterator[AddedToken]:
    if isinstance(value, str) and value:
        yield AddedToken(_sound(value, key), {"special": True}, None, key)
    elif isinstance(value, dict) and isinstance(value.get("content"), str) and value["content"]:
        yield _token({**value, "special": True}, None, key)


def _token(entry: Json, identity: int | None, source: str) -> AddedToken:
    text = entry.get("content")
    if not isinstance(text, str) or not text:
        raise CheckpointError(f"{source} lists a token without a text ({str(text)[:40]!r})")
    flags: dict[str, bool] = {}
    for flag in _FLAGS:
        value = entry.get(flag)
        if isinstance(value, bool):
            flags[flag] = value
        elif value is not None:
            raise CheckpointError(
                f"{source} has {flag} {str(value)[:40]!r} for {text[:40]!r}, expected true or false"
            )
    return AddedToken(_sound(text, source), flags, identity, source)


def _sound(text: str, source: str) -> str:
    if len(text) > _LONGEST_CHARS:
        raise CheckpointError(f"{source} lists a token of {len(text)} characters, at most {_LONGEST_CHARS}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CheckpointError(f"{source} lists a token that is not valid Unicode") from error
    return text
