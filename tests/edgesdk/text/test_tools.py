"""Tools as callers write them, and what is refused before anything is generated."""

import pytest

from edgesdk.errors import UnsupportedOption
from edgesdk.text.tools import argument_validators, chosen_function, described, wrap_tools

pytest.importorskip("jsonschema")

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WRAPPED = {
    "type": "function",
    "function": {"name": "weather", "description": "Rain or sun.", "parameters": SCHEMA},
}


@pytest.mark.parametrize(
    "tool",
    [
        WRAPPED,
        WRAPPED["function"],
        {"type": "function", **WRAPPED["function"]},
        {"name": "weather", "description": "Rain or sun.", "inputSchema": SCHEMA},
        {"name": "weather", "description": "Rain or sun.", "input_schema": SCHEMA},
    ],
)
def test_templates_get_one_form_of_tools(tool):
    assert wrap_tools([tool]) == [WRAPPED]
    assert list(wrap_tools([tool])[0]["function"]) == ["name", "description", "parameters"]
    assert described([tool]) == {"weather": SCHEMA}


def test_a_tool_without_parameters_takes_none():
    (tool,) = wrap_tools([{"name": "clock"}])
    assert tool["function"]["parameters"] == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ([{}], "name None"),
        ([{"function": 3}], "name None"),
        ([{"name": ""}], "name ''"),
        ([len], "is a builtin_function_or_method, expected a description"),
        ([{"name": "clock"}, {"name": "clock"}], "that no other tool has"),
        ([{"name": "f", "parameters": 3}], "is not a JSON schema"),
    ],
)
def test_tools_are_checked(tools, message):
    with pytest.raises(UnsupportedOption, match=message):
        described(tools)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "wrong"}, r"is not a JSON schema of draft 2020-12: .* .at #/type."),
        (
            {"type": "object", "properties": {"n": {"minimum": 0, "exclusiveMinimum": True}}},
            "at #/properties/n/exclusiveMinimum",
        ),
        ({"properties": {"n": {"type": "array", "items": [{"type": "integer"}]}}}, "at #/properties/n/items"),
        ({"properties": {"n": {"$ref": "#/$defs/none"}}}, "unknown reference"),
        ({"$ref": "https://example.org/x"}, "unknown reference"),
        ({"$ref": "#"}, "leads back to itself"),
        ({"properties": {"n": {"pattern": "["}}}, r"'\[' is not a 'regex'"),
        ({"patternProperties": {"(": {}}}, "is not a 'regex'"),
    ],
)
def test_a_schema_that_could_not_be_used_later_is_refused_before(schema, message):
    with pytest.raises(UnsupportedOption, match=message) as caught:
        argument_validators([{"name": "f", "parameters": schema}])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_schema_may_refer_to_its_own_parts():
    schema = {
        "$defs": {"tree": {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}}}},
        "properties": {"root": {"$ref": "#/$defs/tree"}, "word": {"const": {"pattern": "["}}},
    }
    validator = argument_validators([{"name": "f", "parameters": schema}])["f"]
    assert validator.is_valid({"root": {"left": {"left": {}}}})
    assert not validator.is_valid({"root": {"left": 1}})


def test_a_choice_may_name_a_function():
    assert chosen_function("auto", ["f"]) is chosen_function(None, ["f"]) is None
    assert chosen_function({"type": "function", "function": {"name": "f"}}, ["f", "g"]) == "f"
    assert chosen_function({"name": "g"}, ["f", "g"]) == "g"
    with pytest.raises(UnsupportedOption, match="names 'h', expected one of f, g"):
        chosen_function({"name": "h"}, ["g", "f"])
    with pytest.raises(UnsupportedOption, match="tool_choice is 'any', expected 'auto'"):
        chosen_function("any", ["f"])
