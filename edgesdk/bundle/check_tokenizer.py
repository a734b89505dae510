"""Bounds a tokenizer.json before the library that runs it sees it.

It may come from a stranger, and what it describes is run natively, on every text: regular expressions
(`check_pattern`), and steps that each make the text longer. Ids become sizes of tables elsewhere. Published
tokenizers stay far below every bound. It does not know what tokens mean, nor whether the library takes the
file.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping

from edgesdk.bundle.check_pattern import PatternError, check_pattern
from edgesdk.errors import BundleError

MOST_BYTES = 256 << 20
"""Six times the largest published tokenizer.json."""

MOST_ID = (1 << 22) - 1
MOST_ADDED = 1 << 17
MOST_ADDED_CHARS = 1 << 22
MOST_TOKEN_CHARS = 1 << 14
MOST_STEPS = 64
MOST_LEVELS = 16
"""Objects and lists within one another, in a step."""

MOST_GROWTH = 4096
"""Characters that the steps together may make of one."""

_STEPS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
# UAX 15, "Stability": the longest decomposition of one character.
_GROWTH = {"NFD": 4, "NFC": 3, "NFKD": 18, "NFKC": 18, "Lowercase": 3, "Nmt": 1, "BertNormalizer": 4}


def check_tokenizer(data: bytes | str) -> None:
    """Checks the content of a tokenizer.json.

    Raises:
        BundleError: it is no JSON object, or it passes a bound; the message says which.
    """
    try:
        document = json.loads(data, object_pairs_hook=_object)
    except RecursionError:
        raise _refused("it is nested too deeply", "a tokenizer that `tokenizers` has saved") from None
    except ValueError as error:
        raise BundleError(f"tokenizer.json is not a tokenizer: {str(error)[:160]}") from error
    check_tokenizer_document(document)


def check_tokenizer_document(document: object) -> None:
    """Like `check_tokenizer` for content that was parsed already.

    Raises:
        BundleError: as there.
    """
    if not isinstance(document, dict):
        raise _refused("it is no JSON object", "a tokenizer that `tokenizers` has saved")
    _check_model(document.get("model"))
    _check_added(document.get("added_tokens"))
    for name in _STEPS:
        _check_steps(name, document.get(name))


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    # What is given twice may be read here once and there the other time; a vocabulary is too long to look.
    if len(found) < len(pairs) <= MOST_STEPS:
        raise ValueError("an object has the same key twice")
    return found


def _check_model(model: object) -> None:
    if not isinstance(model, dict):
        return  # the library refuses it
    vocab = model.get("vocab")
    if isinstance(vocab, dict):
        tokens, ids = list(vocab), list(vocab.values())
        if not all(type(i) is int for i in ids):
            raise _refused("an id in its vocabulary is no whole number", f"0 to {MOST_ID}")
        if ids and not 0 <= min(ids) <= max(ids) <= MOST_ID:
            raise _refused(
                f"its vocabulary has ids from {_told(min(ids))} to {_told(max(ids))}", f"0 to {MOST_ID}"
            )
    elif isinstance(vocab, list):
        if len(vocab) > MOST_ID + 1:
            raise _refused(f"its vocabulary has {len(vocab)} tokens", f"at most {MOST_ID + 1}")
        tokens = [piece[0] for piece in vocab if isinstance(piece, list) and piece]
    else:
        return
    longest = max((len(token) for token in tokens if isinstance(token, str)), default=0)
    if longest > MOST_TOKEN_CHARS:
        raise _refused(f"a token of its vocabulary has {longest} characters", f"at most {MOST_TOKEN_CHARS}")


def _check_added(added: object) -> None:
    if not isinstance(added, list):
        return
    if len(added) > MOST_ADDED:
        raise _refused(f"it adds {len(added)} tokens", f"at most {MOST_ADDED}")
    chars = 0
    for token in added:
        if not isinstance(token, dict):
            continue
        i, text = token.get("id"), token.get("content")
        if type(i) is int and not 0 <= i <= MOST_ID:
            raise _refused(f"an added token has the id {_told(i)}", f"0 to {MOST_ID}")
        if isinstance(text, str):
            chars += len(text)
            if len(text) > MOST_TOKEN_CHARS:
                raise _refused(f"an added token has {len(text)} characters", f"at most {MOST_TOKEN_CHARS}")
    if chars > MOST_ADDED_CHARS:
        raise _refused(f"its added tokens have {chars} characters together", f"at most {MOST_ADDED_CHARS}")


def _check_steps(name: str, part: object) -> None:
    """Bounds number and depth of steps, their patterns, and how much longer they make a text."""
    count, growth = 0, 1
    for step in _objects(name, part, 0):
        count += "type" in step
        growth *= _grows(name, step)
        if count > MOST_STEPS:
            raise _refused(f"its {name} has more than {MOST_STEPS} steps", "fewer")
        if growth > MOST_GROWTH:
            raise _refused(f"its {name} may make a character {growth} and more", f"at most {MOST_GROWTH}")


def _objects(name: str, part: object, level: int) -> Iterator[dict[str, object]]:
    """Every object in a part."""
    if level > MOST_LEVELS:
        raise _refused(f"its {name} is more than {MOST_LEVELS} levels deep", "fewer")
    if isinstance(part, dict):
        yield part
    if isinstance(part, dict | list):
        for inner in part.values() if isinstance(part, dict) else part:
            yield from _objects(name, inner, level + 1)


def _grows(name: str, step: Mapping[str, object]) -> int:
    """How many characters a step makes of one, at most; its pattern is checked."""
    may_be_empty = False
    pattern = step.get("pattern")
    text = pattern.get("Regex") if isinstance(pattern, dict) else None
    if isinstance(text, str):
        try:
            may_be_empty = check_pattern(text).may_be_empty
        except PatternError as error:
            raise _refused(
                f"its {name} has {error}", "a pattern like those of published tokenizers"
            ) from error
    elif isinstance(pattern, dict) and isinstance(pattern.get("String"), str):
        may_be_empty = not pattern["String"]
    kind = step.get("type")
    if kind == "Precompiled":
        return _longest_replacement(name, step.get("precompiled_charsmap"))
    put = (
        step.get("content", "") if kind == "Replace" else step.get("prepend", "") if kind == "Prepend" else ""
    )
    if isinstance(put, str) and put:
        return len(put) + (may_be_empty or kind == "Prepend")
    return _GROWTH.get(kind, 1) if isinstance(kind, str) else 1


def _longest_replacement(name: str, charsmap: object) -> int:
    """Bytes of the longest text in SentencePiece's table: a trie, then texts that end with a zero."""
    if not isinstance(charsmap, str):
        return 1
    try:
        table = base64.b64decode(charsmap, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _refused(f"its {name} has a table of replacements that is no base64", "base64") from error
    texts = table[4 + int.from_bytes(table[:4], "little") :]
    return max(map(len, texts.split(b"\0")), default=0) or 1


def _told(number: int) -> str:
    return str(number) if abs(number) < 1 << 64 else "beyond 64 bits"


def _refused(found: str, expected: str) -> BundleError:
    return BundleError(f"tokenizer.json is not a tokenizer that edgesdk opens: {found}, expected {expected}")
