"""`/v1/chat/completions`: what clients read, whole and in pieces."""

import pytest

MESSAGES = [{"role": "user", "content": "The fox?"}]
ANSWER = "The quick brown fox 😀 jumps."
PATH = "/v1/chat/completions"


def ask(**options):
    return {"model": "tiny", "messages": MESSAGES, **options}


def test_a_whole_answer(server):
    status, answer, _ = server.client.post(PATH, ask())
    assert status == 200, answer
    (choice,) = answer["choices"]
    assert choice["message"]["content"] == ANSWER
    assert (choice["message"]["role"], choice["finish_reason"]) == ("assistant", "stop")
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    again = server.client.post(PATH, ask())[1]
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    assert again["choices"][0]["message"]["content"] == ANSWER
    server.wait_idle()


def test_pieces_are_the_answer(server):
    events = server.client.events(PATH, ask(stream=True, stream_options={"include_usage": True}))
    *chunks, usage, done = events
    assert done == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] > 4
    assert [chunk["choices"][0]["delta"].get("role") for chunk in chunks].count("assistant") == 1
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == ANSWER
    assert len(chunks) > 6
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-2:] == [None, "stop"]
    assert all(chunk["usage"] is None for chunk in chunks)
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_several_samples(server):
    document = ask(n=3, temperature=0.5, seed=3, max_tokens=8)
    whole = server.client.post(PATH, document)[1]
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
    events = server.client.events(PATH, document | {"stream": True})
    for index in range(3):
        parts = [e["choices"][0] for e in events[:-1] if e["choices"][0]["index"] == index]
        text = "".join(part["delta"].get("content", "") for part in parts)
        assert text == whole["choices"][index]["message"]["content"]
        assert parts[-1]["finish_reason"] == whole["choices"][index]["finish_reason"]


def test_options_are_honoured(server):
    first = server.client.post(PATH, ask(stop=["brown"]))[1]["choices"][0]
    assert (first["message"]["content"], first["finish_reason"]) == ("The quick ", "stop")
    cut = server.client.post(PATH, ask(max_completion_tokens=2))[1]
    assert (cut["choices"][0]["finish_reason"], cut["usage"]["completion_tokens"]) == ("length", 2)
    probable = server.client.post(PATH, ask(logprobs=True, top_logprobs=2, max_tokens=3))[1]["choices"][0]
    entries = probable["logprobs"]["content"]
    assert len(entries) == 3
    for entry in entries:
        assert entry["bytes"] == list(entry["token"].encode())
        assert entry["logprob"] == entry["top_logprobs"][0]["logprob"]
        assert len(entry["top_logprobs"]) == 2
    streamed = server.client.events(PATH, ask(logprobs=True, max_tokens=3, stream=True))
    pieces = [e["choices"][0]["logprobs"] for e in streamed[:-1]]
    assert sum(len(piece["content"]) for piece in pieces if piece) == 3
    biased = server.client.post(PATH, ask(logit_bias={str(t): -100 for t in range(40, 300)}, max_tokens=3))[1]
    assert biased["choices"][0]["message"]["content"] != ANSWER[:3]


def test_a_schema_holds(server):
    pytest.importorskip("llguidance")
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}
    shape = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    answer = server.client.post(PATH, ask(response_format=shape))[1]["choices"][0]
    assert answer["message"]["content"] in ('{"n": 1}', '{"n": 2}')
    free = server.client.post(PATH, ask(response_format={"type": "json_object"}, max_tokens=60))[1]
    assert free["choices"][0]["message"]["content"].startswith("{")
    bad = {"type": "json_schema", "json_schema": {"schema": {"type": "object", "dependentRequired": {}}}}
    status, answer, _ = server.client.post(PATH, ask(response_format=bad))
    assert status == 400
    assert "dependentRequired" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"audio": {}}, "audio"),
        ({"frobnicate": 1}, "frobnicate"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"n": 9}, "n"),
        ({"store": True}, "store"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"tools": [{"type": "code_interpreter"}]}, "tools"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"chat_template_kwargs": {"nothing": 1}}, None),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(server, wrong, param):
    status, answer, _ = server.client.post(PATH, ask() | wrong)
    assert status == 400, answer
    assert answer["error"]["type"] == "invalid_request_error"
    assert answer["error"]["param"] == param
    assert "\n" not in answer["error"]["message"]
    server.wait_idle()
    assert server.client.post(PATH, ask())[0] == 200


def test_a_misspelt_option_is_told_its_name(server):
    for name, hint in (("temprature", "did you mean temperature?"), ("nothing_like_it", "leave it out")):
        status, answer, _ = server.client.post(PATH, ask(**{name: 0}))
        assert status == 400
        assert answer["error"]["message"] == f"there is no option {name!r} here; {hint}"


def test_images_and_long_prompts_are_refused(server):
    parts = [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]
    status, answer, _ = server.client.post(PATH, ask(messages=[{"role": "user", "content": parts}]))
    assert (status, "image_url" in answer["error"]["message"]) == (400, True)
    status, answer, _ = server.client.post(PATH, ask(messages=[{"role": "user", "content": "fox " * 2000}]))
    assert (status, answer["error"]["code"]) == (400, "context_length_exceeded")


def test_models_are_known_by_name(server):
    status, answer, _ = server.client.post(PATH, ask() | {"model": "../../etc/passwd"})
    assert (status, answer["error"]["code"]) == (404, "model_not_found")
    listed = server.client.get("/v1/models")[1]
    assert [each["id"] for each in listed["data"]] == ["tiny"]
    one = server.client.get("/v1/models/tiny")[1]
    assert (one["loaded"], one["receipt"]["backend"]) == (True, "fake")
    assert server.client.get("/v1/models/..%2f..%2fetc%2fpasswd")[0] == 404


def test_thoughts_are_apart(server):
    server.say("<think>\nThe dog.\n</think>\n\nThe fox.")
    message = server.client.post(PATH, ask())[1]["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("The dog.", "The fox.")
    events = server.client.events(PATH, ask(stream=True))
    deltas = [e["choices"][0]["delta"] for e in events[:-1]]
    assert "".join(d.get("reasoning_content", "") for d in deltas) == "The dog."
    assert "".join(d.get("content", "") for d in deltas) == "The fox."


@pytest.mark.parametrize(
    "switch",
    [
        {"enable_thinking": True},
        {"reasoning_effort": "high"},
        {"chat_template_kwargs": {"enable_thinking": True}},
    ],
)
def test_thinking_is_switched_and_limited(server, switch):
    server.say("The dog and the fox and the dog again.\n</think>\n\nThe fox.", thinks=True)
    message = server.client.post(PATH, ask(**switch))[1]["choices"][0]["message"]
    assert message["reasoning_content"] == "The dog and the fox and the dog again."
    assert message["content"] == "The fox."
    short = server.client.post(PATH, ask(thinking_tokens=2, max_tokens=40, **switch))[1]["choices"][0][
        "message"
    ]
    assert len(short["reasoning_content"]) < 12
    assert short["content"]
    off = server.client.post(PATH, ask(reasoning_effort="none"))[1]
    assert off["choices"][0]["message"].get("reasoning_content") is None
