"""The description of the server's interfaces (OpenAPI 3.1), made from the documents that are read."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgesdk.server.anthropic.documents import CountDocument, MessagesDocument
from edgesdk.server.ollama.documents import ChatDocument as OllamaChatDocument
from edgesdk.server.ollama.documents import (
    EmbedDocument,
    GenerateDocument,
    OneEmbeddingDocument,
    ShowDocument,
)
from edgesdk.server.openai.documents import ChatDocument, CompletionDocument, EmbeddingsDocument
from edgesdk.server.openai.responses_documents import ResponsesDocument
from edgesdk.server.read_document import Document
from edgesdk.server.service import service_of
from edgesdk.version import read_version

_POSTS: dict[str, tuple[type[Document], str]] = {
    "/v1/chat/completions": (ChatDocument, "Answers a conversation."),
    "/v1/completions": (CompletionDocument, "Continues a prompt."),
    "/v1/responses": (ResponsesDocument, "Answers a conversation of items."),
    "/v1/embeddings": (EmbeddingsDocument, "Turns texts into vectors."),
    "/v1/messages": (MessagesDocument, "Answers a conversation, in Anthropic's words."),
    "/v1/messages/count_tokens": (CountDocument, "Counts the tokens of a conversation."),
    "/api/chat": (OllamaChatDocument, "Answers a conversation, in Ollama's words."),
    "/api/generate": (GenerateDocument, "Answers a prompt."),
    "/api/embed": (EmbedDocument, "Turns texts into vectors."),
    "/api/embeddings": (OneEmbeddingDocument, "Turns a text into a vector."),
    "/api/show": (ShowDocument, "Says what a model is."),
}
_GETS = {
    "/v1/models": "Lists the models.",
    "/v1/models/{name}": "One model.",
    "/api/tags": "Lists the models.",
    "/api/ps": "Lists the models in memory.",
    "/api/version": "The version of Ollama's interface.",
    "/health": "Whether the server lives.",
    "/metrics": "Figures, for Prometheus.",
    "/openapi.json": "This description.",
}
_REFUSALS = {
    "400": "An option is not honoured; the message names it.",
    "401": "The key is missing or wrong.",
    "403": "The host or the origin is not let in.",
    "404": "There is no such model.",
    "408": "The request came too slowly.",
    "413": "The request is too large.",
    "415": "The content is no JSON.",
    "422": "The model called a strict function otherwise than its schema says.",
    "429": "Too many requests are waiting.",
    "503": "The model cannot be loaded now.",
}


def describe(models: Sequence[str]) -> dict[str, object]:
    """The description, as OpenAPI has it.

    Args:
        models: names that may be asked for.
    """
    kinds = list(dict.fromkeys(kind for kind, _ in _POSTS.values()))
    names, definitions = models_json_schema(
        [(kind, "validation") for kind in kinds], ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, dict[str, object]] = {}
    for path, (kind, summary) in _POSTS.items():
        content = {"application/json": {"schema": names[kind, "validation"]}}
        paths[path] = {"post": _operation(summary, {"requestBody": {"required": True, "content": content}})}
    for path, summary in _GETS.items():
        more: dict[str, object] = {}
        if "{name}" in path:
            schema = {"type": "string", "minLength": 1, "maxLength": 200}
            more = {"parameters": [{"name": "name", "in": "path", "required": True, "schema": schema}]}
        paths[path] = {"get": _operation(summary, more)}
    for schema in definitions["$defs"].values():
        if "model" in schema.get("properties", {}):
            schema["properties"]["model"] = {"title": "Model", "enum": list(models)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "edgesdk serve", "version": read_version()},
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


async def open_api(request: Request) -> Response:
    """`GET /openapi.json`."""
    return JSONResponse(describe(service_of(request).host.names))


def _operation(summary: str, more: dict[str, object]) -> dict[str, object]:
    refusals = {status: {"description": what} for status, what in _REFUSALS.items()}
    return {"summary": summary, "responses": {"200": {"description": "Done."}, **refusals}, **more}
