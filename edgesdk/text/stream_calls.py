"""Calls of functions while they are written: text that is answer, names, and arguments piece by piece.

Where a form has arguments as JSON, their text is handed on as it comes; other forms give a whole call at its
end. What looks like the beginning of a mark waits until it is decided. In the end the whole answer is read as
`parse_tool_calls` reads it, and what cannot be read is given back as text. Nothing is held against a schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgesdk.text.argument_types import Schema
from edgesdk.text.call_forms import CALL_FORMS
from edgesdk.text.call_marks import next_mark
from edgesdk.text.call_styles import (
    BadCallError,
    BareJsonCalls,
    GemmaCalls,
    JsonCalls,
    NamedCalls,
    PythonCalls,
    RawCall,
)
from edgesdk.text.parameter_calls import ParameterCalls

_LOOK_BEHIND = 2
"""Characters after a mark that show whether an answer only speaks of it."""

_NAME = r'"((?:[^"\\]|\\.)*)"'
_OBJECT = re.compile(rf'\{{\s*"name"\s*:\s*{_NAME}\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{{)')
_BEGUN = re.compile(r'\{\s*(?:"[^"]*"?\s*:?\s*(?:"(?:[^"\\]|\\.)*"?\s*,?\s*(?:"[a-z]*"?\s*:?\s*)?)?)?\Z')
"""What may still become the head of a call."""

_TO_FUNCTION, _TO_CHANNEL = "to=functions.", "<|channel|>commentary "
"""gpt-oss names the channel before the function."""

_BETWEEN = re.compile(r"[\s,;\[\]}]*")


@dataclass(frozen=True)
class StreamedText:
    """A piece of the answer that is no call."""

    text: str


@dataclass(frozen=True)
class StreamedCall:
    """A piece of a call.

    Attributes:
        index: of the call in its answer.
        name: of the function, with the first piece of a call only.
        arguments: a piece of the JSON text of its arguments.
    """

    index: int
    name: str | None
    arguments: str


StreamedPiece = StreamedText | StreamedCall


class CallStream:
    """Reads one answer while it is written."""

    def __init__(self, form: str, schemas: Mapping[str, Schema], specials: Iterable[str] = ()) -> None:
        """Starts before the first text.

        Args:
            form: how the model writes calls, a name of `CALL_FORMS`.
            schemas: of the arguments of each function, by name.
            specials: texts of special tokens, which are no part of an answer's text.
        """
        self._style = CALL_FORMS[form].style
        self._schemas = schemas
        self._specials = tuple(sorted(specials, key=len, reverse=True))
        self._marks, self._end = _marks(self._style)
        self._all = ""
        self._given = 0
        """How much of it was given out as text."""
        self._at = -1
        """Where calls are read on; -1 before the first mark."""
        self._begin = 0
        """Where calls begin, once they have."""
        self._scan: _Arguments | None = None
        self._broken = False
        self.calls = 0
        """How many calls have begun."""

    def push(self, text: str) -> list[StreamedPiece]:
        """Adds a piece of the answer's text, with its special tokens, without a thought."""
        self._all += text
        pieces: list[StreamedPiece] = []
        if self._at < 0:
            self._at, certain = self._find_calls()
            self._begin = max(self._at, 0)
            self._give(certain, pieces)
        if self._at >= 0 and not self._broken:
            self._read_on(pieces)
        return pieces

    def finish(self) -> list[StreamedPiece]:
        """Ends the answer; returns what was held back, and the calls that were read as a whole."""
        pieces: list[StreamedPiece] = []
        if self._scan is None:
            try:
                found = self._style.read(self._all, self._schemas)
            except BadCallError:
                found = []
            sound = all(isinstance(c.name, str) and isinstance(c.arguments, dict) for c in found)
            if sound and len(found) > self.calls:
                self._give(self._begin, pieces)
                self._whole(found[self.calls :], pieces)
        if not self.calls:
            self._give(len(self._all), pieces)
        return pieces

    def _give(self, certain: int, pieces: list[StreamedPiece]) -> None:
        text = self._all[self._given : certain]
        self._given = max(self._given, certain)
        for special in self._specials:
            if special in text:
                text = text.replace(special, "")
        if text:
            pieces.append(StreamedText(text))

    def _find_calls(self) -> tuple[int, int]:
        """Where calls begin, or -1; and how much of the text is certainly none."""
        text = self._all
        if not self._given and isinstance(self._style, BareJsonCalls | PythonCalls):
            head = text.lstrip()
            openers = "{[" if isinstance(self._style, BareJsonCalls) else "["
            if not (isinstance(self._style, PythonCalls) and self._style.start) and head[:1] in openers:
                return (len(text) - len(head), 0) if head else (-1, 0)
        certain = len(text)
        for mark in self._marks:
            at = text.find(mark, self._given)
            if at >= 0:
                if len(text) < at + len(mark) + _LOOK_BEHIND:
                    certain = min(certain, at)
                elif (
                    next_mark(text, mark, self._end, at, words=not isinstance(self._style, NamedCalls)) == at
                ):
                    return at, at
            certain = min(certain, len(text) - _overlap(text, mark))
        return -1, max(certain, self._given)

    def _read_on(self, pieces: list[StreamedPiece]) -> None:
        style = self._style
        if isinstance(style, JsonCalls | BareJsonCalls | NamedCalls):
            while self._go_on(pieces):
                pass
            return
        # One whole call, or a list of them, at each end mark.
        while self._end:
            starts = [(at, mark) for mark in self._marks if (at := self._all.find(mark, self._at)) >= 0]
            if not starts:
                return
            start, mark = min(starts)
            stop = self._all.find(self._end, start + len(mark))
            if stop < 0:
                return
            stop += len(self._end)
            try:
                found = style.read(self._all[start:stop], self._schemas)
            except BadCallError:
                return  # the mark stands in a text, or this is none: the end shows
            self._whole(found, pieces)
            self._at = stop

    def _go_on(self, pieces: list[StreamedPiece]) -> bool:
        """Reads the next head or piece of arguments; whether there may be more."""
        if self._scan is not None:
            piece, ended = self._scan.read(self._all)
            if piece:
                pieces.append(StreamedCall(self.calls - 1, None, piece))
            if ended:
                self._at, self._scan = self._scan.at, None
            return ended
        head = self._head()
        if head is None:
            return False
        name, at = head
        pieces.append(StreamedCall(self.calls, name, ""))
        self.calls += 1
        self._scan = _Arguments(at)
        return True

    def _head(self) -> tuple[str, int] | None:
        """The next call's name, and where its arguments begin."""
        text, style = self._all, self._style
        if isinstance(style, NamedCalls):
            start = text.find(style.start, self._at)
            found = None if start < 0 else re.compile(style.head, re.DOTALL).match(text, start)
            return None if found is None else (found.group("name").strip(), found.end())
        at = self._skip(self._at)
        found = _OBJECT.match(text, at)
        if found is None:
            self._broken = at < len(text) and not _may_begin(text[at:], self._marks, self._end)
            return None
        try:
            name = json.loads(f'"{found.group(1)}"')
        except ValueError:
            self._broken = True
            return None
        return str(name), found.end()

    def _skip(self, at: int) -> int:
        """Where the next call may begin: behind marks, commas and brackets."""
        while True:
            found = _BETWEEN.match(self._all, at)
            after = at if found is None else found.end()
            for mark in (*self._marks, self._end):
                if mark and self._all.startswith(mark, after):
                    after += len(mark)
            if after == at:
                return at
            at = after

    def _whole(self, found: Iterable[RawCall], pieces: list[StreamedPiece]) -> None:
        for call in found:
            arguments = json.dumps(call.arguments, ensure_ascii=False)
            pieces.append(StreamedCall(self.calls, str(call.name), arguments))
            self.calls += 1


class _Arguments:
    """Finds the end of a JSON object that comes in pieces."""

    def __init__(self, at: int) -> None:
        self.at = at
        self._depth = 0
        self._quoted = self._escaped = False

    def read(self, text: str) -> tuple[str, bool]:
        """What of the object was added, and whether it is whole."""
        for place in range(self.at, len(text)):
            char = text[place]
            if self._quoted:
                if self._escaped:
                    self._escaped = False
                elif char == "\\":
                    self._escaped = True
                elif char == '"':
                    self._quoted = False
            elif char == '"':
                self._quoted = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    piece, self.at = text[self.at : place + 1], place + 1
                    return piece, True
        piece, self.at = text[self.at :], len(text)
        return piece, False


def _marks(style: object) -> tuple[tuple[str, ...], str]:
    """What begins calls in a style, and what ends them."""
    if isinstance(style, ParameterCalls):
        start, end = style.call
        return ((start, style.function.head) if start else (style.function.head,)), end or style.function.end
    if isinstance(style, BareJsonCalls):
        return (style.mark,), ""
    if isinstance(style, NamedCalls) and style.start == _TO_FUNCTION:
        return (_TO_CHANNEL + style.start, style.start), style.end
    if isinstance(style, JsonCalls | NamedCalls | GemmaCalls | PythonCalls):
        return ((style.start,) if style.start else ()), style.end
    return (), ""


def _may_begin(text: str, marks: Iterable[str], end: str) -> bool:
    """Whether text may still become a mark or the head of a call."""
    return bool(_BEGUN.match(text)) or any(mark.startswith(text) for mark in (*marks, end) if mark)


def _overlap(text: str, mark: str) -> int:
    for length in range(min(len(text), len(mark) - 1), 0, -1):
        if text.endswith(mark[:length]):
            return length
    return 0
