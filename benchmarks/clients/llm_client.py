"""The command `llm` and its package, with the server as an OpenAI-compatible model."""

import json
import os
from importlib.metadata import version
from pathlib import Path

folder = Path(os.environ["LLM_USER_PATH"])
(folder / "extra-openai-models.yaml").write_text(
    json.dumps(
        [
            {
                "model_id": "served",
                "model_name": "tooled",
                "api_base": os.environ["SERVED"] + "/v1",
                "api_key_name": "served",
                "supports_tools": True,
                "supports_schema": True,
            }
        ]
    )
)

import llm  # noqa: E402 - it reads the file above

model = llm.get_model("served")
KEY = os.environ["SERVED_KEY"]
answer = model.prompt("What is the capital of France?", max_tokens=20, key=KEY)
pieces = list(answer)
assert len(pieces) > 3
assert (
    "".join(pieces)
    == model.prompt("What is the capital of France?", max_tokens=20, stream=False, key=KEY).text()
)
schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}
assert json.loads(model.prompt("A number.", schema=schema, max_tokens=30, key=KEY).text())["n"] in (1, 2)


def weather(city: str) -> str:
    """The weather of a city."""
    return f"Sunny in {city}."


assert model.prompt("The weather in Rome?", tools=[weather], max_tokens=20, key=KEY).text() is not None
chat = model.conversation()
assert chat.prompt("What is the capital of France?", max_tokens=20, key=KEY).text()
assert chat.prompt("And of Italy?", max_tokens=20, key=KEY).text()
print("llm", version("llm"))
