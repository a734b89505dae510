"""`POST /v1/chat/completions`, whole or in pieces."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Sequence

from starlette.requests import Request
from starlette.responses import Response

from edgesdk.decoding.completion import Completion
from edgesdk.engine.metrics import RequestMetrics
from edgesdk.server.event_stream import DONE, EventStream, compact, event
from edgesdk.server.openai.asks import chat_ask
from edgesdk.server.openai.documents import ChatDocument
from edgesdk.server.openai.errors import error_document
from edgesdk.server.openai.logprobs import chat_logprobs
from edgesdk.server.read_document import read_document
from edgesdk.server.refusal import Refused
from edgesdk.server.running import CallPiece, EndPiece, Piece, Running, TextPiece, ThoughtPiece
from edgesdk.server.service import WholeAnswer, collect, service_of


async def chat(request: Request) -> Response:
    """Answers a conversation.

    Raises:
        Refused: an option is not honoured, or the model does not take it.
    """
    service = service_of(request)
    document = await read_document(request, ChatDocument, service.options)
    if document.stream_options is not None and not document.stream:
        raise Refused(400, "stream_options needs stream: true", param="stream_options")
    ask = chat_ask(document)
    running = await service.begin(document.model, ask)
    head: dict[str, object] = {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": running.model.name,
    }
    if document.stream:
        return EventStream(_stream(running, document, head), running.close)
    answers = await collect(request, running)
    head["choices"] = [_choice(index, answer, running, document) for index, answer in enumerate(answers)]
    head["usage"] = usage([answer.completion for answer in answers], running.metrics)
    head["timings"] = timings(running.metrics)
    return Response(compact(head), media_type="application/json")


def usage(completions: Sequence[Completion], metrics: Sequence[RequestMetrics]) -> dict[str, object]:
    """Tokens of a request, in OpenAI's words."""
    prompt = completions[0].prompt_tokens if completions else 0
    new = sum(each.new_tokens for each in completions)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": new,
        "total_tokens": prompt + new,
        "prompt_tokens_details": {"cached_tokens": metrics[0].cached_tokens if metrics else 0},
        "completion_tokens_details": {"reasoning_tokens": sum(each.thought_tokens for each in completions)},
    }


def timings(metrics: Sequence[RequestMetrics]) -> dict[str, object]:
    """How long the first sample took: no part of OpenAI's interface, for those who show it."""
    first = metrics[0]
    return {
        "queue_ms": first.queue_ms,
        "ttft_ms": first.ttft_ms,
        "decode_tokens_per_s": first.decode_tokens_per_s,
    }


def finish_reason(end: EndPiece) -> str:
    """Why an answer ended, in OpenAI's words."""
    reason = end.completion.finish_reason
    if reason in ("length", "deadline"):
        return "length"
    return "tool_calls" if end.calls else "stop"


def _choice(index: int, answer: WholeAnswer, running: Running, document: ChatDocument) -> dict[str, object]:
    message: dict[str, object] = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.thought:
        message["reasoning_content"] = answer.thought
    if answer.calls:
        message["content"] = answer.text if answer.text.strip() else None
        message["tool_calls"] = [
            {
                "id": call.call_id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in answer.calls
        ]
    tokenizer = running.model.engine.model.tokenizer
    assert answer.end is not None
    return {
        "index": index,
        "message": message,
        "logprobs": chat_logprobs(answer.logprobs, tokenizer) if document.logprobs else None,
        "finish_reason": finish_reason(answer.end),
    }


async def _stream(running: Running, document: ChatDocument, head: dict[str, object]) -> AsyncIterator[bytes]:
    head["object"] = "chat.completion.chunk"
    wants_usage = document.stream_options is not None and document.stream_options.include_usage
    if wants_usage:
        head["usage"] = None
    completions: list[Completion] = []
    for index in range(document.n or 1):
        yield _chunk(head, index, {"role": "assistant", "content": ""})
    try:
        async for piece in running.pieces():
            if isinstance(piece, EndPiece):
                completions.append(piece.completion)
                yield _chunk(head, piece.index, {}, finish=finish_reason(piece))
                continue
            logprobs = None
            if isinstance(piece, TextPiece) and piece.logprobs:
                logprobs = chat_logprobs(piece.logprobs, running.model.engine.model.tokenizer)
            yield _chunk(head, piece.index, _delta(piece), logprobs=logprobs)
    except Refused as refused:
        yield event(error_document(refused))
    else:
        if wants_usage:
            last = {"usage": usage(completions, running.metrics), "timings": timings(running.metrics)}
            yield event({**head, "choices": [], **last})
    yield DONE


def _delta(piece: Piece) -> dict[str, object]:
    match piece:
        case TextPiece():
            return {"content": piece.text}
        case ThoughtPiece():
            return {"reasoning_content": piece.text}
        case CallPiece():
            # Id, type and name come once: clients add up what they get.
            call: dict[str, object] = {"index": piece.call}
            function: dict[str, object] = {"arguments": piece.arguments}
            if piece.name is not None:
                call |= {"id": piece.call_id, "type": "function"}
                function = {"name": piece.name, **function}
            return {"tool_calls": [{**call, "function": function}]}
        case EndPiece():
            return {}


def _chunk(
    head: dict[str, object],
    index: int,
    delta: dict[str, object],
    *,
    finish: str | None = None,
    logprobs: dict[str, object] | None = None,
) -> bytes:
    choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
    return event({**head, "choices": [choice]})
