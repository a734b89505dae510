"""Values of options as callers give them, to plain Python values of the right type, or one line of refusal.

Numbers of numpy count as numbers; booleans do not. What is returned cannot be changed by the caller any
more, so that what was checked is what is used. Ranges that only sampling knows are `sampling`'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Integral, Real

from edgesdk.errors import UnsupportedOption, quoted
from edgesdk.text.sound_text import check_sound_text

MOST_STOPS = 128
MOST_STOP_CHARS = 1_000
"""Every token of an answer is compared with every stop string, beside other requests."""


def whole_number(name: str, value: object, least: int, most: int | None = None) -> int:
    """An int within limits, both included.

    Raises:
        UnsupportedOption: it is none; the message names the option.
    """
    between = f"{least} or more" if most is None else f"between {least} and {most}"
    if not isinstance(value, bool) and isinstance(value, Integral):
        number = int(value)
        if least <= number and (most is None or number <= most):
            return number
        raise UnsupportedOption(f"{name} is {quoted(number)}, expected {between}")
    raise UnsupportedOption(f"{name} is {quoted(value)}, expected a whole number, {between}")


def number(name: str, value: object) -> float:
    """A float, which may be infinite but is a number.

    Raises:
        UnsupportedOption: it is none.
    """
    if not isinstance(value, bool) and isinstance(value, Real):
        try:
            found = float(value)
        except OverflowError:
            found = math.nan
        if not math.isnan(found):
            return found
    raise UnsupportedOption(f"{name} is {quoted(value)}, expected a number")


def seconds(name: str, value: object) -> float | None:
    """A time to wait: None for ever, else 0 or more.

    Raises:
        UnsupportedOption: it is neither.
    """
    if value is None:
        return None
    found = number(name, value)
    if not 0 <= found < math.inf:
        raise UnsupportedOption(f"{name} is {quoted(value)}, expected seconds, 0 or more, or None")
    return found


def flag(name: str, value: object) -> bool:
    """True or False, also numpy's.

    Raises:
        UnsupportedOption: it is neither.
    """
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
        return bool(value)
    raise UnsupportedOption(f"{name} is {quoted(value)}, expected True or False")


def whole_text(name: str, value: object) -> str:
    """A text without half characters, which no tokenizer and no grammar can read.

    Raises:
        UnsupportedOption: it is no text, or holds a lone surrogate.
    """
    if not isinstance(value, str):
        raise UnsupportedOption(f"{name} is {quoted(value)}, expected a text")
    check_sound_text(value, name)
    return str(value)


def stop_texts(value: object) -> tuple[str, ...]:
    """Stop strings; None is the same as none.

    Raises:
        UnsupportedOption: they are no list of texts, or one is empty or too long, or there are too many.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        raise UnsupportedOption(f"stop is the text {quoted(value)}, expected a list of texts")
    if isinstance(value, bytes | Mapping) or not isinstance(value, Iterable):
        raise UnsupportedOption(f"stop is {quoted(value)}, expected a list of texts")
    texts: list[str] = []
    for each in value:
        texts.append(whole_text("a stop string", each))
        if not texts[-1]:
            raise UnsupportedOption("a stop string is empty, expected at least one character")
        if len(texts[-1]) > MOST_STOP_CHARS or len(texts) > MOST_STOPS:
            raise UnsupportedOption(
                f"stop has more than {MOST_STOPS} texts, or one of more than {MOST_STOP_CHARS} characters; "
                "give fewer or shorter ones"
            )
    return tuple(texts)


def biases(value: object) -> dict[int, float]:
    """Biases by token id.

    Raises:
        UnsupportedOption: they are no mapping of ids to numbers.
    """
    if not isinstance(value, Mapping):
        raise UnsupportedOption(f"logit_bias is {quoted(value)}, expected a dict of token ids and numbers")
    found: dict[int, float] = {}
    for token, bias in value.items():
        if isinstance(token, bool) or not isinstance(token, Integral):
            raise UnsupportedOption(f"logit_bias names token {quoted(token)}, expected an id (int)")
        found[int(token)] = number(f"logit_bias of token {quoted(int(token))}", bias)
    return found
