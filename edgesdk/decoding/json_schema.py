"""Makes JSON Schemas ready for llguidance, and refuses rules that it would not enforce, by their keyword.

llguidance refuses the keywords of draft 2020-12 that it lacks, but, as the standard lets it, reads past
words that it does not know: a misspelt `requiredProperties` would silently allow more than was meant. So
every schema is first held against its metaschema (by the jsonschema package), then against the lists
below. Words that start with `x-` are notes. It builds no grammar.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import ROUND_DOWN, Decimal
from operator import ge, gt, le, lt

from edgesdk.bundle.records import JsonValue
from edgesdk.decoding.calendar_dates import PATTERNS
from edgesdk.decoding.schema_limits import (
    DEEPEST,
    check_number_rules,
    check_regex_limits,
    check_schema_limits,
    fraction_digits,
    number_bounds,
)
from edgesdk.errors import MissingExtra, UnsupportedOption
from edgesdk.text.sound_text import check_sound_text

_ENFORCED = frozenset(
    (
        *("$ref", "$defs", "definitions", "$anchor", "$id", "$schema", "type", "enum", "const"),
        *("anyOf", "allOf", "oneOf", "items", "prefixItems", "minItems", "maxItems"),
        *("properties", "required", "additionalProperties", "patternProperties"),
        *("minProperties", "maxProperties", "minLength", "maxLength", "pattern", "format"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    )
)
_NOTES = frozenset(
    (
        *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment"),
        "example",  # OpenAPI's
    )
)
_FORMATS_OF_ANY_TEXT = frozenset(("password", "binary", "path", "file-path", "directory-path"))
"""OpenAPI's and pydantic's; they say how a text is used, not which texts there are."""

_BY_NAME = ("properties", "patternProperties", "$defs", "definitions")
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_SINGLE = ("items", "additionalProperties")
_DRAFTS = (
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema",
    "http://json-schema.org/draft-06/schema",
)
"""In these, whatever is valid in the newest and uses only the keywords above means the same."""

_LAYOUT: dict[str, JsonValue] = {
    "lenient": False,
    "coerce_one_of": False,
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}
"""Options of llguidance: refuse what it does not know, and write as `json.dumps` does."""

_MOST_CHARS = 1 << 20

Schema = dict[str, JsonValue]


def grammar_schema(schema: Mapping[str, object] | bool) -> str:
    """The JSON text of a schema for llguidance, once it is sure that all of it will be enforced.

    Raises:
        UnsupportedOption: it is no schema, or has a keyword that cannot be enforced.
        MissingExtra: the jsonschema package is not installed.
    """
    if schema is False or not isinstance(schema, Mapping | bool):
        found = "false, which allows no document" if schema is False else f"a {type(schema).__name__}"
        raise UnsupportedOption(f"json_schema is {found}; expected an object (dict), or true for any JSON")
    try:
        text = json.dumps({} if schema is True else schema, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UnsupportedOption(f"json_schema cannot be written as JSON: {error}") from error
    if len(text) > _MOST_CHARS:
        raise UnsupportedOption(f"json_schema has {len(text)} characters, expected at most {_MOST_CHARS}")
    check_sound_text(text, "json_schema")
    parsed = json.loads(text)
    check_schema_limits(parsed)
    _check_shape(parsed)
    parts = list(_parts(parsed, "#", 0))
    combined = any(_is_combined(part) for _, part in parts)
    for place, part in parts:
        _check_keywords(place, part)
        check_number_rules(place, part)
        _check_patterns(place, part)
        _write_formats_out(part)
        _add_short_numbers(part)
        part.pop("uniqueItems", None)  # false, or it had been refused
        if not combined:
            _close(part)
    return json.dumps(parsed | {"x-guidance": _LAYOUT})


def _check_shape(schema: JsonValue) -> None:
    """Holds a schema against the metaschema of its draft."""
    try:
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import SchemaError
    except ImportError as error:
        raise MissingExtra("jsonschema", "structured") from error

    asked = schema.get("$schema", _DRAFTS[0]) if isinstance(schema, dict) else _DRAFTS[0]
    if not isinstance(asked, str) or asked.removesuffix("#") not in _DRAFTS:
        raise UnsupportedOption(f"the JSON schema is written in {asked!r}, expected {_DRAFTS[0]}; convert it")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        where = "/".join(["#", *(str(step) for step in error.absolute_path)])
        raise UnsupportedOption(f"the JSON schema is not valid at {where}: {error.message[:200]}") from error
    except RecursionError as error:
        raise UnsupportedOption("the JSON schema is nested too deeply") from error


def _parts(schema: JsonValue, place: str, depth: int) -> Iterator[tuple[str, Schema]]:
    """Every schema inside a schema, with its JSON pointer; true and false have nothing to check."""
    if depth > DEEPEST:
        raise UnsupportedOption(f"the JSON schema is nested more than {DEEPEST} deep")
    if not isinstance(schema, dict):
        return
    yield place, schema
    for key in _BY_NAME:
        inner = schema.get(key)
        if isinstance(inner, dict):
            for name, part in inner.items():
                yield from _parts(part, f"{place}/{key}/{name}", depth + 1)
    for key in _LISTS:
        items = schema.get(key)
        if isinstance(items, list):
            for index, part in enumerate(items):
                yield from _parts(part, f"{place}/{key}/{index}", depth + 1)
    for key in _SINGLE:
        yield from _parts(schema.get(key), f"{place}/{key}", depth + 1)


def _check_patterns(place: str, schema: Schema) -> None:
    pattern = schema.get("pattern")
    if isinstance(pattern, str):
        check_regex_limits(pattern, f"the JSON schema's 'pattern' at {place}")
    names = schema.get("patternProperties")
    for name in names if isinstance(names, dict) else ():
        check_regex_limits(name, f"a name in the JSON schema's 'patternProperties' at {place}")


def _is_combined(schema: Schema) -> bool:
    """Whether several schemas hold for one object at once."""
    every = schema.get("allOf")
    if isinstance(every, list) and len(every) > 1:
        return True
    return "properties" in schema and any(key in schema for key in (*_LISTS[:3], "$ref"))


def _close(schema: Schema) -> None:
    """Leaves an object the properties that its schema lists, where it says nothing of others.

    The standard allows any others then, and a model that may write them does, the same ones again and again.
    A document without them is valid all the same. Where several schemas hold for one object none is closed,
    for neither lists the other's.
    """
    rest = ("additionalProperties", "patternProperties", "minProperties")
    listed = schema.get("properties")
    if isinstance(listed, dict) and listed and not any(key in schema for key in rest):
        required = schema.get("required", [])
        if isinstance(required, list) and set(map(str, required)) <= set(listed):
            schema["additionalProperties"] = False


def _write_formats_out(schema: Schema) -> None:
    """Takes a `format` away that allows any text, and puts a pattern in the place of one of dates."""
    if schema.get("format") in _FORMATS_OF_ANY_TEXT:
        del schema["format"]
    pattern = PATTERNS.get(str(schema.get("format")))
    if pattern is None:
        return
    del schema["format"]
    if "pattern" not in schema:
        schema["pattern"] = pattern
        return
    others = schema.get("allOf")
    schema["allOf"] = [*(others if isinstance(others, list) else []), {"pattern": pattern}]


def _add_short_numbers(schema: Schema) -> None:
    """Allows what llguidance (1.3) leaves out of a range: beginnings of a bound, such as 0.9 of 0.95."""
    bounds, kinds = number_bounds(schema), schema.get("type", "number")
    has_numbers = kinds == "number" or (isinstance(kinds, list) and "number" in kinds)
    if not has_numbers or set(schema) - _NOTES - {"type", *bounds}:
        return
    short: set[Decimal] = set()
    for bound in bounds.values():
        for digits in range(1, fraction_digits(bound)):
            short.add(bound.quantize(Decimal(1).scaleb(-digits), ROUND_DOWN))
    within = sorted(value for value in short if value and _is_within(value, bounds))
    if within:
        ranged = dict(schema)
        schema.clear()
        schema["anyOf"] = [ranged, {"enum": [float(value) for value in within]}]


def _is_within(value: Decimal, bounds: Mapping[str, Decimal]) -> bool:
    fits = {"minimum": ge, "maximum": le, "exclusiveMinimum": gt, "exclusiveMaximum": lt}
    return all(fits[key](value, bound) for key, bound in bounds.items())


def _check_keywords(place: str, schema: Schema) -> None:
    for key in schema:
        if key == "uniqueItems" and schema[key] is False:  # what holds without it
            continue
        if key == "discriminator" and ("oneOf" in schema or "anyOf" in schema):  # which of them to try first
            continue
        if key == "x-guidance" or not (key in _ENFORCED or key in _NOTES or key.startswith("x-")):
            raise UnsupportedOption(
                f"the JSON schema keyword {key!r} at {place} is not supported; without it the answer could "
                "break that rule"
            )
    least = schema.get("minProperties", 0)
    required = schema.get("required")
    sure = (len(set(map(str, required))) if isinstance(required, list) else 0) + 1
    # Names that only additionalProperties or patternProperties allow may come twice, and then count twice.
    if isinstance(least, int | float) and least > sure:
        raise UnsupportedOption(
            f"the JSON schema keyword 'minProperties' at {place} is {least}, supported is up to {sure}: one "
            "more than the properties in 'required'"
        )
