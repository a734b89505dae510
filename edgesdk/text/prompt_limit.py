"""Refuses prompts that cannot fit by their length alone, before anything is spent on tokenising them.

A text of more characters than the context has tokens, times the characters of the longest token, does not
fit. That holds where every character ends up in a token. A tokenizer that drops or joins characters (one
that strips spaces, folds unknown text into one token, and the like) gets a wider bound, which is a limit of
time and memory and no proof.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from weakref import WeakKeyDictionary

from edgesdk.bundle.records import JsonValue
from edgesdk.errors import CapacityError
from edgesdk.text.tokenizer import Tokenizer

_ALWAYS_TOKENISED = 8
"""Characters for each token of the context that cost too little to look closer."""

_DROPS = 4
"""How much wider the bound is for tokenizers that drop characters."""

_COMPOSES = 4
"""Most characters that Unicode composition makes one of."""

_BYTES = 256
_NEVER_IN_UTF8 = frozenset(map(chr, (0xC0, 0xC1, *range(0xF5, 0x100))))
"""Bytes that no text has, as byte-level vocabularies write them; some leave them out."""

_KEEPING = frozenset(
    ("Prepend", "Lowercase", "NFD", "NFKD", "ByteLevel", "Metaspace", "Digits", "UnicodeScripts")
)
"""Steps that keep the number of characters, or raise it."""

_known: WeakKeyDictionary[Tokenizer, int] = WeakKeyDictionary()


def check_text_fits(text: str, tokenizer: Tokenizer, context: int) -> None:
    """Refuses a text that is too long for a context, whatever its tokens are.

    Args:
        text: a prompt.
        tokenizer: the model's.
        context: most tokens.

    Raises:
        CapacityError: it is too long; the message has both lengths.
    """
    if len(text) <= _ALWAYS_TOKENISED * context:
        return
    if tokenizer not in _known:
        _known[tokenizer] = chars_per_token(tokenizer)
    most = _known[tokenizer] * context
    if len(text) > most:
        raise CapacityError(
            f"the prompt has {len(text)} characters, the context holds {context} tokens, which are {most} "
            "characters at the very most; shorten the prompt or convert with a larger --context"
        )


def check_count_fits(count: int, context: int) -> None:
    """Refuses more tokens than a context holds.

    Raises:
        CapacityError: there are more.
    """
    if count > context:
        raise CapacityError(
            f"the prompt has {count} tokens, the context holds {context}; "
            "shorten the prompt or convert with a larger --context"
        )


def chars_per_token(tokenizer: Tokenizer) -> int:
    """Most characters of a text that one token may stand for, as the module says."""
    parts: dict[str, JsonValue] = json.loads(tokenizer.engine.to_str())
    longest = max(map(len, tokenizer.engine.get_vocab()), default=1)
    factors = [_shrinks(parts.get(name)) for name in ("normalizer", "pre_tokenizer")]
    added = parts.get("added_tokens")
    # Such tokens swallow the spaces beside them.
    greedy = any(
        isinstance(token, dict) and (token.get("lstrip") or token.get("rstrip"))
        for token in (added if isinstance(added, list) else ())
    )
    if greedy or 0 in factors or not _names_every_character(parts):
        return longest * _DROPS
    return longest * factors[0] * factors[1]


def _shrinks(part: JsonValue) -> int:
    """How many characters a step makes one of, at most; 0 for any number."""
    if part is None:
        return 1
    if not isinstance(part, dict):
        return 0
    kind = part.get("type")
    if kind == "Sequence":
        steps = part.get("normalizers", part.get("pretokenizers"))
        factor = 1
        for step in steps if isinstance(steps, list) else ():
            factor *= _shrinks(step)
        return factor
    if kind in _KEEPING:
        return 1
    if kind in ("NFC", "NFKC"):
        return _COMPOSES
    if kind in ("Split", "Punctuation"):
        return 0 if part.get("behavior") == "Removed" else 1
    if kind == "Replace":
        pattern, content = part.get("pattern"), part.get("content")
        text = pattern.get("String") if isinstance(pattern, dict) else None
        if isinstance(text, str) and isinstance(content, str) and content:
            return -(-len(text) // len(content)) or 1
    return 0


def _names_every_character(parts: Mapping[str, JsonValue]) -> bool:
    """Whether text that the vocabulary does not have still becomes at least one token a character."""
    model = parts.get("model")
    if not isinstance(model, dict):
        return False
    vocab = model.get("vocab")
    pieces = {entry[0] if isinstance(entry, list) else entry for entry in (vocab if vocab else ())}  # type: ignore[union-attr]
    if model.get("byte_fallback"):
        return all(f"<0x{byte:02X}>" in pieces for byte in range(_BYTES))
    if model.get("type") != "BPE":
        return False
    steps = json.dumps([parts.get("normalizer"), parts.get("pre_tokenizer")])
    if '"ByteLevel"' in steps:
        from tokenizers.pre_tokenizers import ByteLevel

        return pieces.issuperset(set(ByteLevel.alphabet()) - _NEVER_IN_UTF8)
    return model.get("unk_token") is not None and not model.get("fuse_unk")
