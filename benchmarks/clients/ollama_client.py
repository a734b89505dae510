"""The ollama package: chats, prompts, streams, tools, formats, lists."""

import os
from importlib.metadata import version

import ollama

client = ollama.Client(
    host=os.environ["SERVED"], headers={"Authorization": f"Bearer {os.environ['SERVED_KEY']}"}
)
MODEL = client.list().models[0].model
MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]


def weather(city: str) -> str:
    """The weather of a city.

    Args:
        city: its name.
    """
    return f"Sunny in {city}."


options = {"num_predict": 20, "seed": 1}
whole = client.chat(model=MODEL, messages=MESSAGES, options=options)
assert whole.message.content, whole
assert whole.eval_count
pieces = list(client.chat(model=MODEL, messages=MESSAGES, options=options, stream=True))
assert "".join(piece.message.content for piece in pieces) == whole.message.content
assert pieces[-1].done
said = client.generate(model=MODEL, prompt="What is the capital of France?", options=options)
assert said.response == whole.message.content
assert "".join(
    p.response for p in client.generate(model=MODEL, prompt="The sea", options=options, stream=True)
)
schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}
assert '"n"' in client.chat(model=MODEL, messages=MESSAGES, format=schema).message.content
assert client.chat(model=MODEL, messages=MESSAGES, tools=[weather], options=options).message
thought = client.chat(model=MODEL, messages=MESSAGES, think=True, options={"num_predict": 20})
assert thought.message.thinking, thought
assert client.show(MODEL).modelinfo
assert client.ps().models[0].model == MODEL
try:
    client.chat(model="llama9", messages=MESSAGES)
except ollama.ResponseError as refused:
    print("refused:", refused.status_code)
else:
    raise AssertionError("an unknown model")
print("ollama", version("ollama"))
