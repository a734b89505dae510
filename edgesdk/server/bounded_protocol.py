"""HTTP/1.1 by uvicorn and h11, with a limit for the time that a request's head takes.

Without it, clients that send a byte now and then hold their connections for ever (slow loris): uvicorn 0.54
times out idle connections only. The head's size is bounded by h11.
"""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgesdk.server.log import LOG


class BoundedProtocol(H11Protocol):
    """Closes connections whose request does not come; made with its limit by `bounded_protocol`."""

    head_timeout_s = 15.0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for the first head."""
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Goes on reading; the clock runs while a head is incomplete."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """Goes on to what came meanwhile."""
        super().on_response_complete()
        self._look()

    def _look(self) -> None:
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._wait_for_head()
        elif self.conn.their_state is not h11.IDLE:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the clock."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_timeout_s, self._give_up)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        client = self.client[0] if self.client else "?"
        LOG.warning("refused a connection from %s: no request within %g s", client, self.head_timeout_s)
        self.transport.close()


def bounded_protocol(head_timeout_s: float) -> type[BoundedProtocol]:
    """The protocol with a limit for the time that a head takes."""
    return type("BoundedProtocol", (BoundedProtocol,), {"head_timeout_s": head_timeout_s})
