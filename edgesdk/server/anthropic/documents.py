"""The documents of Anthropic's interface, as far as they are honoured; all else is refused by its name."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from edgesdk.server.read_document import Document

JsonObject = dict[str, JsonValue]
_MOST_INT = (1 << 63) - 1


class CacheControl(Document):
    """What a client would have cached: prefixes are kept here without being asked."""

    type: Literal["ephemeral"]
    ttl: str | None = None


class ToolDocument(Document):
    """A function."""

    name: str = Field(min_length=1, max_length=200)
    input_schema: JsonObject
    description: str | None = None
    type: Literal["custom"] | None = None
    strict: bool | None = None
    cache_control: CacheControl | None = None


class ToolChoiceDocument(Document):
    """Whether a function has to be called."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class ThinkingDocument(Document):
    """Whether the model thinks first."""

    type: Literal["enabled", "disabled"]
    budget_tokens: int | None = Field(None, ge=0, le=_MOST_INT)


class CountDocument(Document):
    """`POST /v1/messages/count_tokens`."""

    model: str | None = None
    messages: list[JsonObject] = Field(min_length=1, max_length=10_000)
    system: str | list[JsonObject] | None = None
    tools: list[ToolDocument] | None = Field(None, max_length=1_000)
    tool_choice: ToolChoiceDocument | None = None
    thinking: ThinkingDocument | None = None


class MessagesDocument(CountDocument):
    """`POST /v1/messages`."""

    max_tokens: int = Field(ge=1, le=_MOST_INT)
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = Field(None, ge=0, le=1e6)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0, le=_MOST_INT)
    metadata: JsonObject | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
