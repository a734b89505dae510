"""Calls whose arguments stand between tags of their own, texts without quotes.

What is read here is neither checked against a function nor called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from edgesdk.bundle.records import JsonValue
from edgesdk.text.argument_types import Schema, allowed_types, type_of
from edgesdk.text.call_marks import next_mark
from edgesdk.text.call_styles import CUT, BadCallError, RawCall, decode, short, skip
from edgesdk.text.loose_values import LooseReader, NoValueError


@dataclass(frozen=True)
class Tags:
    """A tag with a name in it, and the one that closes it.

    Attributes:
        head: before the name.
        middle: after the name.
        end: closes it.
    """

    head: str
    middle: str
    end: str

    def named(self, name: str, inner: str) -> str:
        """Regular expression for the tags and what stands between them.

        Args:
            name: group of the name.
            inner: regular expression for what stands between.
        """
        head, middle, end = map(re.escape, (self.head, self.middle, self.end))
        return rf"{head}(?P<{name}>[^>\n]+?){middle}{inner}{end}"


@dataclass(frozen=True)
class ParameterCalls:
    """Each argument between tags of its own (Qwen3-Coder, Qwen3.5, MiniCPM5).

    Attributes:
        function: around all of a call's arguments.
        parameter: around one.
        line: between the tags of an argument and its value, and after the tags.
        call: marks around the function's tags; empty where there are none.
        raw: marks around a text that may hold tags; empty where a form has none.
    """

    function: Tags
    parameter: Tags
    line: str = ""
    call: tuple[str, str] = ("", "")
    raw: tuple[str, str] = ("", "")

    def read(self, answer: str, schemas: Mapping[str, Schema]) -> list[RawCall]:
        """See `CallStyle`."""
        calls: list[RawCall] = []
        seen, end = self._blanked(answer), 0
        for found in self._functions().finditer(seen):
            name = found.group("name").strip()
            if seen.count(self.function.head, end, found.start()):
                raise BadCallError(CUT)
            end = found.end()
            body = slice(*found.span("body"))
            calls.append(RawCall(name, self._arguments(answer[body], seen[body], schemas.get(name, {}))))
        if next_mark(seen, self.function.head, self.function.end, end, words=False) >= 0:
            raise BadCallError(CUT)
        at = next_mark(seen, *self.call) if self.call[0] and not calls else -1
        if at >= 0:
            rest = answer[at:]
            raise BadCallError(
                CUT if self.call[1] not in rest else f"a tool call names no function: {short(rest)}"
            )
        return calls

    def _blanked(self, answer: str) -> str:
        """The answer with something else, as long, in place of texts that may hold tags."""
        start, end = map(re.escape, self.raw)
        if not start:
            return answer
        return re.sub(rf"{start}.*?(?:{end}|\Z)", lambda m: "\0" * len(m[0]), answer, flags=re.DOTALL)

    def _functions(self) -> re.Pattern[str]:
        pattern = self.function.named("name", "(?P<body>.*?)")
        if not self.raw[0]:  # a value may hold the tag, so what follows it counts
            nexts = (*self.call, self.function.head, "<|")
            pattern += rf"(?=\s*(?:{'|'.join(re.escape(mark) for mark in nexts if mark)}|\Z))"
        return re.compile(pattern, re.DOTALL)

    def _arguments(self, body: str, seen: str, schema: Schema) -> dict[str, JsonValue]:
        properties = schema.get("properties")
        known = properties if isinstance(properties, Mapping) else {}
        found: dict[str, JsonValue] = {}
        end = 0
        pattern = self.parameter.named("key", "(?P<value>.*?)")
        if not self.raw[0]:
            pattern += rf"(?=\s*(?:{re.escape(self.parameter.head)}|\Z))"
        for match in re.finditer(pattern, seen, re.DOTALL):
            if seen[end : match.start()].strip():
                break
            end = match.end()
            key, value = match.group("key").strip(), body[slice(*match.span("value"))]
            found[key] = self._value(value, known.get(key), schema)
        if seen[end:].strip():
            raise BadCallError(f"a tool call has more than parameters: {short(body[end:])}")
        return found

    def _value(self, written: str, schema: JsonValue, root: Schema) -> JsonValue:
        start, end = self.raw
        bare = written.strip()
        if start and bare.startswith(start) and bare.endswith(end):
            return _typed(bare[len(start) : -len(end)], schema, root)
        return _typed(written.removeprefix(self.line).removesuffix(self.line), schema, root)


def _typed(text: str, schema: JsonValue, root: Schema) -> JsonValue:
    """A text without quotes as what its schema allows; a text where it may be one and nothing says more."""
    types = allowed_types(schema, root) if isinstance(schema, Mapping) else frozenset({"string"})
    if types == {"string"} or len(types) > 6:
        return text
    reader = LooseReader(text)
    try:
        value, end = decode(text, skip(text, 0))
        whole = not text[end:].strip()
    except BadCallError:
        try:
            value = reader.value()  # templates print Python's True and None
            reader.skip()
            whole = reader.at == len(text)
        except NoValueError:
            return text
    kind = type_of(value)
    fits = kind in types or (kind == "integer" and "number" in types)
    return value if whole and (fits or "string" not in types) else text
