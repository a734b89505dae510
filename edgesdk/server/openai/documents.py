"""The documents of OpenAI's interfaces for chats and completions, as far as they are honoured.

What is not listed here is refused by its name, and so is a value that would change something here and does
not. Options without a counterpart at OpenAI have the names of `edgesdk.GenerationOptions`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, WithJsonSchema

from edgesdk.server.read_document import Document

JsonObject = dict[str, JsonValue]

_TEXTS = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
                "required": ["type", "text"],
            },
        },
    ]
}
_CALLS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "type": {"const": "function"},
            "function": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "arguments": {"type": "string"}},
                "required": ["name", "arguments"],
            },
        },
        "required": ["id", "type", "function"],
    },
}
ChatMessages = Annotated[
    list[JsonObject],
    Field(min_length=1, max_length=10_000),
    WithJsonSchema(
        {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
                    "content": _TEXTS,
                    "tool_calls": _CALLS,
                    "tool_call_id": {"type": "string"},
                    "reasoning_content": {"type": "string"},
                },
                "required": ["role", "content"],
            },
        }
    ),
]
"""A conversation; what a message must be is `edgesdk.text.messages`' to check, this is its description."""

FunctionTools = Annotated[
    list[JsonObject],
    Field(max_length=1_000),
    WithJsonSchema(
        {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "type": {"const": "function"},
                    "function": {
                        "type": "object",
                        "properties": {
                            "name": {"type": "string", "minLength": 1},
                            "description": {"type": "string"},
                            "parameters": {"type": "object"},
                            "strict": {"type": "boolean"},
                        },
                        "required": ["name"],
                    },
                },
                "required": ["type", "function"],
            },
        }
    ),
]
"""Functions that a model may call, likewise."""

Stop = str | list[str]
_MOST_INT = (1 << 63) - 1


class StreamOptions(Document):
    """What a stream has besides."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class SchemaFormat(Document):
    """A named JSON schema."""

    name: str | None = None
    description: str | None = None
    schema_: JsonObject | bool | None = Field(None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Document):
    """What an answer must follow."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaFormat | None = None


class Sampling(Document):
    """How to choose tokens, in every interface of OpenAI's."""

    model: str | None = None
    stream: bool | None = None
    temperature: float | None = Field(None, ge=0, le=1e6)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0, le=_MOST_INT)
    min_p: float | None = Field(None, ge=0, le=1)
    typical_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=1e6)
    seed: int | None = Field(None, ge=0, le=_MOST_INT)
    presence_penalty: float | None = Field(None, ge=-1e6, le=1e6)
    frequency_penalty: float | None = Field(None, ge=-1e6, le=1e6)
    user: str | None = None
    metadata: JsonObject | None = None
    priority: int | None = Field(None, ge=-1_000_000, le=1_000_000)
    deadline_s: float | None = Field(None, gt=0, le=1e9)


class Drawing(Sampling):
    """How many answers, and where they end."""

    n: int | None = Field(None, ge=1, le=128)
    stop: Stop | None = None
    logit_bias: dict[str, float] | None = None
    stream_options: StreamOptions | None = None
    ignore_eos: bool | None = None
    regex: str | None = None
    lark: str | None = None


class ChatDocument(Drawing):
    """`POST /v1/chat/completions`."""

    messages: ChatMessages
    max_tokens: int | None = Field(None, ge=1, le=_MOST_INT)
    max_completion_tokens: int | None = Field(None, ge=1, le=_MOST_INT)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    tools: FunctionTools | None = None
    tool_choice: Literal["auto", "none", "required"] | JsonObject | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: JsonObject | None = None
    enable_thinking: bool | None = None
    thinking_tokens: int | None = Field(None, ge=0, le=_MOST_INT)
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    modalities: list[Literal["text"]] | None = None
    service_tier: Literal["auto", "default"] | None = None
    store: Literal[False] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


class CompletionDocument(Drawing):
    """`POST /v1/completions`."""

    prompt: str | list[str] | list[int] | list[list[int]]
    max_tokens: int | None = Field(None, ge=1, le=_MOST_INT)
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    suffix: Literal[""] | None = None


class EmbeddingsDocument(Document):
    """`POST /v1/embeddings`."""

    model: str | None = None
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1, le=_MOST_INT)
    user: str | None = None
