"""The ways in which models write calls of functions, and how each is read.

A style is a grammar with its marks left open; `call_forms` fills them in. What is read here is neither
checked against a function nor called.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from edgesdk.bundle.records import JsonValue
from edgesdk.text.argument_types import Schema
from edgesdk.text.call_marks import next_mark
from edgesdk.text.loose_values import LooseReader, NoValueError

T = TypeVar("T")

CUT = "the answer ends inside a tool call; allow more max_tokens"

_BETWEEN = re.compile(r"[\s;,]*")
_SHORT_CHARS = 160


class BadCallError(ValueError):
    """A call that cannot be read; the message is whole."""


@dataclass(frozen=True)
class RawCall:
    """A call as it was written.

    Attributes:
        name: of the function; a text where all is well.
        arguments: an object where all is well.
    """

    name: JsonValue
    arguments: JsonValue


class CallStyle(Protocol):
    """How calls are written."""

    def read(self, answer: str, schemas: Mapping[str, Schema]) -> list[RawCall]:
        """The calls in an answer, in order; none if it holds plain text.

        Args:
            answer: with its special tokens, without a thought.
            schemas: of the arguments of each function, by name.

        Raises:
            BadCallError: a call is cut, or written in another way.
        """


@dataclass(frozen=True)
class JsonCalls:
    """JSON between marks: one object, several, or a list of them.

    Attributes:
        start: mark before them.
        end: mark after them; empty where there is none.
        open_end: models leave the end mark out.
    """

    start: str
    end: str = ""
    open_end: bool = False

    def read(self, answer: str, schemas: Mapping[str, Schema]) -> list[RawCall]:
        """See `CallStyle`."""
        calls: list[RawCall] = []
        at = next_mark(answer, self.start, self.end, words=bool(self.end))
        while at >= 0:
            at += len(self.start)
            found, stop = _values(answer, at, self.end, self.start)
            if stop < len(answer) and not answer.startswith(self.end or self.start, stop):
                cut = self.end and self.end not in answer[stop:] and not self.open_end
                raise BadCallError(CUT) if cut else _no_json("Extra data", answer[at:])
            if self.end and stop == len(answer) and not self.open_end:
                raise BadCallError(CUT)
            if not found:
                raise _no_json("Expecting value", answer[at:])
            calls += [_object_call(value) for value in found]
            at = next_mark(answer, self.start, self.end, stop, words=bool(self.end))
        return calls


@dataclass(frozen=True)
class BareJsonCalls:
    """Llama 3's: the answer is JSON and nothing else, or JSON follows a mark.

    Attributes:
        mark: may stand before them.
    """

    mark: str

    def read(self, answer: str, schemas: Mapping[str, Schema]) -> list[RawCall]:
        """See `CallStyle`."""
        _, marked, rest = answer.partition(self.mark)
        if marked:
            at = len(answer) - len(rest)
            found, stop = _values(answer, at, "")
            if stop < len(answer) or not found:
                raise _no_json("Extra data" if found else "Expecting value", rest)
            return [_object_call(value) for value in found]
        # Without the mark any other answer, also one that is JSON, is plain text.
        try:
            first, _ = decode(answer, skip(answer, 0))
        except BadCallError:
            return []
        if not all(_is_call(value) for value in _flat(first)):
            return []
        found, stop = _values(answer, 0, "")
        if stop < len(answer):
            raise _no_json("Extra data", answer[stop:])
        return [_object_call(value) for value in found]


@dataclass(frozen=True)
class NamedCalls:
    """The function's name between marks, then its arguments as JSON.

    Attributes:
        start: begins each call.
        head: matches from there to the arguments; its group `name` is the name.
        end: after the arguments; empty where there is none.
    """

    start: str
    head: str
    end: str = ""

    def read(self, answer: str, schemas: Mapping[str, Schema]) -> list[RawCall]:
        """See `CallStyle`."""
        calls: list[RawCall] = []
        at = next_mark(answer, self.start, self.end, words=False)
        while at >= 0:
            found = re.compile(self.head, re.DOTALL).match(answer, at)
            if found is None:
                if "{" not in answer[at:]:
                    raise BadCallError(CUT)
                raise _no_json("Expecting a name and arguments", answer[at:])
            arguments, stop = decode(answer, found.end())
            if self.end and not answer.startswith(self.end, stop):
                raise (
                    BadCallError(CUT)
                    if self.end not in answer[stop:]
                    else _no_json("Extra data", answer[stop:])
                )
            calls.append(RawCall(found.group("name").strip(), arguments))
            at = next_mark(answer, self.start, self.end, stop, words=False)
        return calls


@dataclass(frozen=True)
class PythonCalls:
    """Calls as Python writes them, in a list or one a line.

    Attributes:
        start: mark before them; empty where the answer is the list and nothing else.
        end: mark after them.
    """

    start: str = ""
    end: str = ""

    def read(self, answer: str, schemas: Mapping[str, Schema]) -> list[RawCall]:
        """See `CallStyle`."""
        if not self.start:
            bare = answer.strip()
            return _python_calls(LooseReader(bare), "") if _PYTHON_LIST.match(bare) else []
        calls: list[RawCall] = []
        at = next_mark(answer, self.start, self.end)
        while at >= 0:
            reader = LooseReader(answer, at + len(self.start))
            calls += _python_calls(reader, self.end)
            at = next_mark(answer, self.start, self.end, reader.at)
        return calls


_PYTHON_LIST = re.compile(r"\[\s*[^\W\d][\w.-]*\(")


def _python_calls(reader: LooseReader, end: str) -> list[RawCall]:
    def read() -> list[RawCall]:
        calls: list[RawCall] = []
        listed = reader.take("[")
        while not (listed and reader.take("]")) and not (not listed and calls and _ends(reader, end)):
            printed = reader.take("print(")
            name = reader.word()
            reader.expect("(")
            calls.append(RawCall(name, reader.named("=", ")")))
            if printed:
                reader.expect(")")
            reader.take(",")
        if not _ends(reader, end):
            raise NoValueError("expected the end of the calls", reader.at)
        reader.take(end)
        return calls

    return _read(reader, read, end)


def _ends(reader: LooseReader, end: str) -> bool:
    reader.skip()
    return reader.text.startswith(end, reader.at) if end else reader.at == len(reader.text)


@dataclass(frozen=True)
class GemmaCalls:
    """`call:NAME{key:value}` with marks around texts (Gemma 4, FunctionGemma).

    Attributes:
        start: mark before each call.
        end: mark after it.
        quote: mark around texts.
    """

    start: str
    end: str
    quote: str

    def read(self, answer: str, schemas: Mapping[str, Schema]) -> list[RawCall]:
        """See `CallStyle`."""
        calls: list[RawCall] = []
        at = next_mark(answer, self.start, self.end)
        while at >= 0:
            reader = LooseReader(answer, at + len(self.start), self.quote)

            def read(reader: LooseReader = reader) -> RawCall:
                reader.expect("call:")
                name = reader.word()
                reader.expect("{")
                call = RawCall(name, reader.named(":", "}"))
                reader.expect(self.end)
                return call

            calls.append(_read(reader, read, self.end))
            at = next_mark(answer, self.start, self.end, reader.at)
        return calls


def _read(reader: LooseReader, read: Callable[[], T], end: str) -> T:
    begin = reader.at
    try:
        return read()
    except NoValueError as error:
        rest = reader.text[begin:]
        if error.at >= len(reader.text) or (end and end not in rest):
            raise BadCallError(CUT) from error
        raise BadCallError(
            f"the model wrote a tool call that cannot be read ({error}): {short(rest)}"
        ) from error


def _values(text: str, at: int, end: str, start: str = "") -> tuple[list[JsonValue], int]:
    """JSON values up to a mark, one after the other, lists taken apart; and where they stop."""
    found: list[JsonValue] = []
    at = skip(text, at)
    while at < len(text) and not (end and text.startswith(end, at)):
        if found and (text[at] not in "{[" or (start and text.startswith(start, at))):
            break
        value, at = decode(text, at, end)
        found += _flat(value)
        at = skip(text, at)
    return found, at


def _flat(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) and value else [value]


def skip(text: str, at: int) -> int:
    """The place after what may stand between two values."""
    found = _BETWEEN.match(text, at)
    return at if found is None else found.end()


def decode(text: str, at: int, end: str = "") -> tuple[JsonValue, int]:
    """The JSON value that stands at a place, and where it ends.

    Args:
        text: to read in.
        at: where the value begins.
        end: mark after the values; a text without it is cut.

    Raises:
        BadCallError: there is none, or it is cut.
    """
    try:
        value, stop = _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError) as error:
        if end and end not in text[at:]:
            raise BadCallError(CUT) from error
        block = text[at:].partition(end)[0] if end else text[at:]
        raise _no_json(str(error), block) from error
    return value, stop


def _refuse(constant: str) -> JsonValue:
    raise ValueError(f"{constant} is no JSON number")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _is_call(value: JsonValue) -> bool:
    return isinstance(value, dict) and "name" in value and ("parameters" in value or "arguments" in value)


def _object_call(value: JsonValue) -> RawCall:
    if not isinstance(value, dict):
        raise BadCallError(f"the model wrote a tool call that is no object: {short(value)}")
    inner = value.get("function")
    call = inner if isinstance(inner, dict) and "name" not in value else value
    arguments = call.get("arguments", call.get("parameters", {}))
    if isinstance(arguments, str):  # some models write the arguments as JSON in a text
        text = arguments
        arguments, stop = decode(text, skip(text, 0))
        if text[stop:].strip():
            raise _no_json("Extra data", text)
    return RawCall(call.get("name"), arguments)


def _no_json(reason: str, block: str) -> BadCallError:
    return BadCallError(f"the model wrote a tool call that is no JSON ({reason}): {short(block)}")


def short(value: object) -> str:
    """A value in at most a line."""
    text = " ".join((value if isinstance(value, str) else json.dumps(value)).split())
    return text if len(text) <= _SHORT_CHARS else f"{text[: _SHORT_CHARS - 3]}..."
