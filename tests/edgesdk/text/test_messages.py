"""Conversations: OpenAI's forms become one text, everything else is one line, nothing is dropped."""

import json

import numpy as np
import pytest

from edgesdk.errors import UnsupportedOption
from edgesdk.text.call_forms import CALL_FORMS
from edgesdk.text.chat_template import ChatTemplate
from edgesdk.text.messages import MOST_MESSAGES, check_all_shown, plain_messages, plain_tools
from edgesdk.text.render_conversation import render_conversation

ASK = {"role": "user", "content": "Hello"}
CALL = [{"type": "function", "function": {"name": "f", "arguments": {}}}]


def test_texts_and_parts_of_text_become_texts():
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert plain_messages([ASK, {"role": "user", "content": parts}]) == [
        ASK,
        {"role": "user", "content": "one\ntwo"},
    ]
    assert plain_messages(({"role": "user", "content": []},))[0]["content"] == ""


def openai_turns(arguments):
    """A conversation as OpenAI's client writes it out: keys that say nothing, arguments as JSON in a text."""
    nothing = {"refusal": None, "audio": None, "function_call": None, "annotations": None}
    call = {"name": "weather", "arguments": arguments}
    return [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Weather?", "name": "ann"},
        {
            **nothing,
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "abcdefghi", "type": "function", "function": call}],
        },
        {"role": "tool", "tool_call_id": "abcdefghi", "content": "21 C"},
        {**nothing, "role": "assistant", "content": "21 C.", "tool_calls": None},
        {**nothing, "role": "assistant", "content": "Yes.", "tool_calls": []},
        {"role": "user", "content": [{"type": "text", "text": "Thanks"}]},
    ]


WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
ARGUMENTS = {"city": "Paris", "days": [1, 2]}


@pytest.mark.parametrize("form", CALL_FORMS)
def test_arguments_in_a_text_are_rendered_as_those_in_an_object(tool_templates, form):
    template = ChatTemplate(tool_templates[form])
    texts = [
        render_conversation(template, openai_turns(arguments), [WEATHER])
        for arguments in (ARGUMENTS, json.dumps(ARGUMENTS))
    ]
    assert texts[0] == texts[1]
    assert '\\"city' not in texts[0]


@pytest.mark.parametrize("joined", ["call.function.arguments", "'' + call.function.arguments"])
def test_a_template_that_joins_arguments_to_text_gets_them_as_json(joined):
    template = ChatTemplate(
        "{% for m in messages %}{{ m.role }}:{{ m.content }}{% for call in m.tool_calls or [] %}"
        "{{ " + joined + " }}{% endfor %}\n{% endfor %}"
    )
    for arguments in (ARGUMENTS, json.dumps(ARGUMENTS)):
        assert json.dumps(ARGUMENTS) in render_conversation(template, openai_turns(arguments), None)


def test_arguments_that_somebody_quotes_as_python_change_nothing():
    template = ChatTemplate(
        "{% for m in messages %}{{ m.content }}{% for call in m.tool_calls or [] %}"
        "{{ call.function.arguments | tojson }}{% endfor %}{% endfor %}"
    )
    turns = [*openai_turns(ARGUMENTS), {"role": "user", "content": f"Why {ARGUMENTS}?"}]
    assert json.dumps(ARGUMENTS) in render_conversation(template, turns, None)


def test_arguments_that_are_no_object_stay_as_they_are():
    for text in ("", "{", "[1]", '"x"', "{" * 5000):
        call = {"type": "function", "function": {"name": "f", "arguments": text}}
        assert plain_messages([{"role": "assistant", "tool_calls": [call]}])[0]["tool_calls"] == [call]
    for odd in ("f", {"a": 1}, [5], [{"function": 5}], [{"function": {"name": "f"}}]):
        assert plain_messages([{"role": "assistant", "tool_calls": odd}])[0]["tool_calls"] == odd


def test_keys_that_say_nothing_are_left_out():
    asks = ChatTemplate("{% for m in messages %}{{ m.keys() | list }}{% endfor %}")
    text = render_conversation(asks, openai_turns("{}"), None)
    assert "refusal" not in text
    assert text.count("tool_calls") == 1


def test_the_developer_is_the_system_where_a_template_knows_no_developer():
    turns = [{"role": "developer", "content": "Be kind."}, ASK]
    strict = "{% if m.role not in ['system', 'user'] %}{{ raise_exception('role') }}{% endif %}"
    body = "{% for m in messages %}" + strict + "{{ m.role }}:{{ m.content }}\n{% endfor %}"
    assert render_conversation(ChatTemplate(body), turns, None) == "system:Be kind.\nuser:Hello\n"
    knows = ChatTemplate("{# developer #}" + body.replace("'user'", "'user', 'developer'"))
    assert render_conversation(knows, turns, None) == "developer:Be kind.\nuser:Hello\n"


def test_a_call_may_do_without_content_and_other_keys_stay():
    said = {"role": "assistant", "content": None, "tool_calls": CALL}
    assert plain_messages([said])[0] == {**said, "content": ""}
    del said["content"]
    assert plain_messages([said])[0] == {**said, "content": ""}
    answer = {"role": "tool", "content": "5", "tool_call_id": "a", "name": "f"}
    copied = plain_messages([answer])[0]
    assert copied == answer
    assert copied is not answer


DEEP = {}
for _ in range(40):
    DEEP = {"x": DEEP}


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ("Hello", "messages is 'Hello'"),
        (ASK, "expected a list of messages"),
        (None, "messages is None"),
        ([], "0 messages"),
        ([ASK] * (MOST_MESSAGES + 1), "expected 1 to"),
        (["Hello"], r"messages\[0\] is 'Hello'"),
        ([ASK, None], r"messages\[1\] is None"),
        ([{"content": "x"}], "no 'role'"),
        ([{"role": 5, "content": "x"}], "the role 5"),
        ([{"role": "", "content": "x"}], "the role ''"),
        ([{"role": "user"}], "no content"),
        ([{"role": "user", "content": None}], "no content"),
        ([{"role": "user", "content": 5}], "is 5, expected a text"),
        ([{"role": "user", "content": {"text": "x"}}], "expected a text or parts"),
        ([{"role": "user", "content": ["x"]}], "holds 'x', expected parts"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "type 'image_url'"),
        ([{"role": "user", "content": [{"text": "x"}]}], "type None"),
        ([{"role": "user", "content": [{"type": "text"}]}], "'text' is None"),
        ([{"role": "user", "content": "x", "name": object()}], "values that JSON has"),
        ([{"role": "user", "content": "x", "name": np.zeros(2)}], "values that JSON has"),
        ([{"role": "user", "content": "x", 5: 1}], "the key 5"),
        ([{"role": "user", "content": "x", "deep": DEEP}], "nested more than"),
        ([{"role": "r" * 200_000, "content": 5}], "expected a text"),
    ],
)
def test_anything_else_is_one_line(messages, says):
    with pytest.raises(UnsupportedOption, match=says) as caught:
        plain_messages(messages)
    assert len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)


def test_tools_are_a_list_of_descriptions():
    assert plain_tools(None) == plain_tools([]) == []
    assert plain_tools(({"name": "f"},)) == [{"name": "f"}]
    for bad in ("f", {"name": "f"}, 5, ["f"], [None]):
        with pytest.raises(UnsupportedOption, match="tools"):
            plain_tools(bad)


TURNS = (
    "{% for m in messages %}{% if m.role == 'user' %}U:{{ m.content | upper }}\n"
    "{% elif m.role == 'assistant' %}A:{{ m.content }}\n{% endif %}{% endfor %}A:"
)


def test_a_message_that_the_template_leaves_out_is_refused():
    template = ChatTemplate(TURNS)
    assert render_conversation(template, [ASK], None) == "U:HELLO\nA:"
    with pytest.raises(UnsupportedOption, match=r"leaves out messages of the role 'system' \(messages"):
        render_conversation(template, [{"role": "system", "content": "Be kind."}, ASK], None)


def test_what_a_template_insists_on_or_changes_is_shown():
    insists = ChatTemplate(
        "{% if messages[0].role != 'system' %}{{ raise_exception('no') }}{% endif %}"
        "{% for m in messages %}{{ m.content | upper }}{% endfor %}"
    )
    messages = [{"role": "system", "content": "Be kind."}, ASK]
    assert render_conversation(insists, messages, None) == "BE KIND.HELLO"
    rendered = []
    check_all_shown(messages, "Be kind. Hello", rendered.append)
    assert not rendered  # the usual case costs no second rendering
