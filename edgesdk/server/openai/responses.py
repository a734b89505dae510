"""`POST /v1/responses`, whole or in events."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence

from starlette.requests import Request
from starlette.responses import Response

from edgesdk.engine.metrics import RequestMetrics
from edgesdk.server.event_stream import EventStream, close_when_gone, compact, event
from edgesdk.server.openai.documents import JsonObject
from edgesdk.server.openai.kept_responses import KeptResponses
from edgesdk.server.openai.responses_asks import responses_ask
from edgesdk.server.openai.responses_documents import ResponsesDocument
from edgesdk.server.read_document import read_document
from edgesdk.server.refusal import Refused
from edgesdk.server.running import CallPiece, EndPiece, Piece, Running, TextPiece, ThoughtPiece
from edgesdk.server.service import service_of

Item = dict[str, object]
Events = Iterator[tuple[str, dict[str, object]]]


async def responses(request: Request) -> Response:
    """Answers a conversation of items.

    Raises:
        Refused: an option is not honoured, or the model does not take it.
    """
    service = service_of(request)
    kept: KeptResponses = request.app.state.kept_responses
    document = await read_document(request, ResponsesDocument, service.options)
    earlier = kept.find(document.previous_response_id)
    running = await service.begin(document.model, responses_ask(document, earlier))
    answer = _Answer(document, running)
    if document.stream:
        return EventStream(_stream(answer, kept, earlier), running.close)
    watcher = asyncio.ensure_future(close_when_gone(request.receive, running.close))
    try:
        async for piece in running.pieces():
            for _ in answer.add(piece):
                pass
    finally:
        watcher.cancel()
        running.close()
    answer.keep(kept, earlier)
    return Response(compact(answer.document()), media_type="application/json")


async def _stream(
    answer: _Answer, kept: KeptResponses, earlier: Sequence[JsonObject]
) -> AsyncIterator[bytes]:
    number = 0

    def write(kind: str, fields: dict[str, object]) -> bytes:
        nonlocal number
        number += 1
        return event({"type": kind, "sequence_number": number - 1, **fields}, kind)

    yield write("response.created", {"response": answer.document()})
    yield write("response.in_progress", {"response": answer.document()})
    try:
        async for piece in answer.running.pieces():
            for kind, fields in answer.add(piece):
                yield write(kind, fields)
    except Refused as refused:
        answer.status = "failed"
        answer.error = {"code": refused.code or "server_error", "message": refused.message}
        yield write("response.failed", {"response": answer.document()})
        return
    answer.keep(kept, earlier)
    kind = "response.completed" if answer.status == "completed" else "response.incomplete"
    yield write(kind, {"response": answer.document()})


class _Answer:
    """A response as it is put together."""

    def __init__(self, document: ResponsesDocument, running: Running) -> None:
        self.running = running
        self.status = "in_progress"
        self.error: dict[str, object] | None = None
        self._asked = document
        self._id = f"resp_{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._items: list[Item] = []
        self._open: tuple[str, int] | None = None
        self._text = ""
        self._cut = False
        self._thought_tokens = 0

    def document(self) -> dict[str, object]:
        """It as far as it has come."""
        asked = self._asked
        shown = asked.model_dump(
            mode="json", by_alias=True, include={"text", "tools", "reasoning"}, exclude_none=True
        )
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": self.status,
            "error": self.error,
            "incomplete_details": {"reason": "max_output_tokens"} if self._cut else None,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "model": self.running.model.name,
            "output": list(self._items) if self.status != "in_progress" else [],
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "previous_response_id": asked.previous_response_id,
            "reasoning": shown.get("reasoning", {"effort": None, "summary": None}),
            "store": asked.store is not False,
            "temperature": asked.temperature,
            "text": shown.get("text", {"format": {"type": "text"}}),
            "tool_choice": asked.tool_choice or "auto",
            "tools": shown.get("tools", []),
            "top_p": asked.top_p,
            "truncation": "disabled",
            "usage": None
            if self.status == "in_progress"
            else _usage(self.running.metrics[0], self._thought_tokens),
            "user": asked.user,
            "metadata": asked.metadata or {},
        }

    def keep(self, kept: KeptResponses, earlier: Sequence[JsonObject]) -> None:
        """Keeps it for those that go on from it, unless the client does not want that."""
        if self._asked.store is False:
            return
        asked = self._asked.input
        items: list[JsonObject] = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
        kept.keep(self._id, [*earlier, *items, *self._items])  # type: ignore[list-item]

    def add(self, piece: Piece) -> Events:
        """Adds a piece; gives the events that say so."""
        match piece:
            case TextPiece():
                if piece.text and (self._open is not None or piece.text.strip()):
                    yield from self._begin(("message", 0))
                    self._text += piece.text
                    place = self._place(content_index=0)
                    yield "response.output_text.delta", {**place, "delta": piece.text, "logprobs": []}
            case ThoughtPiece():
                yield from self._begin(("reasoning", 0))
                self._text += piece.text
                yield "response.reasoning_text.delta", {**self._place(content_index=0), "delta": piece.text}
            case CallPiece():
                yield from self._begin(("function_call", piece.call), piece)
                self._text += piece.arguments
                if piece.arguments:
                    yield (
                        "response.function_call_arguments.delta",
                        {**self._place(), "delta": piece.arguments},
                    )
            case EndPiece():
                self._thought_tokens = piece.completion.thought_tokens
                self._cut = piece.completion.finish_reason in ("length", "deadline")
                if not self._items:
                    yield from self._begin(("message", 0))
                yield from self._finish()
                self.status = "incomplete" if self._cut else "completed"

    def _place(self, **more: object) -> dict[str, object]:
        return {"item_id": self._items[-1]["id"], "output_index": len(self._items) - 1, **more}

    def _begin(self, item: tuple[str, int], call: CallPiece | None = None) -> Events:
        if self._open == item:
            return
        yield from self._finish()
        self._open, self._text = item, ""
        kind = item[0]
        begun: Item = {"id": f"{kind[:2]}_{uuid.uuid4().hex}", "type": kind, "status": "in_progress"}
        if kind == "message":
            begun |= {"role": "assistant", "content": []}
        elif kind == "reasoning":
            begun |= {"summary": [], "content": []}
        elif call is not None:
            begun |= {"call_id": call.call_id, "name": call.name, "arguments": ""}
        self._items.append(begun)
        yield "response.output_item.added", {"output_index": len(self._items) - 1, "item": dict(begun)}
        if kind != "function_call":
            yield "response.content_part.added", {**self._place(content_index=0), "part": self._part("")}

    def _part(self, text: str) -> dict[str, object]:
        if self._items[-1]["type"] == "reasoning":
            return {"type": "reasoning_text", "text": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def _finish(self) -> Events:
        if self._open is None:
            return
        item, text = self._items[-1], self._text
        kind = self._open[0]
        self._open = None
        item["status"] = "incomplete" if self._cut else "completed"
        if kind == "function_call":
            item["arguments"] = text
            done = {**self._place(), "arguments": text, "name": item["name"]}
            yield "response.function_call_arguments.done", done
        else:
            part = self._part(text)
            item["content"] = [part]
            place = self._place(content_index=0)
            if kind == "message":
                yield "response.output_text.done", {**place, "text": text, "logprobs": []}
            else:
                yield "response.reasoning_text.done", {**place, "text": text}
            yield "response.content_part.done", {**place, "part": part}
        yield "response.output_item.done", {"output_index": len(self._items) - 1, "item": dict(item)}


def _usage(metrics: RequestMetrics, thought_tokens: int) -> dict[str, object]:
    return {
        "input_tokens": metrics.prompt_tokens,
        "input_tokens_details": {"cached_tokens": metrics.cached_tokens},
        "output_tokens": metrics.new_tokens,
        "output_tokens_details": {"reasoning_tokens": thought_tokens},
        "total_tokens": metrics.prompt_tokens + metrics.new_tokens,
    }
