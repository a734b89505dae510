"""Tools: calls as clients read them, kept to a schema where that was asked for."""

import json

import pytest

pytest.importorskip("llguidance")
PATH = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "The fox?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"enum": [1, 2]}, "b": {"enum": [3]}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 3}}\n</tool_call>'


def ask(**options):
    return {"model": "tiny", "messages": MESSAGES, "tools": [TOOL], **options}


def joined(events):
    """Text, calls and the finish reason of a stream, put together as clients do it."""
    text, calls, finish = "", {}, None
    for event in events:
        if event == "[DONE]" or not event["choices"]:
            continue
        (choice,) = event["choices"]
        assert finish is None
        finish = choice["finish_reason"]
        text += choice["delta"].get("content") or ""
        for call in choice["delta"].get("tool_calls", ()):
            known = calls.setdefault(call["index"], {"id": "", "name": "", "arguments": ""})
            known["id"] += call.get("id", "")
            known["name"] += call["function"].get("name", "")
            known["arguments"] += call["function"]["arguments"]
    return text, calls, finish


def test_a_call_that_the_model_decides_on(server):
    server.say(f"So:{CALL}\n{CALL}")
    (choice,) = server.client.post(PATH, ask())[1]["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", "So:")
    first, second = choice["message"]["tool_calls"]
    assert first["function"] == second["function"] == {"name": "add", "arguments": '{"a": 1, "b": 3}'}
    assert first["id"] != second["id"]
    text, calls, finish = joined(server.client.events(PATH, ask(stream=True)))
    assert (text, finish, sorted(calls)) == ("So:", "tool_calls", [0, 1])
    assert all(call["name"] == "add" and json.loads(call["arguments"]) for call in calls.values())
    assert calls[0]["id"] != calls[1]["id"]
    one = server.client.post(PATH, ask(parallel_tool_calls=False))[1]["choices"][0]["message"]
    assert len(one["tool_calls"]) == 1
    none = server.client.post(PATH, ask(tool_choice="none"))[1]["choices"][0]["message"]
    assert none["content"].startswith("So:<tool_call>")
    server.wait_idle()


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "add"}}])
def test_a_call_that_is_required(server, choice):
    server.say("I would rather talk.")
    document = ask(tool_choice=choice, max_tokens=120)
    (found,) = server.client.post(PATH, document)[1]["choices"]
    (call,) = found["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"])["b"] == 3
    assert found["finish_reason"] == "tool_calls"
    _, calls, finish = joined(server.client.events(PATH, document | {"stream": True}))
    assert (finish, json.loads(calls[0]["arguments"])["b"]) == ("tool_calls", 3)


def test_results_go_back_to_the_model(server):
    server.say("Four.")
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 3}'}}
    messages = [
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
    ]
    answer = server.client.post(PATH, ask() | {"messages": messages})[1]
    assert answer["choices"][0]["message"]["content"] == "Four."


def test_a_strict_function_is_held_to_its_schema(server):
    server.say(CALL.replace("3", "7"))
    loose = server.client.post(PATH, ask())[1]["choices"][0]["message"]
    assert json.loads(loose["tool_calls"][0]["function"]["arguments"])["b"] == 7
    strict = {"type": "function", "function": {**TOOL["function"], "strict": True}}
    status, answer, _ = server.client.post(PATH, ask(tools=[strict]))
    assert (status, answer["error"]["code"]) == (422, "invalid_tool_call")
    events = server.client.events(PATH, ask(tools=[strict], stream=True))
    assert events[-2]["error"]["code"] == "invalid_tool_call"
    server.say(CALL)
    assert server.client.post(PATH, ask(tools=[strict]))[0] == 200
    server.wait_idle()
