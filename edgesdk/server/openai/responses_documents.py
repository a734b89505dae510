"""The document of OpenAI's interface of responses, as far as it is honoured."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from edgesdk.server.openai.documents import JsonObject, Sampling, StreamOptions
from edgesdk.server.read_document import Document

_MOST_INT = (1 << 63) - 1


class TextFormat(Document):
    """What the answer must follow."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema_: JsonObject | bool | None = Field(None, alias="schema")
    strict: bool | None = None


class TextDocument(Document):
    """How the answer's text is."""

    format: TextFormat | None = None
    verbosity: Literal["medium"] | None = None


class ReasoningDocument(Document):
    """How much the model thinks first."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class FunctionDocument(Document):
    """A function."""

    type: Literal["function"]
    name: str = Field(min_length=1, max_length=200)
    parameters: JsonObject | None = None
    description: str | None = None
    strict: bool | None = None


class ResponsesDocument(Sampling):
    """`POST /v1/responses`."""

    input: str | list[JsonObject] = Field(max_length=1 << 23)
    instructions: str | None = None
    max_output_tokens: int | None = Field(None, ge=1, le=_MOST_INT)
    text: TextDocument | None = None
    tools: list[FunctionDocument] | None = Field(None, max_length=1_000)
    tool_choice: Literal["auto", "none", "required"] | JsonObject | None = None
    parallel_tool_calls: bool | None = None
    reasoning: ReasoningDocument | None = None
    include: list[str] | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    truncation: Literal["disabled"] | None = None
    background: Literal[False] | None = None
    stream_options: StreamOptions | None = None
    service_tier: Literal["auto", "default"] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    chat_template_kwargs: dict[str, JsonValue] | None = None
    thinking_tokens: int | None = Field(None, ge=0, le=_MOST_INT)
