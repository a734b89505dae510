"""Who is let in: the Host header, the origin of a page, the key; before anything of a request is read.

A server on a loopback address is reached by every page that a browser shows. So a Host that is not this
machine's (DNS rebinding) and pages of other origins are refused, also where a browser would only keep the
answer from them: by then the model would have run. Each refusal is one line in the log.
"""

from __future__ import annotations

import asyncio
import hmac
import re

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from edgesdk.bundle.printable import printable
from edgesdk.server.log import LOG
from edgesdk.server.server_options import ServerOptions

OPEN_PATHS = frozenset({"/health", "/", "/favicon.ico"})
"""What needs no key: whether it lives, and the page, which asks for the key."""

PAGE_PREFIX = "/page/"
_PORT = re.compile(r":\d{1,5}\Z")


class Guard:
    """ASGI middleware around everything."""

    def __init__(self, app: ASGIApp, options: ServerOptions) -> None:
        """Remembers what is allowed.

        Args:
            app: what is guarded.
            options: names, origins, key.
        """
        self._app = app
        self._hosts = options.hosts
        self._origins = frozenset(options.allowed_origins)
        self._key = None if options.api_key is None else options.api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request in, or answers that it is not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refused = self._refusal(scope, headers)
        if refused is None:
            try:
                await self._app(scope, receive, send)
            except asyncio.CancelledError:  # only the server's end does that, after its time of grace
                LOG.warning("cut off %s %s: the server ends", scope["method"], _shown_path(scope))
            return
        status, message, code = refused
        log_refusal(scope, status, message)
        answer = JSONResponse(
            {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}},
            status,
            {"WWW-Authenticate": "Bearer"} if status == 401 else None,
        )
        await answer(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str, str] | None:
        hosts = headers.getlist("host")
        name = _PORT.sub("", hosts[0].lower()) if len(hosts) == 1 else ""
        if name not in self._hosts and "*" not in self._hosts:
            return 403, "the Host header names no host of this server; start it with --allow-host", "host"
        origin = headers.get("origin")
        host = hosts[0] if hosts else ""  # HTTP/1.0 needs none
        if origin is not None and origin not in self._origins and not _same_origin(origin, host):
            return 403, "pages of other origins are not let in; start it with --allow-origin", "origin"
        if origin is None and headers.get("sec-fetch-site") == "cross-site" and scope["path"] != "/":
            return 403, "pages of other origins are not let in; start it with --allow-origin", "origin"
        # What a browser asks before it sends the key has none.
        preflight = scope["method"] == "OPTIONS" and origin is not None
        path = scope["path"]
        if self._key is None or preflight or path in OPEN_PATHS or path.startswith(PAGE_PREFIX):
            return None
        if not hmac.compare_digest(_shown_key(headers), self._key):
            return 401, "the key is missing or wrong; send it as 'Authorization: Bearer KEY'", "key"
        return None


def log_refusal(scope: Scope, status: int, message: str) -> None:
    """Writes one line about a request that was refused."""
    client = scope.get("client") or ("?", 0)
    LOG.warning(
        "refused %s %s from %s: %d %s",
        scope.get("method", "?"),
        _shown_path(scope),
        client[0],
        status,
        printable(message)[:300],
    )


def _shown_path(scope: Scope) -> str:
    return printable(str(scope.get("path", "?")))[:120]


def _same_origin(origin: str, host: str) -> bool:
    return origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")


def _shown_key(headers: Headers) -> bytes:
    """The key of a request: as OpenAI's clients send it, or as Anthropic's."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    shown = key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    return shown.encode("utf-8", "replace")
