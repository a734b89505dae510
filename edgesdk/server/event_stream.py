"""An answer that is sent while it is written, and that ends at once when nobody reads it any more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

SSE = "text/event-stream"
NDJSON = "application/x-ndjson"

_SEND_S = 60.0
"""A client that reads nothing for so long is taken for gone."""

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class EventStream(Response):
    """Sends pieces as they come.

    Starlette's own stream notices that a client has gone when it next sends; during a long prompt nothing is
    sent, so this one listens meanwhile.
    """

    def __init__(
        self, pieces: AsyncIterator[bytes], close: Callable[[], None], media_type: str = SSE
    ) -> None:
        """Remembers what to send.

        Args:
            pieces: of the body.
            close: called in the end, however it comes.
            media_type: of the body.
        """
        self.background = None
        self.status_code = 200
        self.media_type = media_type
        self.init_headers(_HEADERS)
        self._pieces = pieces
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends everything, or as much as is read."""
        watcher = asyncio.ensure_future(close_when_gone(receive, self._close))
        try:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            async for piece in self._pieces:
                async with asyncio.timeout(_SEND_S):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            watcher.cancel()
            self._close()


async def close_when_gone(receive: Receive, close: Callable[[], None]) -> None:
    """Waits until a client has gone, and ends its request then; to be run beside what answers it."""
    while (await receive())["type"] != "http.disconnect":
        pass
    close()


def compact(document: object) -> bytes:
    """JSON as it is sent."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def event(document: Mapping[str, object], name: str | None = None) -> bytes:
    """One event of a stream."""
    head = b"" if name is None else f"event: {name}\n".encode()
    return head + b"data: " + compact(document) + b"\n\n"


DONE = b"data: [DONE]\n\n"
