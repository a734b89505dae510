import json

import pytest

from edgesdk.decoding.json_schema import grammar_schema
from edgesdk.errors import UnsupportedOption

pytest.importorskip("jsonschema")


def test_a_schema_gets_the_layout_and_keeps_the_rest():
    schema = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {}}, "x-note": 1}
    schema["additionalProperties"] = True
    text = json.loads(grammar_schema(schema))
    assert text.pop("x-guidance")["lenient"] is False
    assert text == schema
    assert list(text["properties"]) == ["b", "a"]


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {"type": "null"}}},
        {"properties": {"not": {"type": "string"}, "contains": True}},
        {"title": "t", "description": "d", "default": {"not": 1}, "examples": [{"if": 1}], "$comment": "c"},
        {"enum": [{"uniqueItems": True}], "const": {"then": 1}},
        {"type": "object", "required": ["a", "b"], "minProperties": 3},
        # As pydantic writes tagged unions, secrets and paths.
        {"oneOf": [{"const": 1}, {"const": 2}], "discriminator": {"propertyName": "kind"}},
        {"type": "string", "format": "password", "writeOnly": True, "example": "x"},
        {"type": "string", "format": "file-path"},
    ],
)
def test_what_can_be_enforced_is_taken(schema):
    grammar_schema(schema)


UNSUPPORTED = {
    "not": {},
    "if": {},
    "uniqueItems": True,
    "contains": {},
    "minContains": 1,
    "propertyNames": {},
    "dependentRequired": {},
    "dependentSchemas": {},
    "unevaluatedProperties": False,
    "unevaluatedItems": False,
    "contentEncoding": "base64",
    "$dynamicRef": "#a",
    "nullable": True,
    "discriminator": {},
    "requiredProperties": ["a"],
    "x-guidance": {"lenient": True},
}


@pytest.mark.parametrize("keyword", UNSUPPORTED)
@pytest.mark.parametrize(
    ("place", "wrap"),
    [
        ("#", lambda s: s),
        ("#/properties/a", lambda s: {"properties": {"a": s}}),
        ("#/patternProperties/^a", lambda s: {"patternProperties": {"^a": s}}),
        ("#/$defs/a/anyOf/1", lambda s: {"$defs": {"a": {"anyOf": [True, s]}}, "$ref": "#/$defs/a"}),
        ("#/items/prefixItems/0", lambda s: {"items": {"prefixItems": [s]}}),
        ("#/additionalProperties/allOf/0", lambda s: {"additionalProperties": {"allOf": [s]}}),
        ("#/oneOf/0", lambda s: {"oneOf": [s]}),
    ],
)
def test_an_unsupported_keyword_is_named_wherever_it_stands(keyword, place, wrap):
    with pytest.raises(UnsupportedOption) as caught:
        grammar_schema(wrap({keyword: UNSUPPORTED[keyword]}))
    assert f"'{keyword}' at {place} is not supported" in str(caught.value)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (False, "allows no document"),
        ("object", "is a str; expected an object"),
        ([], "is a list"),
        ({"type": "strnig"}, "not valid at #/type"),
        ({"properties": {"a": {"minLength": -1}}}, "not valid at #/properties/a/minLength"),
        ({"type": "integer", "exclusiveMinimum": True}, "exclusiveMinimum"),
        ({"items": [{"type": "integer"}]}, "not valid at #/items"),
        ({"$schema": "http://json-schema.org/draft-03/schema#"}, "written in"),
        ({"$schema": 3}, "written in 3"),
        ({"minimum": float("nan")}, "cannot be written as JSON"),
        ({"enum": [{1, 2}]}, "cannot be written as JSON"),
        (
            {"type": "object", "required": ["a"], "minProperties": 3},
            "'minProperties' at # is 3, supported is",
        ),
        ({"const": "x" * (1 << 20)}, "characters, expected at most"),
    ],
)
def test_what_is_no_schema_is_one_line(schema, message):
    with pytest.raises(UnsupportedOption) as caught:
        grammar_schema(schema)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("depth", [200, 5000])
def test_endless_nesting_is_refused(depth):
    schema = {}
    for _ in range(depth):
        schema = {"items": schema}
    with pytest.raises(UnsupportedOption, match=r"nested|JSON"):
        grammar_schema(schema)


@pytest.mark.parametrize(
    ("schema", "closed"),
    [
        ({"type": "object", "properties": {"a": {"type": "integer"}}}, True),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": True}, False),
        ({"type": "object", "properties": {"a": {}}, "patternProperties": {"^b": {}}}, False),
        ({"type": "object"}, False),
        ({"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}, False),
        ({"properties": {"a": {}}, "anyOf": [{"properties": {"b": {}}}, {"required": ["a"]}]}, False),
        ({"properties": {"a": {}}, "required": ["b"]}, False),
    ],
)
def test_an_object_that_lists_its_properties_has_no_others(schema, closed):
    written = json.loads(grammar_schema(schema))
    assert (written.get("additionalProperties") is False) == closed
    if not closed:
        assert '"additionalProperties": false' not in json.dumps(written)


def test_objects_inside_are_closed_as_pydantic_writes_them():
    inner = {"type": "object", "properties": {"zip": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}
    schema = {
        "$defs": {"Address": inner},
        "type": "object",
        "properties": {"home": {"$ref": "#/$defs/Address"}, "others": {"type": "array", "items": inner}},
        "required": ["home"],
    }
    written = json.loads(grammar_schema(schema))
    assert written["$defs"]["Address"]["additionalProperties"] is False
    assert written["properties"]["others"]["items"]["additionalProperties"] is False
