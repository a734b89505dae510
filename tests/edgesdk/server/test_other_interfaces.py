"""Responses, Anthropic's messages and Ollama's chats: the same answers in other words."""

import json
import shutil

import pytest

from tests.edgesdk.server.test_tools import CALL, TOOL

MESSAGES = [{"role": "user", "content": "The fox?"}]
ANSWER = "The quick brown fox 😀 jumps."
FUNCTION = TOOL["function"]
THOUGHTFUL = "<think>\nThe dog.\n</think>\n\nThe fox."


def response(**options):
    return {"model": "tiny", "input": "The fox?", **options}


def test_a_response(server):
    status, found, _ = server.client.post("/v1/responses", response())
    assert status == 200, found
    (item,) = found["output"]
    assert (found["status"], item["type"], item["content"][0]["text"]) == ("completed", "message", ANSWER)
    assert found["usage"]["output_tokens"] > 4
    events = server.client.events("/v1/responses", response(stream=True))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    kinds = [event["type"] for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta") == ANSWER
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == ANSWER
    cut = server.client.post("/v1/responses", response(max_output_tokens=2))[1]
    assert (cut["status"], cut["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


def test_a_response_goes_on_from_an_earlier_one(server):
    first = server.client.post("/v1/responses", response())[1]
    second = server.client.post("/v1/responses", response(previous_response_id=first["id"]))[1]
    assert second["usage"]["input_tokens"] > first["usage"]["input_tokens"] + first["usage"]["output_tokens"]
    whole = [
        {"role": "user", "content": [{"type": "input_text", "text": "The fox?"}]},
        *first["output"],
        {"role": "user", "content": "The fox?"},
    ]
    said = server.client.post("/v1/responses", response(input=whole))[1]
    assert said["usage"]["input_tokens"] == second["usage"]["input_tokens"]
    forgotten = server.client.post("/v1/responses", response(store=False))[1]["id"]
    for ident in ("resp_no", forgotten):
        status, found, _ = server.client.post("/v1/responses", response(previous_response_id=ident))
        assert (status, found["error"]["param"]) == (404, "previous_response_id")


def test_calls_and_thoughts_in_a_response(server):
    pytest.importorskip("llguidance")
    tools = [{"type": "function", **FUNCTION}]
    server.say(f"{CALL}\n{CALL}")
    found = server.client.post("/v1/responses", response(tools=tools))[1]
    assert [item["type"] for item in found["output"]] == ["function_call"] * 2
    assert json.loads(found["output"][1]["arguments"]) == {"a": 1, "b": 3}
    events = server.client.events("/v1/responses", response(tools=tools, stream=True))
    deltas = [e["delta"] for e in events if e["type"] == "response.function_call_arguments.delta"]
    assert "".join(deltas) == '{"a": 1, "b": 3}' * 2
    outcome = {"type": "function_call_output", "call_id": found["output"][0]["call_id"], "output": "4"}
    server.say("Four.")
    items = [{"role": "user", "content": "The fox?"}, found["output"][0], outcome]
    answer = server.client.post("/v1/responses", response(tools=tools, input=items))[1]
    assert answer["output"][0]["content"][0]["text"] == "Four."
    server.say(THOUGHTFUL)
    found = server.client.post("/v1/responses", response())[1]
    assert [item["type"] for item in found["output"]] == ["reasoning", "message"]
    assert found["output"][0]["content"][0]["text"] == "The dog."
    assert found["usage"]["output_tokens_details"]["reasoning_tokens"] > 2
    again = server.client.post("/v1/responses", response(previous_response_id=found["id"]))
    assert again[0] == 200, again
    server.wait_idle()


@pytest.mark.parametrize(
    "wrong",
    [
        {"background": True},
        {"input": [{"type": "computer_call"}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
        {"tools": [{"type": "web_search"}]},
        {"include": ["file_search_call.results"]},
        {"text": {"format": {"type": "json_schema"}}},
        {"reasoning": {"effort": "much"}},
        {"truncation": "auto"},
        {"prompt": {"id": "x"}},
    ],
)
def test_what_a_response_does_not_honour(server, wrong):
    status, found, _ = server.client.post("/v1/responses", response() | wrong)
    assert status == 400
    assert next(iter(wrong)) in found["error"]["param"]


def message(**options):
    return {"model": "tiny", "max_tokens": 200, "messages": MESSAGES, **options}


def test_a_message(server):
    status, found, _ = server.client.post("/v1/messages", message(system="Be brief."))
    assert status == 200, found
    assert (found["content"], found["stop_reason"]) == ([{"type": "text", "text": ANSWER}], "end_turn")
    stopped = server.client.post("/v1/messages", message(stop_sequences=["brown"]))[1]
    assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("stop_sequence", "brown")
    assert server.client.post("/v1/messages", message(max_tokens=2))[1]["stop_reason"] == "max_tokens"
    events = server.client.events("/v1/messages", message(stream=True))
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert "".join(e["delta"]["text"] for e in events if e["type"] == "content_block_delta") == ANSWER
    counted = {key: value for key, value in message().items() if key != "max_tokens"}
    usage = server.client.post("/v1/messages", message())[1]["usage"]
    count = server.client.post("/v1/messages/count_tokens", counted)[1]["input_tokens"]
    assert count == usage["input_tokens"] + usage["cache_read_input_tokens"]


def test_blocks_of_a_message(server):
    pytest.importorskip("llguidance")
    tool = {"name": "add", "input_schema": FUNCTION["parameters"]}
    server.say(f"So:{CALL}")
    found = server.client.post("/v1/messages", message(tools=[tool]))[1]
    text, use = found["content"]
    assert (text["text"], use["input"], found["stop_reason"]) == ("So:", {"a": 1, "b": 3}, "tool_use")
    events = server.client.events("/v1/messages", message(tools=[tool], stream=True))
    parts = [e["delta"].get("partial_json", "") for e in events if e["type"] == "content_block_delta"]
    assert json.loads("".join(parts)) == {"a": 1, "b": 3}
    assert [e["index"] for e in events if e["type"] == "content_block_start"] == [0, 1]
    server.say("Four.")
    result = {"type": "tool_result", "tool_use_id": use["id"], "content": [{"type": "text", "text": "4"}]}
    later = [*MESSAGES, {"role": "assistant", "content": [text, use]}, {"role": "user", "content": [result]}]
    assert (
        server.client.post("/v1/messages", message(tools=[tool], messages=later))[1]["content"][0]["text"]
        == "Four."
    )
    forced = message(tools=[tool], tool_choice={"type": "any"})
    assert server.client.post("/v1/messages", forced)[1]["content"][0]["input"]["b"] == 3
    server.say("The dog.\n</think>\n\nThe fox.", thinks=True)
    thinking = message(thinking={"type": "enabled", "budget_tokens": 1024})
    found = server.client.post("/v1/messages", thinking)[1]["content"]
    assert [(b["type"], b.get("text", b.get("thinking"))) for b in found] == [
        ("thinking", "The dog."),
        ("text", "The fox."),
    ]
    server.wait_idle()


@pytest.mark.parametrize(
    "wrong",
    [
        {"mcp_servers": []},
        {"max_tokens": 0},
        {"messages": [{"role": "system", "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
        {"tools": [{"type": "bash_20250124", "name": "bash"}]},
        {"tool_choice": {"type": "tool"}},
        {"container": "x"},
    ],
)
def test_what_a_message_does_not_honour(server, wrong):
    status, found, _ = server.client.post("/v1/messages", message() | wrong)
    assert (status, found["type"], found["error"]["type"]) == (400, "error", "invalid_request_error")


def lines(server, path, document):
    status, text, headers = server.client.post(path, document)
    assert (status, headers["content-type"]) == (200, "application/x-ndjson")
    return [json.loads(line) for line in text.splitlines()]


def test_offsets_of_log_probabilities_go_on_from_piece_to_piece(server):
    asked = {"model": "tiny", "prompt": "<|start|>assistant: ", "max_tokens": 6, "logprobs": 1}
    whole = server.client.post("/v1/completions", asked)[1]["choices"][0]["logprobs"]
    assert whole["text_offset"][0] == 0
    assert whole["text_offset"][-1] == sum(map(len, whole["tokens"][:-1])) > 0
    found = server.client.events("/v1/completions", asked | {"stream": True})
    pieces = [each["choices"][0]["logprobs"] for each in found[:-1]]
    pieces = [piece for piece in pieces if piece is not None]
    assert len(pieces) > 1
    for key in ("tokens", "text_offset"):
        assert [each for piece in pieces for each in piece[key]] == whole[key]


def test_ollama(server):
    asked = {"model": "tiny:latest", "messages": MESSAGES}
    *parts, last = lines(server, "/api/chat", asked)
    assert "".join(part["message"]["content"] for part in parts) == ANSWER
    assert (last["done"], last["done_reason"], last["message"]["content"]) == (True, "stop", "")
    assert last["eval_count"] > 4
    whole = server.client.post("/api/chat", asked | {"stream": False, "options": {"num_predict": 2}})[1]
    assert (whole["done_reason"], whole["eval_count"]) == ("length", 2)
    said = server.client.post("/api/generate", {"model": "tiny", "prompt": "The fox?", "stream": False})[1]
    assert said["response"] == ANSWER
    raw = {"model": "tiny", "prompt": "The fox?", "raw": True, "options": {"num_predict": 3}}
    assert lines(server, "/api/generate", raw)[-1]["eval_count"] == 3
    (listed,) = server.client.get("/api/tags")[1]["models"]
    assert (listed["name"], listed["details"]["family"]) == ("tiny", "llama")
    assert server.client.get("/api/ps")[1]["models"][0]["context_length"] == 512
    shown = server.client.post("/api/show", {"model": "tiny"})[1]
    assert shown["model_info"]["llama.context_length"] == 512
    assert shown["capabilities"] == ["completion", "tools", "thinking"]
    assert "<think>" in shown["template"]
    assert server.client.get("/api/version")[0] == 200
    server.say(THOUGHTFUL)
    found = server.client.post("/api/chat", asked | {"stream": False})[1]["message"]
    assert (found["thinking"], found["content"]) == ("The dog.", "The fox.")
    server.wait_idle()


def test_ollama_lists_what_is_in_memory_and_leaves_out_what_has_gone(make_server, tmp_path, caplog):
    server = make_server(names=("tiny", "other"))
    shutil.copytree(server.host.path("tiny"), tmp_path / "copy")
    server.host._served = {"tiny": tmp_path / "copy", "other": server.host.path("other")}
    shutil.rmtree(tmp_path / "copy")
    (listed,) = server.client.get("/api/tags")[1]["models"]
    assert listed["name"] == "other"
    assert "left tiny out of a list" in caplog.text
    (loaded,) = server.client.get("/api/ps")[1]["models"]
    assert loaded["name"] == "tiny"
    status, answer, _ = server.client.post("/api/show", {"model": "tiny"})
    assert (status, len(answer["error"].splitlines())) == (400, 1)


def test_ollama_calls_and_formats(server):
    pytest.importorskip("llguidance")
    server.say(CALL)
    asked = {"model": "tiny", "messages": MESSAGES, "tools": [TOOL]}
    first, last = lines(server, "/api/chat", asked)
    assert first["message"]["tool_calls"] == [{"function": {"name": "add", "arguments": {"a": 1, "b": 3}}}]
    assert last["done"]
    history = [*MESSAGES, first["message"], {"role": "tool", "content": "4", "tool_name": "add"}]
    server.say("Four.")
    again = server.client.post("/api/chat", asked | {"messages": history, "stream": False})[1]
    assert again["message"]["content"] == "Four."
    schema = {"type": "object", "properties": {"n": {"enum": [1]}}, "required": ["n"]}
    shaped = {"model": "tiny", "prompt": "?", "format": schema, "stream": False}
    assert server.client.post("/api/generate", shaped)[1]["response"] == '{"n": 1}'
    assert server.client.post("/api/generate", shaped | {"keep_alive": 0})[0] == 200
    assert server.client.get("/api/ps")[1]["models"] == []


@pytest.mark.parametrize(
    ("path", "empty"),
    [("chat", {"messages": []}), ("chat", {}), ("generate", {"prompt": ""}), ("generate", {})],
)
def test_ollama_loads_and_unloads_where_nothing_is_asked(server, path, empty):
    asked = {"model": "tiny"} | empty
    for changed, reason, count in (({}, "load", 1), ({"keep_alive": 0}, "unload", 0), ({}, "load", 1)):
        status, found, headers = server.client.post(f"/api/{path}", asked | changed)
        assert (status, headers["content-type"]) == (200, "application/json"), found
        assert (found["done"], found["done_reason"]) == (True, reason)
        assert found["response"] == "" if path == "generate" else found["message"]["content"] == ""
        assert len(server.client.get("/api/ps")[1]["models"]) == count
    assert server.engine.metrics.steps == 0
    assert server.client.post("/api/chat", {"model": "tiny", "messages": 1})[0] == 400
    server.wait_idle()


@pytest.mark.parametrize(
    "wrong",
    [
        {"options": {"mirostat": 1}},
        {"options": {"num_ctx": 100_000}},
        {"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]},
        {"keep_alive": "soon"},
        {"format": "yaml"},
        {"frobnicate": 1},
    ],
)
def test_what_ollama_does_not_honour(server, wrong):
    status, found, _ = server.client.post("/api/chat", {"model": "tiny", "messages": MESSAGES} | wrong)
    assert (status, list(found)) == (400, ["error"])


def test_completions(server):
    asked = {"model": "tiny", "prompt": ["The fox", "The dog"], "max_tokens": 4, "logprobs": 1}
    found = server.client.post("/v1/completions", asked)[1]
    assert [choice["index"] for choice in found["choices"]] == [0, 1]
    assert all(len(choice["logprobs"]["tokens"]) == 4 for choice in found["choices"])
    assert found["usage"]["completion_tokens"] == 8
    streamed = server.client.events("/v1/completions", asked | {"stream": True})
    for index in (0, 1):
        parts = [e["choices"][0] for e in streamed[:-1] if e["choices"][0]["index"] == index]
        assert "".join(part["text"] for part in parts) == found["choices"][index]["text"]
    ids = server.client.post("/v1/completions", {"model": "tiny", "prompt": [5, 6, 7], "max_tokens": 1})[1]
    assert ids["usage"]["prompt_tokens"] == 3
    for wrong in ({"echo": True}, {"best_of": 2}, {"suffix": "x"}, {"prompt": []}, {"prompt": [10**9]}):
        assert server.client.post("/v1/completions", asked | wrong)[0] == 400, wrong
    status, answer, _ = server.client.post("/v1/embeddings", {"model": "tiny", "input": "x"})
    assert (status, answer["error"]["code"]) == (400, "embeddings_not_supported")
    server.wait_idle()
