"""Ollama's `/api/chat` and `/api/generate`."""

from __future__ import annotations

import datetime
import json
import re
import time
from collections.abc import AsyncIterator, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgesdk.bundle.reader import open_bundle
from edgesdk.server.ask import Ask, Options
from edgesdk.server.event_stream import NDJSON, EventStream, compact
from edgesdk.server.ollama.documents import (
    ChatDocument,
    GenerateDocument,
    Generating,
    JsonObject,
)
from edgesdk.server.openai.asks import plain_functions
from edgesdk.server.openai.errors import retry_header
from edgesdk.server.read_document import read_document
from edgesdk.server.refusal import Refused
from edgesdk.server.running import CallPiece, EndPiece, Running, TextPiece, ThoughtPiece
from edgesdk.server.service import Service, WholeAnswer, WholeCall, collect, service_of

_DURATION = re.compile(r"-?(?:\d+(?:\.\d+)?)(?:ms|s|m|h)?")
Body = Callable[[WholeAnswer], dict[str, object]]


def ollama_error(refused: Refused) -> JSONResponse:
    """A refusal, as Ollama's interface has it."""
    return JSONResponse({"error": refused.message}, refused.status, retry_header(refused))


async def chat(request: Request) -> Response:
    """Answers a conversation.

    Raises:
        Refused: an option is not honoured, or the model does not take it.
    """
    document = await read_document(request, ChatDocument, service_of(request).options)
    options = _options(document)
    if document.tools:
        options.add(tools=plain_functions(document.tools))
    messages = [_message(message, place) for place, message in enumerate(document.messages)]
    ask = Ask(options.said, messages=messages, thinks=_thinks(document), effort=_effort(document))
    return await _answer(request, document, ask if messages else None, _chat_body)


async def generate(request: Request) -> Response:
    """Answers a prompt, by the model's template unless it is `raw`.

    Raises:
        Refused: as above.
    """
    document = await read_document(request, GenerateDocument, service_of(request).options)
    options = _options(document)
    if not document.prompt:
        return await _answer(request, document, None, _generate_body)
    if document.raw:
        if document.system or document.think is not None:
            raise Refused(400, "raw takes the prompt as it is; leave system and think out", param="raw")
        return await _answer(request, document, Ask(options.said, prompt=document.prompt), _generate_body)
    messages: list[JsonObject] = [{"role": "user", "content": document.prompt}]
    if document.system:
        messages.insert(0, {"role": "system", "content": document.system})
    ask = Ask(options.said, messages=messages, thinks=_thinks(document), effort=_effort(document))
    return await _answer(request, document, ask, _generate_body)


async def _answer(request: Request, document: Generating, ask: Ask | None, body: Body) -> Response:
    """Answers what is asked; where nothing is, loads the model, or unloads it if it is not to be kept."""
    service = service_of(request)
    if document.keep_alive is not None and not _is_duration(document.keep_alive):
        raise Refused(
            400, f"keep_alive is {str(document.keep_alive)[:40]!r}, expected a time", param="keep_alive"
        )
    name = service.host.known(document.model)
    asked = document.options
    if asked is not None and asked.num_ctx is not None:
        context = max((v.context for v in open_bundle(service.host.path(name)).manifest.variants), default=0)
        if asked.num_ctx > context:
            raise Refused(
                400, f"num_ctx is {asked.num_ctx}, the model's context is {context}", param="options.num_ctx"
            )
    unloads = document.keep_alive in (0, "0", "0s")
    if ask is None:
        if unloads:
            await service.host.unload(name)
        else:
            (await service.host.lease(name)).release()
        done = {"done": True, "done_reason": "unload" if unloads else "load"}
        return Response(
            compact({**_head(name), **body(WholeAnswer()), **done}), media_type="application/json"
        )
    running = await service.begin(document.model, ask)
    if document.stream is None or document.stream:
        return EventStream(_stream(running, body, service, unloads), running.close, NDJSON)
    (answer,) = await collect(request, running)
    whole = {**_head(name), **body(answer), **_figures(running, answer.end)}
    if unloads:
        await service.host.unload(name)
    return Response(compact(whole), media_type="application/json")


async def _stream(running: Running, body: Body, service: Service, unloads: bool) -> AsyncIterator[bytes]:
    name = running.model.name
    calls: dict[int, WholeCall] = {}
    try:
        async for piece in running.pieces():
            part = WholeAnswer()
            match piece:
                case TextPiece():
                    part.text = piece.text
                case ThoughtPiece():
                    part.thought = piece.text
                case CallPiece():  # this interface has calls whole
                    known = calls.setdefault(piece.call, WholeCall(piece.call_id, piece.name or ""))
                    known.arguments += piece.arguments
                    continue
                case EndPiece():
                    if calls:
                        part.calls = list(calls.values())
                        yield compact({**_head(name), **body(part), "done": False}) + b"\n"
                    yield compact({**_head(name), **body(WholeAnswer()), **_figures(running, piece)}) + b"\n"
                    continue
            if part.text or part.thought:
                yield compact({**_head(name), **body(part), "done": False}) + b"\n"
    except Refused as refused:
        yield compact({"error": refused.message}) + b"\n"
    if unloads:
        running.close()
        await service.host.unload(name)


def _head(name: str) -> dict[str, object]:
    now = datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
    return {"model": name, "created_at": now.isoformat().replace("+00:00", "Z")}


def _chat_body(answer: WholeAnswer) -> dict[str, object]:
    message: dict[str, object] = {"role": "assistant", "content": answer.text}
    if answer.thought:
        message["thinking"] = answer.thought
    if answer.calls:
        message["tool_calls"] = [
            {"function": {"name": call.name, "arguments": _read(call.arguments)}} for call in answer.calls
        ]
    return {"message": message}


def _generate_body(answer: WholeAnswer) -> dict[str, object]:
    body: dict[str, object] = {"response": answer.text}
    if answer.thought:
        body["thinking"] = answer.thought
    return body


def _read(arguments: str) -> object:
    try:
        found: object = json.loads(arguments)
    except ValueError:  # cut by the limit
        return {}
    return found


def _figures(running: Running, end: EndPiece | None) -> dict[str, object]:
    first = running.metrics[0]
    times = first.token_times_s
    began = first.started_s if first.started_s is not None else first.submitted_s
    prompt_s = times[0] - began if times else 0.0
    answer_s = times[-1] - times[0] if times else 0.0
    cut = end is not None and end.completion.finish_reason in ("length", "deadline")
    return {
        "done": True,
        "done_reason": "length" if cut else "stop",
        "total_duration": int((times[-1] - first.submitted_s if times else 0.0) * 1e9),
        "load_duration": 0,
        "prompt_eval_count": first.prompt_tokens,
        "prompt_eval_duration": int(prompt_s * 1e9),
        "eval_count": first.new_tokens,
        "eval_duration": int(answer_s * 1e9),
    }


def _options(document: Generating) -> Options:
    asked = document.options
    schema = {"type": "object"} if document.format == "json" else document.format or None
    options = Options().add(json_schema=schema)
    options.said["max_tokens"] = None
    if asked is None:
        return options
    if asked.num_predict is not None and asked.num_predict > 0:
        options.said["max_tokens"] = asked.num_predict
    return options.add(
        temperature=asked.temperature,
        top_k=asked.top_k,
        top_p=asked.top_p,
        min_p=asked.min_p,
        typical_p=asked.typical_p,
        repetition_penalty=asked.repeat_penalty,
        presence_penalty=asked.presence_penalty,
        frequency_penalty=asked.frequency_penalty,
        seed=asked.seed,
        stop=[asked.stop] if isinstance(asked.stop, str) else asked.stop,
    )


def _thinks(document: Generating) -> bool | None:
    return document.think if isinstance(document.think, bool) else None


def _effort(document: Generating) -> str | None:
    return document.think if isinstance(document.think, str) else None


def _message(message: JsonObject, place: int) -> JsonObject:
    """A message as templates expect it: calls have ids, and thoughts another name."""
    plain = dict(message)
    if plain.pop("images", None):
        raise Refused(
            400, f"messages[{place}] has images: the model reads nothing but text", param="messages"
        )
    thought = plain.pop("thinking", None)
    if thought:
        plain["reasoning_content"] = thought
    calls = plain.get("tool_calls")
    if isinstance(calls, list):
        plain["tool_calls"] = [
            {"id": f"call_{place}_{index}", "type": "function", **call} if isinstance(call, dict) else call
            for index, call in enumerate(calls)
        ]
    return plain


def _is_duration(value: str | int | float) -> bool:
    return not isinstance(value, str) or bool(_DURATION.fullmatch(value))
