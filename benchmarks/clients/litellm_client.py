"""litellm: one call for OpenAI's, Anthropic's and Ollama's interface of the server."""

import os
from importlib.metadata import version

import litellm

litellm.telemetry = False
URL, KEY = os.environ["SERVED"], os.environ["SERVED_KEY"]
MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
answers = []
for model, base in (("openai/tooled", f"{URL}/v1"), ("anthropic/tooled", URL)):
    asked = {"model": model, "api_base": base, "api_key": KEY, "messages": MESSAGES, "max_tokens": 20}
    whole = litellm.completion(**asked)
    answers.append(whole.choices[0].message.content)
    pieces = litellm.completion(**asked, stream=True)
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert text == answers[-1], (text, answers)
    call = litellm.completion(**{**asked, "max_tokens": 80}, tools=[TOOL], tool_choice="required")
    assert call.choices[0].message.tool_calls[0].function.name == "weather", call
    parts = list(
        litellm.completion(**{**asked, "max_tokens": 80}, tools=[TOOL], tool_choice="required", stream=True)
    )
    joined = litellm.stream_chunk_builder(parts)
    assert joined.choices[0].message.tool_calls[0].function.arguments, joined
assert answers[0] == answers[1]
print("litellm", version("litellm"))
