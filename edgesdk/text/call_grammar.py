"""Lark grammars (in llguidance's variant) for an answer that is one call and nothing else.

Where arguments are JSON, their schema goes into the grammar whole. Forms that write them otherwise (tags,
Python, Gemma's marks) get a rule for each argument; what such a rule cannot hold to the schema is refused by
the argument's name. It compiles nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgesdk.bundle.records import JsonValue
from edgesdk.errors import UnsupportedOption
from edgesdk.text.argument_types import Schema, allowed_types, resolve
from edgesdk.text.call_forms import CALL_FORMS, CallForm
from edgesdk.text.call_styles import GemmaCalls, NamedCalls, PythonCalls
from edgesdk.text.parameter_calls import ParameterCalls

_TOP_KEYWORDS = frozenset({"type", "properties", "required", "additionalProperties", "$defs", "definitions"})
_NOTES = frozenset(
    {
        "title",
        "description",
        "default",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
        "$comment",
        "$schema",
    }
)
_PLACES = re.compile(r"(NAME|ARGUMENTS)")
_WORDS = {"python": ("True", "False"), "gemma": ("true", "false")}


def call_grammar(
    form: str,
    schemas: Mapping[str, str],
    specials: Mapping[str, int] | None = None,
    *,
    thought_end: str | None = None,
) -> str:
    """A grammar for an answer that is one call.

    Args:
        form: a name of `CALL_FORMS`.
        schemas: JSON text of the argument schema of each function, by name; checked before.
        specials: ids of special tokens by their text, which a grammar has to name by id.
        thought_end: mark that ends a thought which the prompt has begun; the call comes after it.

    Raises:
        UnsupportedOption: the form cannot hold a call to a function's schema.
    """
    writer = _Writer(specials or {})
    calls = []
    for index, (name, schema) in enumerate(schemas.items()):
        writer.lines[f"call_{index}"] = _call(CALL_FORMS[form], name, schema, f"{index}", writer)
        calls.append(f"call_{index}")
    start = "call"
    if thought_end is not None:
        end = writer.literal(thought_end)
        if end.startswith("<["):
            writer.lines["thought"] = f"THOUGHT {end}"
            writer.lines["THOUGHT"] = "/(.|\\n)*/"
        else:
            writer.lines[f"thought[suffix={end}]"] = "/(.|\\n)*/"
        start = r"thought /\n*/ call"
    head = {"start": start, "call": " | ".join(calls)}
    return "\n".join(f"{name}: {rule}" for name, rule in {**head, **writer.lines}.items())


@dataclass
class _Writer:
    """Rules by name, and how texts are written in them."""

    specials: Mapping[str, int]
    lines: dict[str, str] = field(default_factory=dict)

    def literal(self, text: str) -> str:
        """A text, with its special tokens by id."""
        longest_first = sorted(filter(None, self.specials), key=len, reverse=True)
        marks = "|".join(map(re.escape, longest_first)) or r"\Z"
        parts = [part for part in re.split(f"({marks})", text) if part]
        joined: list[str] = []
        plain = ""
        for part in [*parts, None]:
            if part is not None and part not in self.specials:
                plain += part
                continue
            if plain:
                joined.append(json.dumps(plain))
                plain = ""
            if part is not None:
                joined.append(f"<[{self.specials[part]}]>")
        return " ".join(joined)


def _call(form: CallForm, name: str, schema: str, index: str, writer: _Writer) -> str:
    """The rule of one function's call."""
    style = form.style
    if isinstance(style, ParameterCalls | PythonCalls | GemmaCalls):
        if not re.fullmatch(r"[^\W\d][\w.-]*", name):
            raise UnsupportedOption(
                f"the model's form of calls has no way to write the name {name!r}; use letters, digits and _"
            )
        arguments = _Arguments(name, json.loads(schema), index, writer)
        if isinstance(style, ParameterCalls):
            inner = arguments.tags(style)
        elif isinstance(style, GemmaCalls):
            inner = arguments.listed(":", ",", style.quote, _WORDS["gemma"])
        else:
            inner = arguments.listed("=", ", ", None, _WORDS["python"])
    else:
        inner = f"args_{index}"
        writer.lines[inner] = f"%json {schema}"
    bare_name = not isinstance(style, NamedCalls | ParameterCalls | PythonCalls | GemmaCalls)
    fills = {"NAME": json.dumps(name) if bare_name else name}
    rule: list[str] = []
    text = ""
    for part in _PLACES.split(form.call):
        if part == "ARGUMENTS":
            rule += [writer.literal(text), inner]
            text = ""
        else:
            text += fills.get(part, part)
    return " ".join(part for part in [*rule, writer.literal(text)] if part)


@dataclass
class _Arguments:
    """The arguments of one function, in forms that do not write them as one JSON object."""

    name: str
    schema: Schema
    index: str
    writer: _Writer

    def tags(self, style: ParameterCalls) -> str:
        """Tags around each argument: texts as they are, all else as JSON."""
        rules = []
        tag, line = style.parameter, style.line
        for place, (key, part, needed) in enumerate(self._properties()):
            rule = f"arg_{self.index}_{place}"
            head = self.writer.literal(f"{tag.head}{key}{tag.middle}{line}")
            tail = f"{line}{tag.end}{line}"
            kinds = self._kinds(key, part)
            texts = self._texts(part)
            if texts is not None:
                value = f"({' | '.join(map(json.dumps, texts))}) {self.writer.literal(tail)}"
            elif kinds == ["string"]:
                self._check_free_text(key, part)
                value = self._free_text(rule, tail, style.raw)
            else:
                self.writer.lines[f"{rule}_json"] = f"%json {self._alone(part, kinds)}"
                value = f"{rule}_json {self.writer.literal(tail)}"
            self.writer.lines[rule] = f"{head} {value}"
            rules.append(rule if needed else f"{rule}?")
        return " ".join(rules)

    def _free_text(self, rule: str, tail: str, raw: tuple[str, str]) -> str:
        """Any text up to the tag that ends it, in its own marks where it holds what tags are made of."""
        if not raw[0]:
            self.writer.lines[f"{rule}_text[suffix={json.dumps(tail)}]"] = "/(.|\\n)*/"
            return f"{rule}_text"
        self.writer.lines[f"{rule}_raw[suffix={json.dumps(raw[1])}]"] = "/(.|\\n)*/"
        plain = r"/[^<&\n]*/"
        return f"({plain} | {json.dumps(raw[0])} {rule}_raw) {self.writer.literal(tail)}"

    def listed(self, between: str, comma: str, quote: str | None, words: Sequence[str]) -> str:
        """Python's and Gemma's lists: `key=value` or `key:value` with commas."""
        needed: list[str] = []
        others: list[str] = []
        for place, (key, part, is_needed) in enumerate(self._properties()):
            if not re.fullmatch(r"[^\W\d]\w*", key):
                raise self._refusal(key, "its name cannot be written")
            rule = f"arg_{self.index}_{place}"
            value = self._value(key, part, quote, words)
            self.writer.lines[rule] = f"{json.dumps(key + between)} {value}"
            (needed if is_needed else others).append(rule)
        glue = json.dumps(comma)
        later = [f"({glue} {rule})?" for rule in others]
        if needed:
            return f" {glue} ".join(needed) + "".join(f" {part}" for part in later)
        ways = [" ".join([rule, *later[place + 1 :]]) for place, rule in enumerate(others)]
        return f"({' | '.join(ways)})?" if ways else ""

    def _value(self, key: str, part: Schema, quote: str | None, words: Sequence[str]) -> str:
        texts = self._texts(part)
        if texts is not None:
            quoted = [
                json.dumps(t, ensure_ascii=False) if quote is None else f"{quote}{t}{quote}" for t in texts
            ]
            return "(" + " | ".join(self.writer.literal(text) for text in quoted) + ")"
        kinds = self._kinds(key, part)
        if kinds == ["string"]:
            self._check_free_text(key, part)
            if quote is None:
                return r'/"([^"\\\x00-\x1f]|\\["\\nrt])*"/'
            mark = self.writer.literal(quote)
            return f"{mark} /[^<]*/ {mark}"
        if kinds == ["boolean"] and not set(part) & {"const", "enum"}:
            return f"({' | '.join(map(json.dumps, words))})"
        if kinds in (["integer"], ["number"]):
            rule = f"json_{self.index}_{len(self.writer.lines)}"
            self.writer.lines[rule] = f"%json {self._alone(part, kinds)}"
            return rule
        raise self._refusal(key, f"{' or '.join(kinds)} values cannot be held to a schema there")

    def _properties(self) -> list[tuple[str, Schema, bool]]:
        """Name, schema, and whether it is required, of each argument; required ones first."""
        root = self.schema
        for keyword in root:
            if keyword not in _TOP_KEYWORDS | _NOTES and not keyword.startswith("x-"):
                raise UnsupportedOption(
                    f"the keyword {keyword!r} of the tool {self.name} cannot be enforced in the model's form "
                    "of calls; leave it out, or use tool_choice 'auto'"
                )
        properties = root.get("properties")
        known = properties if isinstance(properties, Mapping) else {}
        asked = root.get("required")
        needed = [str(key) for key in asked] if isinstance(asked, list) else []
        for key in needed:
            if key not in known:
                raise self._refusal(key, "'properties' does not describe it")
        return sorted(
            ((key, resolve(part, root), key in needed) for key, part in known.items() if part is not False),
            key=lambda entry: not entry[2],
        )

    def _kinds(self, key: str, part: Schema) -> list[str]:
        """The types of an argument that may be written: null is left to those who leave the argument out."""
        kinds = allowed_types(part, self.schema)
        named = sorted(kinds - {"null"}) or ["null"]
        if "string" in named and len(named) > 1:
            raise self._refusal(key, f"it may be {' or '.join(named)}, which look alike there")
        return named

    def _texts(self, part: Schema) -> list[str] | None:
        """The texts that an `enum` or `const` allows; None where it allows others than texts."""
        values: JsonValue = [part["const"]] if "const" in part else part.get("enum")
        if not isinstance(values, list) or set(part) - {"const", "enum", "type"} - _NOTES:
            return None
        texts = [value for value in values if isinstance(value, str)]
        sound = texts and all(value is None or isinstance(value, str) for value in values)
        return texts if sound and not any("<" in text or "\n" in text for text in texts) else None

    def _check_free_text(self, key: str, part: Schema) -> None:
        for keyword in part:
            if keyword not in _NOTES | {"type", "anyOf"} and not keyword.startswith("x-"):
                raise self._refusal(key, f"{keyword!r} of a text cannot be enforced there")
        options = part.get("anyOf")
        for option in options if isinstance(options, list) else []:
            self._check_free_text(key, resolve(option, self.schema))

    def _alone(self, part: Schema, kinds: Sequence[str]) -> str:
        """An argument's schema as a document of its own."""
        shared = {
            key: self.schema[key] for key in ("$defs", "definitions", "x-guidance") if key in self.schema
        }
        whole: dict[str, JsonValue] = {**part, **shared}
        if isinstance(part.get("type"), list):
            whole["type"] = list(kinds)
        return json.dumps(whole)

    def _refusal(self, key: str, why: str) -> UnsupportedOption:
        return UnsupportedOption(
            f"tool_choice 'required' cannot hold the argument {key!r} of the tool {self.name} to its schema "
            f"in the model's form of calls: {why}; change its schema, or use tool_choice 'auto'"
        )
