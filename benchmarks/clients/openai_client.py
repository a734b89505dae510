"""The openai package: chats, completions, responses, streams and their helpers, tools, errors."""

import asyncio
import json
import os

import openai
from pydantic import BaseModel

client = openai.OpenAI(base_url=os.environ["SERVED"] + "/v1", api_key=os.environ["SERVED_KEY"])
MODEL = client.models.list().data[0].id
MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Paris", "Rome"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS, "strict": True}}


class City(BaseModel):
    name: str
    is_capital: bool


# Chats.
whole = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=20, seed=1)
assert whole.choices[0].message.content, whole
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
again = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=20, seed=1)
assert again.usage.prompt_tokens_details.cached_tokens > 0
assert again.choices[0].message.content == whole.choices[0].message.content
pieces = list(
    client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=20, stream=True, stream_options={"include_usage": True}
    )
)
assert (
    "".join(p.choices[0].delta.content or "" for p in pieces if p.choices) == whole.choices[0].message.content
)
assert pieces[-1].usage.completion_tokens == whole.usage.completion_tokens
several = client.chat.completions.create(
    model=MODEL, messages=MESSAGES, max_tokens=8, n=3, temperature=1.0, seed=2, logprobs=True, top_logprobs=3
)
assert len(several.choices) == 3
assert len(several.choices[0].logprobs.content[0].top_logprobs) == 3

# The helper for streams.
with client.chat.completions.stream(model=MODEL, messages=MESSAGES, max_tokens=20) as stream:
    text = "".join(event.delta for event in stream if event.type == "content.delta")
    assert (
        stream.get_final_completion().choices[0].message.content == text == whole.choices[0].message.content
    )

# Parsed answers.
parsed = client.chat.completions.parse(
    model=MODEL, messages=MESSAGES, response_format=City, max_tokens=120, seed=1, temperature=0.5
)
if parsed.choices[0].finish_reason == "stop":
    assert isinstance(parsed.choices[0].message.parsed, City), parsed

# Tools: whole, streamed, by the helper; and their result.
call = client.chat.completions.create(
    model=MODEL, messages=MESSAGES, tools=[TOOL], tool_choice="required", max_tokens=100
).choices[0]
assert call.finish_reason == "tool_calls", call
(made,) = call.message.tool_calls
assert json.loads(made.function.arguments)["city"] in ("Paris", "Rome")
with client.chat.completions.stream(
    model=MODEL, messages=MESSAGES, tools=[TOOL], tool_choice="required", max_tokens=100
) as stream:
    kinds = [event.type for event in stream]
    final = stream.get_final_completion().choices[0].message.tool_calls[0].function
assert "tool_calls.function.arguments.delta" in kinds
assert final.name == "weather"
assert final.parsed_arguments["days"] >= 1
result = {"role": "tool", "tool_call_id": made.id, "content": "Sunny."}
later = [*MESSAGES, call.message.model_dump(exclude_none=True), result]
assert client.chat.completions.create(model=MODEL, messages=later, tools=[TOOL], max_tokens=10).choices

# Thoughts.
thought = client.chat.completions.create(
    model=MODEL,
    messages=MESSAGES,
    reasoning_effort="high",
    max_tokens=60,
    extra_body={"thinking_tokens": 10},
)
assert thought.choices[0].message.reasoning_content, thought
assert thought.usage.completion_tokens_details.reasoning_tokens > 0

# Completions.
done = client.completions.create(model=MODEL, prompt=["The sea is", "The sky is"], max_tokens=8, logprobs=2)
assert [choice.index for choice in done.choices] == [0, 1]
assert len(done.choices[0].logprobs.tokens) == 8
assert list(client.completions.create(model=MODEL, prompt="The sea is", max_tokens=8, stream=True))

# Responses.
response = client.responses.create(model=MODEL, input="What is the capital of France?", max_output_tokens=20)
assert response.output_text == whole.choices[0].message.content, (response.output_text, whole)
next_one = client.responses.create(
    model=MODEL, input="And of Italy?", previous_response_id=response.id, max_output_tokens=20
)
assert next_one.usage.input_tokens > response.usage.input_tokens
with client.responses.stream(
    model=MODEL, input="What is the capital of France?", max_output_tokens=20
) as stream:
    assert "".join(e.delta for e in stream if e.type == "response.output_text.delta") == response.output_text
    assert stream.get_final_response().output_text == response.output_text
function = {"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": True}
with client.responses.stream(
    model=MODEL, input="The weather?", tools=[function], tool_choice="required", max_output_tokens=100
) as stream:
    kinds = {event.type for event in stream}
    item = stream.get_final_response().output[0]
assert "response.function_call_arguments.delta" in kinds
assert (item.type, item.parsed_arguments["city"] in ("Paris", "Rome")) == ("function_call", True)
outcome = [item.model_dump(include={"type", "call_id", "name", "arguments"})]
outcome.append({"type": "function_call_output", "call_id": item.call_id, "output": "Sunny."})
assert client.responses.create(
    model=MODEL, input=[{"role": "user", "content": "The weather?"}, *outcome], max_output_tokens=10
).output_text
shaped = client.responses.parse(
    model=MODEL,
    input="Paris?",
    text_format=City,
    max_output_tokens=120,
    temperature=0.5,
    extra_body={"seed": 1},
)
if shaped.status == "completed":
    assert isinstance(shaped.output_parsed, City)

# What is refused.
for error, ask in (
    (openai.BadRequestError, lambda: client.embeddings.create(model=MODEL, input="x")),
    (openai.NotFoundError, lambda: client.chat.completions.create(model="gpt-9", messages=MESSAGES)),
    (
        openai.BadRequestError,
        lambda: client.chat.completions.create(model=MODEL, messages=MESSAGES, web_search_options={}),
    ),
    (openai.AuthenticationError, lambda: client.with_options(api_key="another-key").models.list()),
):
    try:
        ask()
    except error as refused:
        print("refused:", refused.message)
    else:
        raise AssertionError(error)


async def many() -> None:
    """Several at once, one of which is given up."""
    asynchronous = openai.AsyncOpenAI(base_url=os.environ["SERVED"] + "/v1", api_key=os.environ["SERVED_KEY"])

    async def one() -> str:
        answer = await asynchronous.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=20)
        return answer.choices[0].message.content

    stream = await asynchronous.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    async for _ in stream:
        break
    await stream.close()
    answers = await asyncio.gather(*(one() for _ in range(6)))
    assert all(answers)


asyncio.run(many())
print("openai", openai.__version__)
