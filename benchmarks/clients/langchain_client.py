"""langchain-openai: chats, streams, bound tools, structured output, the interface of responses."""

import os
from importlib.metadata import version

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

asked = {"model": "tooled", "base_url": os.environ["SERVED"] + "/v1", "api_key": os.environ["SERVED_KEY"]}
model = ChatOpenAI(**asked, max_tokens=40, temperature=0)
QUESTION = "What is the capital of France?"


class Number(BaseModel):
    """A number."""

    n: int


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"Sunny in {city}."


whole = model.invoke(QUESTION)
assert whole.content, whole
assert "".join(piece.content for piece in model.stream(QUESTION)) == whole.content
assert whole.usage_metadata["output_tokens"] > 0
assert len(model.batch([QUESTION] * 3)) == 3
bound = ChatOpenAI(**asked, max_tokens=200, temperature=0).bind_tools([weather], tool_choice="required")
call = bound.invoke(QUESTION)
if call.tool_calls:  # a city may be long
    history = [HumanMessage(QUESTION), call, ToolMessage("Sunny.", tool_call_id=call.tool_calls[0]["id"])]
    assert model.bind_tools([weather]).invoke(history) is not None
joined = None
for piece in bound.stream(QUESTION):
    joined = piece if joined is None else joined + piece
assert joined.tool_call_chunks
assert isinstance(model.with_structured_output(Number).invoke("Seven."), Number)
assert isinstance(model.with_structured_output(Number, method="function_calling").invoke("Seven."), Number)
responses = ChatOpenAI(**asked, max_tokens=40, temperature=0, use_responses_api=True)
assert responses.invoke(QUESTION).text == whole.content
assert "".join(piece.text for piece in responses.stream(QUESTION)) == whole.content
print("langchain-openai", version("langchain-openai"))
