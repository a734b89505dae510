"""The documents of Ollama's interface, as far as they are honoured; all else is refused by its name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from edgesdk.server.openai.documents import ChatMessages, FunctionTools
from edgesdk.server.read_document import Document

JsonObject = dict[str, JsonValue]
_MOST_INT = (1 << 63) - 1


class OllamaOptions(Document):
    """How to answer."""

    num_predict: int | None = Field(None, ge=-2, le=_MOST_INT)
    num_ctx: int | None = Field(None, ge=1, le=_MOST_INT)
    temperature: float | None = Field(None, ge=0, le=1e6)
    top_k: int | None = Field(None, ge=0, le=_MOST_INT)
    top_p: float | None = Field(None, gt=0, le=1)
    min_p: float | None = Field(None, ge=0, le=1)
    typical_p: float | None = Field(None, gt=0, le=1)
    repeat_penalty: float | None = Field(None, gt=0, le=1e6)
    presence_penalty: float | None = Field(None, ge=-1e6, le=1e6)
    frequency_penalty: float | None = Field(None, ge=-1e6, le=1e6)
    seed: int | None = Field(None, ge=0, le=_MOST_INT)
    stop: str | list[str] | None = None


class Generating(Document):
    """What chats and prompts have in common."""

    model: str | None = None
    stream: bool | None = None
    format: Literal["", "json"] | JsonObject | None = None
    options: OllamaOptions | None = None
    keep_alive: str | int | float | None = None
    think: bool | Literal["low", "medium", "high"] | None = None


class ChatDocument(Generating):
    """`POST /api/chat`; without messages the model is loaded, or unloaded."""

    messages: ChatMessages | Annotated[list[JsonObject], Field(max_length=0)] = Field(default_factory=list)
    tools: FunctionTools | None = None


class GenerateDocument(Generating):
    """`POST /api/generate`; without a prompt the model is loaded, or unloaded."""

    prompt: str = ""
    system: str | None = None
    raw: bool | None = None
    suffix: Literal[""] | None = None
    template: Literal[""] | None = None
    images: list[str] | None = Field(None, max_length=0)
    context: list[int] | None = Field(None, max_length=0)


class ShowDocument(Document):
    """`POST /api/show`."""

    model: str | None = None
    name: str | None = None
    verbose: bool | None = None


class EmbedDocument(Document):
    """`POST /api/embed`."""

    model: str | None = None
    input: str | list[str]
    truncate: bool | None = None
    dimensions: int | None = Field(None, ge=1, le=_MOST_INT)
    keep_alive: str | int | float | None = None
    options: Annotated[JsonObject, Field(max_length=0)] | None = None


class OneEmbeddingDocument(Document):
    """`POST /api/embeddings`."""

    model: str | None = None
    prompt: str
    keep_alive: str | int | float | None = None
    options: Annotated[JsonObject, Field(max_length=0)] | None = None
