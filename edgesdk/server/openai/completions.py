"""`POST /v1/completions`: prompts taken as they are."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence

from starlette.requests import Request
from starlette.responses import Response

from edgesdk.decoding.completion import Completion
from edgesdk.server.event_stream import DONE, EventStream, compact, event
from edgesdk.server.openai.asks import completion_asks
from edgesdk.server.openai.chat import finish_reason, timings, usage
from edgesdk.server.openai.documents import CompletionDocument
from edgesdk.server.openai.errors import error_document
from edgesdk.server.openai.logprobs import completion_logprobs
from edgesdk.server.read_document import read_document
from edgesdk.server.refusal import Refused
from edgesdk.server.running import EndPiece, Running, TextPiece
from edgesdk.server.service import collect, service_of


async def completions(request: Request) -> Response:
    """Continues one prompt or several.

    Raises:
        Refused: an option is not honoured, or the model does not take it.
    """
    service = service_of(request)
    document = await read_document(request, CompletionDocument, service.options)
    asks = completion_asks(document)
    runs: list[Running] = []
    try:
        for ask in asks:
            runs.append(await service.begin(document.model, ask))
    except BaseException:
        _close(runs)
        raise
    head: dict[str, object] = {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": runs[0].model.name,
    }
    if document.stream:
        return EventStream(_stream(runs, document, head), lambda: _close(runs))
    choices: list[dict[str, object]] = []
    done: list[Completion] = []
    try:
        for running in runs:
            for answer in await collect(request, running):
                assert answer.end is not None
                done.append(answer.completion)
                tokenizer = running.model.engine.model.tokenizer
                choices.append(
                    {
                        "index": len(choices),
                        "text": answer.text,
                        "logprobs": completion_logprobs(answer.logprobs, tokenizer)[0]
                        if document.logprobs is not None
                        else None,
                        "finish_reason": finish_reason(answer.end),
                    }
                )
    finally:
        _close(runs)
    head |= {"choices": choices, "usage": _usage(runs, done), "timings": timings(runs[0].metrics)}
    return Response(compact(head), media_type="application/json")


def _close(runs: Sequence[Running]) -> None:
    for running in runs:
        running.close()


def _usage(runs: Sequence[Running], done: Sequence[Completion]) -> dict[str, object]:
    found = usage(done, runs[0].metrics)
    prompt = sum(running.metrics[0].prompt_tokens for running in runs)
    new = sum(each.new_tokens for each in done)
    return {**found, "prompt_tokens": prompt, "total_tokens": prompt + new}


async def _stream(
    runs: Sequence[Running], document: CompletionDocument, head: dict[str, object]
) -> AsyncIterator[bytes]:
    """The pieces of all prompts as they come, mixed."""
    waiting: asyncio.Queue[bytes | Refused | None] = asyncio.Queue()
    done: list[Completion] = []

    async def read(place: int, running: Running) -> None:
        tokenizer = running.model.engine.model.tokenizer
        ends: dict[int, int] = {}  # characters of each sample's tokens so far
        try:
            async for piece in running.pieces():
                choice: dict[str, object] = {
                    "index": place * (document.n or 1) + piece.index,
                    "text": "",
                    "logprobs": None,
                    "finish_reason": None,
                }
                if isinstance(piece, EndPiece):
                    done.append(piece.completion)
                    choice["finish_reason"] = finish_reason(piece)
                elif isinstance(piece, TextPiece):
                    choice["text"] = piece.text
                    if piece.logprobs:
                        choice["logprobs"], ends[piece.index] = completion_logprobs(
                            piece.logprobs, tokenizer, ends.get(piece.index, 0)
                        )
                waiting.put_nowait(event({**head, "choices": [choice]}))
        except Refused as refused:
            waiting.put_nowait(refused)
        finally:
            waiting.put_nowait(None)

    readers = [asyncio.ensure_future(read(place, running)) for place, running in enumerate(runs)]
    try:
        left = len(readers)
        while left:
            found = await waiting.get()
            if isinstance(found, Refused):
                yield event(error_document(found))
            elif found is None:
                left -= 1
            else:
                yield found
        if document.stream_options is not None and document.stream_options.include_usage:
            yield event({**head, "choices": [], "usage": _usage(runs, done)})
        yield DONE
    finally:
        for reader in readers:
            reader.cancel()
