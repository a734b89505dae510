"""The JSON document of a request, bounded in bytes, time, depth and values before anybody looks at it."""

from __future__ import annotations

import asyncio
import difflib
import json
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect, Request

from edgesdk.errors import quoted
from edgesdk.server.refusal import Refused
from edgesdk.server.server_options import ServerOptions

_JSON_TYPES = ("", "application/json", "application/x-www-form-urlencoded")
"""curl's default is among them: what it sends is JSON all the same, and pages of others never come here."""

_SHOWN_PARTS = 8


class Document(BaseModel):
    """A request's document: unknown keys and values of other types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())


D = TypeVar("D", bound=Document)


async def read_document(request: Request, kind: type[D], options: ServerOptions) -> D:
    """Reads and checks a request's document.

    Args:
        request: whose body is read.
        kind: what it must be.
        options: the bounds.

    Raises:
        Refused: it is too large or too slow, no JSON, or not as it must be; the message names the place.
        ClientDisconnect: the client has gone.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in _JSON_TYPES:
        raise Refused(415, f"the content type is {quoted(media)}, expected application/json")
    value = parse_bounded(await _body(request, options), options)
    if not isinstance(value, dict):
        raise Refused(400, f"the request is {quoted(value)}, expected a JSON object")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise _first_problem(error, tuple(kind.model_fields)) from None


def parse_bounded(data: bytes, options: ServerOptions) -> object:
    """JSON of a stranger.

    Raises:
        Refused: it is no JSON, or nested too deeply, or has too many values, or half a character in a text.
    """
    try:
        value: object = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError:
        raise _too_deep(options) from None
    except ValueError as error:
        raise Refused(400, f"the request is no JSON: {str(error)[:120]}") from None
    _check_size(value, options)
    return value


def _refuse_constant(constant: str) -> object:
    raise ValueError(f"{constant} is no JSON number")


def _too_deep(options: ServerOptions) -> Refused:
    return Refused(400, f"the request is nested more than {options.max_depth} deep, or has too many values")


def _check_size(value: object, options: ServerOptions) -> None:
    left = options.max_values
    waiting = [(value, 1)]
    while waiting:
        part, depth = waiting.pop()
        left -= 1
        if depth > options.max_depth or left < 0:
            raise _too_deep(options)
        if isinstance(part, dict):
            texts: list[object] = [*part.keys(), *(v for v in part.values() if isinstance(v, str))]
            waiting += [(v, depth + 1) for v in part.values() if isinstance(v, dict | list)]
            left -= len(part)
        elif isinstance(part, list):
            texts = [v for v in part if isinstance(v, str)]
            waiting += [(v, depth + 1) for v in part if isinstance(v, dict | list)]
            left -= len(part)
        else:
            texts = [part]
        for text in texts:
            if isinstance(text, str) and not text.isascii():
                try:
                    text.encode()
                except UnicodeEncodeError:
                    raise Refused(
                        400, "a text of the request has half a character, expected Unicode"
                    ) from None


async def _body(request: Request, options: ServerOptions) -> bytes:
    most = options.max_body_bytes
    too_large = Refused(413, f"the request has more than {most} bytes; send a shorter one")
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length[:20]) > most:
        raise too_large
    data = bytearray()
    try:
        async with asyncio.timeout(options.body_timeout_s):
            async for piece in request.stream():
                data += piece
                if len(data) > most:
                    raise too_large
    except TimeoutError:
        raise Refused(408, f"the request did not come within {options.body_timeout_s:g} s") from None
    except ClientDisconnect:
        raise
    return bytes(data)


def _first_problem(error: ValidationError, names: tuple[str, ...]) -> Refused:
    """One line about the first thing that is wrong with a document that has options of these names."""
    problem = error.errors(include_url=False, include_context=False)[0]
    place = problem["loc"]
    # Names of alternatives stand in it beside keys of the document, and say nothing to a caller.
    keys = [part for part in place if isinstance(part, int) or part.isidentifier()][:_SHOWN_PARTS]
    param = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in keys).lstrip(".")
    param = param[:200] or str(place[0])[:60]
    if problem["type"] == "extra_forbidden":
        odd = str(place[-1])
        where = "here" if len(place) == 1 else f"at {param}"
        near = difflib.get_close_matches(odd[:100], names, 1) if len(place) == 1 else []
        hint = f"did you mean {near[0]}?" if near else "leave it out"
        return Refused(400, f"there is no option {quoted(odd, 60)} {where}; {hint}", param=param)
    if problem["type"] == "missing":
        return Refused(400, f"{param} is missing", param=param)
    found = quoted(problem.get("input"))
    return Refused(400, f"{param} is {found}: {problem['msg'][:160].lower()}", param=param)
