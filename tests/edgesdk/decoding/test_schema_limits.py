"""Inputs just above our own bounds, refused before any grammar library is called."""

import pytest

from edgesdk.decoding.json_schema import grammar_schema
from edgesdk.decoding.schema_limits import (
    DEEPEST,
    LARGEST_INTEGER,
    MOST_LARK_DEPTH,
    MOST_MULTIPLE,
    MOST_REFERENCES,
    MOST_REGEX_CHARS,
    MOST_REGEX_DEPTH,
    MOST_REGEX_SIZE,
    MOST_RULES,
    check_lark_limits,
    check_regex_limits,
)
from edgesdk.errors import UnsupportedOption

pytest.importorskip("jsonschema")


def chain(count):
    """A schema where each definition refers to the next."""
    names = {f"a{i}": {"$ref": f"#/$defs/a{i + 1}"} for i in range(count - 1)}
    return {"$ref": "#/$defs/a0", "$defs": names | {f"a{count - 1}": {"type": "integer"}}}


def nested(depth):
    schema = {"type": "integer"}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"const": LARGEST_INTEGER + 1}, "2\\*\\*53"),
        ({"enum": [1, -LARGEST_INTEGER - 1]}, "2\\*\\*53"),
        ({"properties": {"a": {"minimum": 10**19}}}, "2\\*\\*53"),
        ({"maximum": 1e300}, "up to 2\\*\\*53"),
        ({"minimum": float("inf")}, "cannot be written as JSON"),
        ({"multipleOf": MOST_MULTIPLE + 1}, "'multipleOf' at #"),
        ({"multipleOf": 2.00001}, "'multipleOf' at #"),
        (nested(DEEPEST), "nested more than"),
        (chain(MOST_REFERENCES + 1), "refers to 301 places"),
        ({"pattern": "a{" + str(MOST_REGEX_SIZE + 2) + "}"}, "'pattern' at #"),
        ({"patternProperties": {"(" * 60 + "a" + ")" * 60: True}}, "'patternProperties' at #"),
        ({"title": "\ud800"}, "half a character"),
    ],
)
def test_what_is_above_a_bound_is_refused(schema, message):
    with pytest.raises(UnsupportedOption, match=message) as caught:
        grammar_schema(schema)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "schema",
    [
        {"const": LARGEST_INTEGER},
        {"minimum": 0, "maximum": 0.5},
        {"exclusiveMinimum": 0, "exclusiveMaximum": 10},
        {"multipleOf": 0.01},
        {"maxLength": 2**31 - 1},
        chain(MOST_REFERENCES),
        {"$ref": "#/$defs/tree", "$defs": {"tree": {"items": {"$ref": "#/$defs/tree"}}}},
        {"uniqueItems": False, "items": {"uniqueItems": False}},
    ],
)
def test_what_is_within_is_taken(schema):
    assert "uniqueItems" not in grammar_schema(schema)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("a" * (MOST_REGEX_CHARS + 1), "characters"),
        ("(" * (MOST_REGEX_DEPTH + 1), "nested"),
        ("((a{100}){100}){100}", "written out"),
        ("[a-z]{5,999999999999}", "written out"),
    ],
)
def test_regular_expressions_are_bounded(pattern, message):
    with pytest.raises(UnsupportedOption, match=f"the regex .*{message}"):
        check_regex_limits(pattern, "the regex")


@pytest.mark.parametrize("pattern", [r"\(a\{9\}", "(yes|no)", "a{1,3}(b{20}){30}", "a{x}{,}"])
def test_ordinary_ones_are_taken(pattern):
    check_regex_limits(pattern, "the regex")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("start: a0\n" + "".join(f"a{i}: a{i + 1}\n" for i in range(MOST_RULES)), "rules"),
        ("start: " + "(" * (MOST_LARK_DEPTH + 1), "nested"),
        ("start: /a{900000000}/", "written out"),
        ("start: %json " + '{"$ref": "#"}' * (MOST_RULES + 1), "references"),
    ],
)
def test_lark_grammars_are_bounded(text, message):
    with pytest.raises(UnsupportedOption, match=f"Lark grammar .*{message}"):
        check_lark_limits(text)
