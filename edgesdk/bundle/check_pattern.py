"""Bounds the regular expressions with which a tokenizer splits text, before Oniguruma sees them.

It tries one way after another, so a pattern may need a time that grows without bound with the text. Refused
is what makes it do so: a repeat without end around one, or around a choice; many such repeats in a row;
references and calls. Published tokenizers need none of that, but for one, whose repeats exclude one another.
What passes takes time that grows with a low power of a run of like characters, and Oniguruma gives up by
itself after some ten million steps from one place. It does not know what a pattern is for.

The syntax is Oniguruma's (doc/RE), as far as tokenizers use it; what else there is, is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MOST_CHARS = 4096
"""The longest published has 350."""

MOST_LEVELS = 8
MOST_TIMES = 1024
"""Of a repeat with an end, and of repeats within one another."""

MOST_CHOSEN_TIMES = 8
"""Of a repeat with an end around something of which there are several ways."""

MOST_ENDLESS = 3
"""Repeats without an end that follow one another."""

_KNOWN = frozenset(
    # Of EXAONE MoE: letters, and a space before each word but the first, so no text has two ways.
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
    )
)
_ESCAPE = re.compile(
    r"\\(?:[pP]\{\^?[\w =]{1,64}\}|x\{[0-9a-fA-F]{1,8}\}|x[0-9a-fA-F]{1,2}|u[0-9a-fA-F]{4}"
    r"|[sSdDwWhHtnrfvaebBAzZGNORX]|[^a-zA-Z0-9])",
    re.ASCII,
)
_FLAGS = re.compile(r"\(\?[ims-]{1,4}\)", re.ASCII)
_GROUP = re.compile(r"\((\?(?:[ims-]{0,4}:|[=!>]|<[=!]|<\w{1,64}>))?", re.ASCII)
# What follows a number is a repeat of its own in this syntax, not a manner of the one before.
_REPEAT = re.compile(r"[*+?][?+]?|\{(\d{0,6})(,?)(\d{0,6})\}", re.ASCII)


class PatternError(ValueError):
    """A pattern is refused; the message says what is wrong with it."""


@dataclass(frozen=True)
class Extent:
    """What a part of a pattern may match.

    Attributes:
        may_be_empty: whether it matches nothing at all.
        several: whether there may be several ways for one text.
        endless: repeats without an end that follow one another in it, at most.
        times: how often its innermost part is repeated, at most, by repeats with an end.
    """

    may_be_empty: bool
    several: bool = False
    endless: int = 0
    times: int = 1


def check_pattern(pattern: str) -> Extent:
    """Checks a pattern.

    Raises:
        PatternError: it takes too long, or is not written as tokenizers are.
    """
    if pattern in _KNOWN:
        return Extent(False, True, MOST_ENDLESS)
    if len(pattern) > MOST_CHARS:
        raise PatternError(f"a pattern of {len(pattern)} characters, expected at most {MOST_CHARS}")
    reader = _Reader(pattern)
    found = reader.choice(0)
    if reader.place < len(pattern):
        raise PatternError(f"a pattern with a group that ends but does not begin: {_short(pattern)}")
    return found


class _Reader:
    """Reads one pattern from left to right."""

    def __init__(self, pattern: str) -> None:
        self.pattern, self.place = pattern, 0

    def choice(self, level: int) -> Extent:
        """Alternatives, up to the end of the group."""
        if level > MOST_LEVELS:
            raise self._wrong(f"more than {MOST_LEVELS} groups within one another")
        found = [self._row(level)]
        while self._next("|"):
            found.append(self._row(level))
        return Extent(
            any(part.may_be_empty for part in found),
            len(found) > 1 or found[0].several,
            max(part.endless for part in found),
            max(part.times for part in found),
        )

    def _row(self, level: int) -> Extent:
        """Parts that follow one another."""
        found = [Extent(True)]
        while self.place < len(self.pattern) and self.pattern[self.place] not in "|)":
            part = self._part(level)
            while (repeat := _REPEAT.match(self.pattern, self.place)) is not None:
                self.place = repeat.end()
                part = self._repeated(part, repeat)
            found.append(part)
        endless = sum(part.endless for part in found)
        if endless > MOST_ENDLESS:
            raise self._wrong(f"more than {MOST_ENDLESS} repeats without an end in a row")
        return Extent(
            all(part.may_be_empty for part in found),
            any(part.several for part in found),
            endless,
            max(part.times for part in found),
        )

    def _part(self, level: int) -> Extent:
        """One character, class, anchor or group."""
        pattern, place = self.pattern, self.place
        if (flags := _FLAGS.match(pattern, place)) is not None:
            self.place = flags.end()
            return Extent(True)
        if pattern[place] == "(":
            opened = _GROUP.match(pattern, place)
            if opened is None or pattern.startswith("?", opened.end()):
                raise self._wrong("a kind of group that no published tokenizer has")
            self.place = opened.end()
            found = self.choice(level + 1)
            if not self._next(")"):
                raise self._wrong("a group without its end")
            kind = opened[1] or ""
            if kind in ("?<=", "?<!") and (found.endless or found.times > 1):
                raise self._wrong("a repeat in what stands before")
            if kind in ("?=", "?!", "?<=", "?<!"):
                return Extent(True, found.several, found.endless, found.times)
            return found
        if pattern[place] == "[":
            self._class(0)
            return Extent(False)
        if pattern[place] == "\\":
            self._escape()
            return Extent(pattern[place + 1 : place + 2] in "bBAzZG")
        if _REPEAT.match(pattern, place) is not None:
            raise self._wrong("a repeat of nothing")
        self.place += 1
        return Extent(pattern[place] in "^$")

    def _repeated(self, part: Extent, repeat: re.Match[str]) -> Extent:
        sign = repeat[0][0]
        if sign == "?":
            return Extent(True, True, part.endless, part.times)
        low, comma, high = repeat[1], repeat[2], repeat[3]
        if sign in "*+" or (comma and low and not high):
            if part.endless or part.several:
                raise self._wrong("a repeat without an end around a repeat or a choice")
            if low and int(low) > MOST_TIMES:
                raise self._wrong(f"a repeat of {low} times, expected at most {MOST_TIMES}")
            return Extent(sign == "*" or low == "0" or part.may_be_empty, True, 1, part.times)
        if not low and not high:
            raise self._wrong("a repeat without numbers")
        most = int(high or low)
        times = part.times * max(most, 1)
        if times > MOST_TIMES:
            raise self._wrong(f"repeats of {times} times, expected at most {MOST_TIMES}")
        if most > 1 and part.endless:
            raise self._wrong("a repeat around a repeat without an end")
        if most > MOST_CHOSEN_TIMES and part.several:
            raise self._wrong(f"a choice that is repeated {most} times, expected at most {MOST_CHOSEN_TIMES}")
        fixed = not comma or low == high
        return Extent(int(low or 0) == 0 or part.may_be_empty, part.several or not fixed, part.endless, times)

    def _class(self, level: int) -> None:
        """A set of characters, with sets in it."""
        if level > MOST_LEVELS:
            raise self._wrong(f"more than {MOST_LEVELS} sets within one another")
        self.place += 1
        self._next("^")
        first = True
        while self.place < len(self.pattern):
            sign = self.pattern[self.place]
            if sign == "]" and not first:
                self.place += 1
                return
            first = False
            if sign == "[" and not self.pattern.startswith("[:", self.place):
                self._class(level + 1)
            elif sign == "\\":
                self._escape()
            else:
                self.place += 1
        raise self._wrong("a set without its end")

    def _escape(self) -> None:
        found = _ESCAPE.match(self.pattern, self.place)
        if found is None:
            what = self.pattern[self.place : self.place + 2]
            raise self._wrong(f"{what!r}, which no published tokenizer has")
        self.place = found.end()

    def _next(self, sign: str) -> bool:
        if not self.pattern.startswith(sign, self.place):
            return False
        self.place += 1
        return True

    def _wrong(self, what: str) -> PatternError:
        return PatternError(f"a pattern with {what}: {_short(self.pattern)}")


def _short(pattern: str) -> str:
    return repr(pattern if len(pattern) <= 60 else pattern[:57] + "...")
