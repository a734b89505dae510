"""`POST /v1/messages`, whole or in events, and the count of its tokens."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Iterator

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgesdk.engine.metrics import RequestMetrics
from edgesdk.server.anthropic.asks import count_ask, messages_ask
from edgesdk.server.anthropic.documents import CountDocument, MessagesDocument
from edgesdk.server.event_stream import EventStream, compact, event
from edgesdk.server.openai.errors import retry_header
from edgesdk.server.read_document import read_document
from edgesdk.server.refusal import Refused
from edgesdk.server.running import CallPiece, EndPiece, Piece, Running, TextPiece, ThoughtPiece
from edgesdk.server.service import collect, service_of

_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def messages_error(refused: Refused) -> JSONResponse:
    """A refusal, as Anthropic's interface has it."""
    return JSONResponse(_error(refused), refused.status, retry_header(refused))


async def messages(request: Request) -> Response:
    """Answers a conversation.

    Raises:
        Refused: an option is not honoured, or the model does not take it.
    """
    service = service_of(request)
    document = await read_document(request, MessagesDocument, service.options)
    running = await service.begin(document.model, messages_ask(document))
    head: dict[str, object] = {
        "id": f"msg_{uuid.uuid4().hex[:24]}",
        "type": "message",
        "role": "assistant",
        "model": running.model.name,
    }
    if document.stream:
        return EventStream(_stream(running, document, head), running.close)
    (answer,) = await collect(request, running)
    content: list[dict[str, object]] = []
    if answer.thought:
        content.append({"type": "thinking", "thinking": answer.thought, "signature": ""})
    if answer.text.strip() or not answer.calls:
        content.append({"type": "text", "text": answer.text})
    for call in answer.calls:
        content.append(
            {"type": "tool_use", "id": call.call_id, "name": call.name, "input": _read(call.arguments)}
        )
    assert answer.end is not None
    whole = {**head, "content": content, **_stop(answer.end, document), "usage": _usage(running.metrics[0])}
    return Response(compact(whole), media_type="application/json")


async def count_tokens(request: Request) -> Response:
    """Counts the tokens of a conversation as the model sees it.

    Raises:
        Refused: it is not as it must be.
    """
    service = service_of(request)
    document = await read_document(request, CountDocument, service.options)
    ask = count_ask(document)
    leased = await service.host.lease(document.model)
    try:
        model = leased.engine.model
        options = ask.options_for(model.chat_template)

        def count() -> int:
            variables = options.get("template_variables")
            return len(
                model.render_chat(ask.messages or (), tools=ask.tools or None, template_variables=variables)
            )

        found = await anyio.to_thread.run_sync(count)
    finally:
        leased.release()
    return JSONResponse({"input_tokens": found})


def _read(arguments: str) -> object:
    try:
        found: object = json.loads(arguments)
    except ValueError:  # cut by the limit, as the reason says
        return {}
    return found


def _usage(metrics: RequestMetrics) -> dict[str, object]:
    return {
        "input_tokens": metrics.prompt_tokens - metrics.cached_tokens,
        "cache_read_input_tokens": metrics.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": metrics.new_tokens,
    }


def _stop(end: EndPiece, document: MessagesDocument) -> dict[str, object]:
    reason = end.completion.finish_reason
    stops = document.stop_sequences or []
    if reason in ("length", "deadline"):
        return {"stop_reason": "max_tokens", "stop_sequence": None}
    if end.calls:
        return {"stop_reason": "tool_use", "stop_sequence": None}
    if reason == "stop_string":
        return {"stop_reason": "stop_sequence", "stop_sequence": stops[0] if len(stops) == 1 else None}
    return {"stop_reason": "end_turn", "stop_sequence": None}


def _error(refused: Refused) -> dict[str, object]:
    kind = _KINDS.get(refused.status, "invalid_request_error" if refused.status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": refused.message}}


def _event(kind: str, **fields: object) -> bytes:
    return event({"type": kind, **fields}, kind)


async def _stream(
    running: Running, document: MessagesDocument, head: dict[str, object]
) -> AsyncIterator[bytes]:
    blocks = _Blocks()
    begun = {**head, "content": [], "stop_reason": None, "stop_sequence": None}
    yield _event("message_start", message={**begun, "usage": _usage(running.metrics[0])})
    try:
        async for piece in running.pieces():
            if isinstance(piece, EndPiece):
                for data in blocks.close():
                    yield data
                usage = _usage(running.metrics[0])
                yield _event("message_delta", delta=_stop(piece, document), usage=usage)
                yield _event("message_stop")
                return
            for data in blocks.add(piece):
                yield data
    except Refused as refused:
        yield event(_error(refused), "error")


class _Blocks:
    """The blocks of a message, one after the other."""

    def __init__(self) -> None:
        self._index = -1
        self._open: tuple[str, int] | None = None

    def add(self, piece: Piece) -> Iterator[bytes]:
        match piece:
            case TextPiece():
                if piece.text and (self._open is not None or piece.text.strip()):
                    yield from self._start(("text", 0), {"type": "text", "text": ""})
                    yield self._delta(type="text_delta", text=piece.text)
            case ThoughtPiece():
                yield from self._start(("thinking", 0), {"type": "thinking", "thinking": "", "signature": ""})
                yield self._delta(type="thinking_delta", thinking=piece.text)
            case CallPiece():
                begun: dict[str, object] = {
                    "type": "tool_use",
                    "id": piece.call_id,
                    "name": piece.name,
                    "input": {},
                }
                yield from self._start(("tool_use", piece.call), begun)
                if piece.arguments:
                    yield self._delta(type="input_json_delta", partial_json=piece.arguments)

    def close(self) -> Iterator[bytes]:
        if self._open is not None:
            yield _event("content_block_stop", index=self._index)
            self._open = None

    def _start(self, block: tuple[str, int], begun: dict[str, object]) -> Iterator[bytes]:
        if self._open != block:
            yield from self.close()
            self._open = block
            self._index += 1
            yield _event("content_block_start", index=self._index, content_block=begun)

    def _delta(self, **delta: object) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)
