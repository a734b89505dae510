import json

import pytest

from edgesdk.errors import ToolCallError
from edgesdk.text.call_forms import CALL_FORMS
from edgesdk.text.tool_calls import ToolCall, parse_tool_calls

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
        ("mistral", '[TOOL_CALLS] {"name": "clock", "arguments": {}}', (ToolCall("clock", {}),)),
        ("llama3", '{"name": "clock", "arguments": {}}', (ToolCall("clock", {}),)),
        ("llama3", '{"type": "function", "name": "clock", "parameters": {}}', (ToolCall("clock", {}),)),
        ("llama3", 'I look.<|python_tag|>{"name": "clock", "parameters": {}}', (ToolCall("clock", {}),)),
        ("llama3", '{"name": "Ada", "born": 1815}; {"name": "Alan", "born": 1912}', ()),
        ("pythonic", "[1, 2] are numbers, [see](here) is a link.", ()),
        (
            "harmony",
            "<|channel|>analysis<|message|>I look.<|end|><|start|>assistant<|channel|>commentary "
            'to=functions.weather <|constrain|>json<|message|>{"city": "Paris", "days": 2}',
            (PARIS,),
        ),
        ("phi4", '<|tool_call|>[{"name": "clock", "arguments": {}}]', (ToolCall("clock", {}),)),
        (
            "qwen-xml",
            "I look.\n<function=weather>\n<parameter=city>\nParis\n</parameter>\n"
            "<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>",
            (PARIS,),
        ),
        ("tool-code", "```tool_code\nprint(weather(city='Paris', days=2))\n```", (PARIS,)),
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
        ("mistral", '[TOOL_CALLS] [{"name": "clock"}] and more', "no JSON"),
        ("llama3", '{"name": "clock", "parameters": {}}; {"name": "wea', "no JSON"),
        ("mistral-args", "[TOOL_CALLS]clock", "ends inside a tool call"),
        ("mistral-args", "[TOOL_CALLS] [clock{}", "no JSON"),
        ("functionary", "<function=clock>{}", "ends inside a tool call"),
        ("qwen-xml", "<tool_call>\n<function=clock>\n", "ends inside a tool call"),
        ("qwen-xml", "<tool_call>\nclock\n</tool_call>", "names no function"),
        ("qwen-xml", "<function=clock>\nnow\n</function>", "more than parameters"),
        ("qwen-xml", "<function=rain>\n</function>", "called rain"),
        ("minicpm5", '<function name="clock">', "ends inside a tool call"),
        ("minicpm5", '<function name="clock"><param name="x"><![CDATA[</param>', "ends inside a tool call"),
        ("minicpm5", '<function name="clock">now</function>', "more than parameters: now"),
        ("minicpm5", '<function name="clock"><![CDATA[now]]></function>', "more than parameters"),
        ("minicpm5", '<function name="rain"></function>', "called rain"),
        ("lfm2", "<|tool_call_start|>[clock(", "ends inside a tool call"),
        ("lfm2", "<|tool_call_start|>[clock(now)]<|tool_call_end|>", "cannot be read"),
        ("lfm2", "<|tool_call_start|>[clock(x=open('a'))]<|tool_call_end|>", "cannot be read"),
        ("gemma4", "<|tool_call>call:clock{", "ends inside a tool call"),
        ("gemma4", "<|tool_call>clock()<tool_call|>", "cannot be read"),
        ("pythonic", "[weather(city=Paris)]", "cannot be read"),
    ],
)
def test_calls_that_cannot_be_made_are_one_line(form, text, message):
    with pytest.raises(ToolCallError, match=message) as caught:
        parse_tool_calls(text, form, TOOLS)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert caught.value.answer == text


MARKS = {
    "hermes": ("<tool_call>", "</tool_call>"),
    "qwen-xml": ("<tool_call>", "</tool_call>"),
    "nemotron": ("<TOOLCALL>", "</TOOLCALL>"),
    "phi4": ("<|tool_call|>", "<|/tool_call|>"),
    "gemma4": ("<|tool_call>", "<tool_call|>"),
    "lfm2": ("<|tool_call_start|>", "<|tool_call_end|>"),
    "mistral": ("[TOOL_CALLS]", ""),
    "mistral-args": ("[TOOL_CALLS]", ""),
    "functionary": ("<function=", "</function>"),
    "minicpm5": ('<function name="', "</function>"),
}


@pytest.mark.parametrize("form", MARKS)
def test_marks_that_an_answer_speaks_of_are_no_calls(form):
    start, end = MARKS[form]
    spoken = [f"A call begins with `{start}`.", f'It says "{start}", and then JSON\n{{"a": 1}}', f"{start}?"]
    if end and form not in ("functionary", "minicpm5"):
        spoken += [f"Between {start} and {end} stands the call.", f"The {start} tag begins one. I need none."]
    for text in spoken:
        assert parse_tool_calls(text, form, TOOLS) == ()
    called = '<tool_call>{"name": "clock"}</tool_call>'
    if form == "hermes":
        for text in (*spoken, f"I write `{start}` thus: "):
            assert parse_tool_calls(text + called, form, TOOLS) == (ToolCall("clock", {}),)
            with pytest.raises(ToolCallError, match="ends inside a tool call"):
                parse_tool_calls(text + called[:-20], form, TOOLS)


TWO = (ToolCall("clock", {}), PARIS)
CLOCK_JSON = '{"name": "clock", "arguments": {}}'
PARIS_JSON = '{"name": "weather", "arguments": {"city": "Paris", "days": 2}}'
SEVERAL = {
    "hermes": [
        f"<tool_call>\n{CLOCK_JSON}\n</tool_call>\n<tool_call>\n{PARIS_JSON}\n</tool_call>",
        f"<tool_call>\n{CLOCK_JSON}\n{PARIS_JSON}\n</tool_call>",
        f"<tool_call>[{CLOCK_JSON}, {PARIS_JSON}]</tool_call>",
    ],
    "llama3": [
        f"{CLOCK_JSON}; {PARIS_JSON}",
        f"{CLOCK_JSON}\n{PARIS_JSON}",
        f"[{CLOCK_JSON}, {PARIS_JSON}]",
        f"<|python_tag|>{CLOCK_JSON}; {PARIS_JSON}",
    ],
    "mistral": [
        f"[TOOL_CALLS] [{CLOCK_JSON}, {PARIS_JSON}]",
        f"[TOOL_CALLS][{CLOCK_JSON}][TOOL_CALLS][{PARIS_JSON}]",
    ],
    "mistral-args": [
        '[TOOL_CALLS]clock[ARGS]{}[TOOL_CALLS]weather[ARGS]{"city": "Paris", "days": 2}',
        '[TOOL_CALLS]clock{}[TOOL_CALLS]weather[CALL_ID]a1[ARGS]{"city": "Paris", "days": 2}',
    ],
    "phi4": [f"<|tool_call|>[{CLOCK_JSON}, {PARIS_JSON}]<|/tool_call|>"],
    "granite": [f"<|tool_call|>[{CLOCK_JSON}, {PARIS_JSON}]"],
    "nemotron": [f"<TOOLCALL>[{CLOCK_JSON}, {PARIS_JSON}]</TOOLCALL>"],
    "functionary": [
        '<function=clock>{}</function>\n<function=weather>{"city": "Paris", "days": 2}</function>'
    ],
    "harmony": [
        "<|channel|>commentary to=functions.clock <|constrain|>json<|message|>{}<|call|><|start|>assistant"
        '<|channel|>commentary to=functions.weather<|message|>{"city": "Paris", "days": 2}'
    ],
    "qwen-xml": [
        "<tool_call>\n<function=clock>\n</function>\n</tool_call>\n<tool_call>\n<function=weather>\n"
        "<parameter=city>\nParis\n</parameter>\n<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>"
    ],
    "minicpm5": [
        '<function name="clock"></function>\n<function name="weather"><param name="city">Paris</param>'
        '<param name="days">2</param></function>',
        '<function name="clock">\n</function><function name="weather">\n<param name="city"><![CDATA[Paris]]>'
        '</param>\n<param name="days">2</param>\n</function>\nI wait for both.',
    ],
    "lfm2": ["<|tool_call_start|>[clock(), weather(city='Paris', days=2)]<|tool_call_end|>"],
    "pythonic": ["[clock(), weather(city='Paris', days=2)]"],
    "tool-code": ["```tool_code\nclock()\nweather(city='Paris', days=2)\n```"],
    "gemma4": [
        '<|tool_call>call:clock{}<tool_call|><|tool_call>call:weather{city:<|"|>Paris<|"|>,days:2}<tool_call|>'
    ],
    "function-gemma": [
        "<start_function_call>call:clock{}<end_function_call>"
        "<start_function_call>call:weather{city:<escape>Paris<escape>,days:2}<end_function_call>"
    ],
}


def test_every_form_is_tried_with_several_calls():
    assert SEVERAL.keys() == CALL_FORMS.keys()


@pytest.mark.parametrize(
    ("form", "text"), [(form, text) for form, texts in SEVERAL.items() for text in texts]
)
def test_several_calls(form, text):
    assert parse_tool_calls(text, form, TOOLS) == TWO


@pytest.mark.parametrize("form", CALL_FORMS)
def test_no_form_takes_plain_text_for_a_call(form):
    assert parse_tool_calls("It is 12 o'clock, {and} [so] on; f(x) = 3.", form, TOOLS) == ()


DRAFT = f"<tool_call>\n{CLOCK_JSON}\n</tool_call>"
CALL = f"<tool_call>\n{PARIS_JSON}\n</tool_call>"


@pytest.mark.parametrize(
    ("text", "thought_end", "calls"),
    [
        (f"<think>\nI would write {DRAFT}\n</think>\n\n{CALL}", None, (PARIS,)),
        (f"<think>\nI could write {DRAFT}\n</think>\n\nI leave it.", None, ()),
        (f"<think>\nThe form is <tool_call> and JSON.\n</think>\n\n{CALL}", None, (PARIS,)),
        (f"I would write {DRAFT}\n</think>\n\n{CALL}", "</think>", (PARIS,)),
        (f"<think>\nI would write {DRAFT} but", None, ()),
        (f"[THINK]{DRAFT}[/THINK]{CALL}", None, (PARIS,)),
    ],
)
def test_what_is_only_thought_is_no_call(text, thought_end, calls):
    assert parse_tool_calls(text, "hermes", TOOLS, thought_end=thought_end) == calls


def test_an_argument_may_hold_the_marks_of_a_call():
    text = "</think></tool_call>"
    tool = {"name": "write", "parameters": {"type": "object", "properties": {"text": {"type": "string"}}}}
    call = json.dumps({"name": "write", "arguments": {"text": text}})
    assert parse_tool_calls(f"<tool_call>{call}</tool_call>", "hermes", [tool])[0].arguments == {"text": text}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("a & b", "a & b"),
        ("<![CDATA[a </param></function>\n<b>]]>", "a </param></function>\n<b>"),
        (" \n<![CDATA[ a ]]>\n", " a "),
        ("x <![CDATA[</param>]]>", "x <![CDATA[</param>]]>"),
        ("", ""),
    ],
)
def test_a_text_that_holds_tags_stands_in_marks_of_its_own(written, value):
    answer = f'I write.\n<function name="f"><param name="x">{written}</param></function>'
    schema = {"type": "object", "properties": {"x": {"type": "string"}}}
    (call,) = parse_tool_calls(answer, "minicpm5", [{"name": "f", "parameters": schema}])
    assert call.arguments == {"x": value}


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "string"}, "12", "12"),
        ({"type": "string"}, "a\n<b>\n", "a\n<b>\n"),
        ({"type": "integer"}, "12", 12),
        ({"type": "number"}, "1.5", 1.5),
        ({"type": "boolean"}, "True", True),
        ({"type": "boolean"}, "false", False),
        ({"type": ["string", "null"]}, "null", None),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "None", None),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, "many", "many"),
        ({"type": "array", "items": {"type": "integer"}}, "[1, 2]", [1, 2]),
        ({"type": "object"}, '{"a": [true]}', {"a": [True]}),
        ({"$ref": "#/$defs/n"}, "7", 7),
        ({"enum": ["1", "2"]}, "1", "1"),
        ({}, "12", "12"),
    ],
)
def test_a_value_without_quotes_is_what_its_schema_says(schema, text, value):
    parameters = {"type": "object", "properties": {"x": schema}, "$defs": {"n": {"type": "integer"}}}
    answer = f"<tool_call>\n<function=f>\n<parameter=x>\n{text}\n</parameter>\n</function>\n</tool_call>"
    (call,) = parse_tool_calls(answer, "qwen-xml", [{"name": "f", "parameters": parameters}])
    assert call.arguments == {"x": value}
    assert type(call.arguments["x"]) is type(value)
