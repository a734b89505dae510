"""Values as models write them outside of JSON: Python's literals, and Gemma's with marks around texts.

A small reader of its own, because what a model writes is not trusted with `ast`: depth and kinds are bounded
here. It reads values and the arguments of calls, and calls nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgesdk.bundle.records import JsonValue

_DEEPEST = 40
_SPACE = re.compile(r"\s*")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?(?![\w.])")
_WORD = re.compile(r"[^\W\d][\w.-]*")
_TEXT = re.compile(r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"", re.DOTALL)
_CONSTANTS: Mapping[str, JsonValue] = {
    "True": True, "true": True, "False": False, "false": False, "None": None, "null": None
}  # fmt: skip


class NoValueError(ValueError):
    """What stands here is no value; `at` says where."""

    def __init__(self, what: str, at: int) -> None:
        """Says what was expected, and where."""
        super().__init__(f"{what} at character {at}")
        self.at = at


@dataclass
class LooseReader:
    """Reads values from a text, from left to right.

    Attributes:
        text: what is read.
        at: where.
        mark: what stands before and after a text, beside quotes; None for quotes alone.
    """

    text: str
    at: int = 0
    mark: str | None = None
    _depth: int = field(default=0, repr=False)

    def skip(self) -> None:
        """Goes past white space."""
        found = _SPACE.match(self.text, self.at)
        self.at = self.at if found is None else found.end()

    def take(self, word: str) -> bool:
        """Goes past white space and `word`, if it is next."""
        self.skip()
        if not self.text.startswith(word, self.at):
            return False
        self.at += len(word)
        return True

    def expect(self, word: str) -> None:
        """Goes past `word`.

        Raises:
            NoValueError: something else is next.
        """
        if not self.take(word):
            raise NoValueError(f"expected {word!r}", self.at)

    def word(self) -> str:
        """A name, of a function or an argument.

        Raises:
            NoValueError: something else is next.
        """
        self.skip()
        found = _WORD.match(self.text, self.at)
        if found is None:
            raise NoValueError("expected a name", self.at)
        self.at = found.end()
        return found.group()

    def named(self, between: str, end: str) -> dict[str, JsonValue]:
        """Arguments by name, up to and with `end`.

        Args:
            between: stands between a name and its value.
            end: closes the list.

        Raises:
            NoValueError: it is not such a list.
        """
        found: dict[str, JsonValue] = {}
        while not self.take(end):
            key = self.quoted() if self._quote_is_next() else self.word()
            self.expect(between)
            found[key] = self.value()
            if not self.take(","):
                self.expect(end)
                break
        return found

    def value(self) -> JsonValue:
        """One value.

        Raises:
            NoValueError: something else is next, or it is nested too deeply.
        """
        self._depth += 1
        if self._depth > _DEEPEST:
            raise NoValueError(f"expected a value less than {_DEEPEST} deep", self.at)
        try:
            return self._value()
        finally:
            self._depth -= 1

    def quoted(self) -> str:
        """A text in quotes or marks.

        Raises:
            NoValueError: something else is next.
        """
        self.skip()
        if self.mark is not None and self.text.startswith(self.mark, self.at):
            start = self.at + len(self.mark)
            end = self.text.find(self.mark, start)
            if end < 0:
                raise NoValueError(f"expected {self.mark!r} after a text", len(self.text))
            self.at = end + len(self.mark)
            return self.text[start:end]
        found = _TEXT.match(self.text, self.at)
        if found is None:
            raise NoValueError("expected a text in quotes", self.at)
        self.at = found.end()
        try:
            text = str(ast.literal_eval(found.group()))
        except (ValueError, SyntaxError) as error:
            raise NoValueError("expected a text without broken escapes", found.start()) from error
        # JSON writes characters beyond the first 65,536 as two halves, which Python keeps apart.
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def _quote_is_next(self) -> bool:
        self.skip()
        marks = ("'", '"') if self.mark is None else ("'", '"', self.mark)
        return self.text.startswith(marks, self.at)

    def _value(self) -> JsonValue:
        if self._quote_is_next():
            return self.quoted()
        for opening, closing in (("[", "]"), ("(", ")")):
            if self.take(opening):
                return self._items(closing)
        if self.take("{"):
            return self.named(":", "}")
        number = _NUMBER.match(self.text, self.at)
        if number is not None:
            self.at = number.end()
            if number.group(1) or number.group(2):
                return float(number.group())
            if len(number.group()) > 400:
                raise NoValueError("expected a number of at most 400 digits", number.start())
            return int(number.group())
        start = self.at
        word = self.word()
        if word not in _CONSTANTS:
            raise NoValueError("expected a value", start)
        return _CONSTANTS[word]

    def _items(self, closing: str) -> list[JsonValue]:
        found: list[JsonValue] = []
        while not self.take(closing):
            found.append(self.value())
            if not self.take(","):
                self.expect(closing)
                break
        return found
