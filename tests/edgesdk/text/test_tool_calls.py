import pytest

from edgesdk.errors import ToolCallError, UnsupportedOption
from edgesdk.text.tool_calls import ToolCall, call_format, described, parse_tool_calls

pytest.importorskip("jsonschema")

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
CLOCK = {"name": "clock"}
TOOLS = [WEATHER, CLOCK]
PARIS = ToolCall("weather", {"city": "Paris", "days": 2})


@pytest.mark.parametrize(
    ("form", "text", "calls"),
    [
        ("hermes", "Sunny, I think.", ()),
        (
            "hermes",
            "Let me see. <tool_call>\n"
            '{"name": "weather", "arguments": {"city": "Paris", "days": 2}}\n</tool_call>',
            (PARIS,),
        ),
        (
            "hermes",
            '<tool_call>{"name": "clock", "arguments": {}}</tool_call>\n'
            '<tool_call>{"name": "weather", "arguments": {"city": "Paris", "days": 2}}</tool_call>',
            (ToolCall("clock", {}), PARIS),
        ),
        ("hermes", '<tool_call>{"name": "clock"}</tool_call>', (ToolCall("clock", {}),)),
        (
            "hermes",
            '<tool_call>{"name": "weather", '
            '"arguments": "{\\"city\\": \\"Paris\\", \\"days\\": 2}"}</tool_call>',
            (PARIS,),
        ),
        ("llama3", "It is {sunny}.", ()),
        ("llama3", '{"weather": "sunny"}', ()),
        ("llama3", "{sunny", ()),
        ("llama3", '{"name": "weather", "parameters": {"city": "Paris", "days": 2}}', (PARIS,)),
        ("llama3", '<|python_tag|>{"name": "clock", "parameters": {}}', (ToolCall("clock", {}),)),
        ("mistral", "Sunny.", ()),
        (
            "mistral",
            '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Paris", "days": 2}}]',
            (PARIS,),
        ),
        ("mistral", '[TOOL_CALLS][{"name": "clock", "arguments": {}, "id": "a1"}]', (ToolCall("clock", {}),)),
    ],
)
def test_calls_are_found(form, text, calls):
    assert parse_tool_calls(text, form, TOOLS) == calls


@pytest.mark.parametrize(
    ("form", "text", "message"),
    [
        ("hermes", '<tool_call>{"name": "clock"', "ends inside a tool call"),
        ("hermes", "<tool_call>clock()</tool_call>", "no JSON"),
        ("hermes", f"<tool_call>{'[' * 100_000}</tool_call>", "no JSON"),
        ("hermes", '<tool_call>["clock"]</tool_call>', "no object"),
        (
            "hermes",
            '<tool_call>{"name": "rain", "arguments": {}}</tool_call>',
            "called rain, expected one of clock, w",
        ),
        ("hermes", '<tool_call>{"arguments": {}}</tool_call>', "called null"),
        (
            "hermes",
            '<tool_call>{"name": "clock", "arguments": [1]}</tool_call>',
            "are \\[1\\], expected an object",
        ),
        (
            "hermes",
            '<tool_call>{"name": "weather", "arguments": {}}</tool_call>',
            r"\$: 'city' is a required",
        ),
        (
            "hermes",
            '<tool_call>{"name": "weather", "arguments": {"city": "P", "days": 0}}</tool_call>',
            r"\$.days: 0 is less than",
        ),
        (
            "hermes",
            '<tool_call>{"name": "weather", "arguments": {"city": "P", "days": NaN}}</tool_call>',
            "NaN is no JSON number",
        ),
        ("llama3", '{"name": "rain", "parameters": {}}', "called rain"),
        ("llama3", "<|python_tag|>weather.call(city=1)", "no JSON"),
        ("mistral", "[TOOL_CALLS] weather", "no JSON"),
        ("mistral", '[TOOL_CALLS] {"name": "clock"}', "not followed by a list"),
    ],
)
def test_calls_that_cannot_be_made_are_one_line(form, text, message):
    with pytest.raises(ToolCallError, match=message) as caught:
        parse_tool_calls(text, form, TOOLS)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert caught.value.answer == text


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ([{}], "name None"),
        ([{"function": 3}], "name None"),
        ([CLOCK, CLOCK], "that no other tool has"),
        ([{"name": "f", "parameters": 3}], "is not a JSON schema"),
    ],
)
def test_tools_are_checked(tools, message):
    with pytest.raises(UnsupportedOption, match=message):
        described(tools)


@pytest.mark.parametrize(
    ("schema", "message"),
    [({"type": "wrong"}, "is not a JSON schema"), ({"$ref": "https://example.org/x"}, "unknown reference")],
)
def test_a_schema_that_cannot_be_used_is_the_callers_error(schema, message):
    with pytest.raises(UnsupportedOption, match=message):
        parse_tool_calls(
            '{"name": "f", "parameters": {"a": 1}}', "llama3", [{"name": "f", "parameters": schema}]
        )


@pytest.mark.parametrize(
    ("template", "form"),
    [
        ("{% if tools %}call as <tool_call>{...}</tool_call>{% endif %}", "hermes"),
        ("{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]", "mistral"),
        ("{% if tools %}<|python_tag|>{% endif %}", "llama3"),
        ('Environment: ipython {% if tools %}"parameters"{% endif %}', "llama3"),
    ],
)
def test_the_template_says_the_form(template, form):
    assert call_format(template) == form


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages }}", "no place for tools"),
        ("{{ tools }}", "not known"),
        ("{{ tools }}[TOOL_CALLS]x[ARGS]", "not known"),
    ],
)
def test_other_templates_are_refused(template, message):
    with pytest.raises(UnsupportedOption, match=message):
        call_format(template)
