"""The anthropic package: messages, streams, tools, thoughts, counted tokens, errors."""

import os

import anthropic

client = anthropic.Anthropic(base_url=os.environ["SERVED"], api_key=os.environ["SERVED_KEY"], max_retries=0)
MODEL = client.models.list().data[0].id
MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
TOOL = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}

whole = client.messages.create(model=MODEL, max_tokens=20, messages=MESSAGES, system="Be brief.")
assert whole.content[0].text, whole
assert whole.stop_reason in ("end_turn", "max_tokens")
counted = client.messages.count_tokens(model=MODEL, messages=MESSAGES, system="Be brief.")
assert counted.input_tokens == whole.usage.input_tokens + whole.usage.cache_read_input_tokens
with client.messages.stream(model=MODEL, max_tokens=20, messages=MESSAGES, system="Be brief.") as stream:
    text = "".join(stream.text_stream)
    assert text == stream.get_final_text() == whole.content[0].text
asked = {
    "model": MODEL,
    "max_tokens": 100,
    "messages": MESSAGES,
    "tools": [TOOL],
    "tool_choice": {"type": "any"},
}
call = client.messages.create(**asked)
assert (call.stop_reason, call.content[-1].input["city"] in ("Paris", "Rome")) == ("tool_use", True), call
with client.messages.stream(**asked) as stream:
    final = stream.get_final_message()
assert final.content[-1].input == call.content[-1].input
result = {"type": "tool_result", "tool_use_id": call.content[-1].id, "content": "Sunny."}
later = [*MESSAGES, {"role": "assistant", "content": call.content}, {"role": "user", "content": [result]}]
assert client.messages.create(model=MODEL, max_tokens=10, messages=later, tools=[TOOL]).content[0].text
thought = client.messages.create(
    model=MODEL, max_tokens=60, messages=MESSAGES, thinking={"type": "enabled", "budget_tokens": 10}
)
assert [block.type for block in thought.content] == ["thinking", "text"], thought
for error, wrong in (
    (anthropic.BadRequestError, {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
    (anthropic.NotFoundError, {"model": "claude-9"}),
):
    try:
        client.messages.create(**{"model": MODEL, "max_tokens": 5, "messages": MESSAGES, **wrong})
    except error as refused:
        print("refused:", refused.message)
    else:
        raise AssertionError(error)
print("anthropic", anthropic.__version__)
