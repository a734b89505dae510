"""Listens and answers until it is told to end."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from edgesdk.errors import DeviceError, MissingExtra
from edgesdk.server.model_host import ModelHost
from edgesdk.server.server_options import ServerOptions

try:
    import uvicorn

    from edgesdk.server.application import make_application
    from edgesdk.server.bounded_protocol import bounded_protocol
    from edgesdk.server.log import LOG
except ModuleNotFoundError as error:
    if error.name is None or error.name.startswith("edgesdk"):
        raise
    raise MissingExtra(error.name.partition(".")[0], "serve") from error

_BACKLOG = 128
_HEAD_BYTES = 64 << 10
_KEEP_ALIVE_S = 30
_GRACE_S = 5
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Server(uvicorn.Server):
    """Says what an interruption waits for."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins to end; at once when SIGINT comes again."""
        first = not self.should_exit
        super().handle_exit(sig, frame)
        if first and self.server_state.tasks:
            LOG.info("ending: answers under way have %g s; Ctrl-C again ends at once", _GRACE_S)
        if self.force_exit:  # what is cut off then is no news, and has tracebacks
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)


class Listening:
    """A server that has its address; `run` answers until it is told to `stop`."""

    def __init__(self, host: ModelHost, options: ServerOptions) -> None:
        """Takes the address.

        Args:
            host: opens models; the server's from here on.
            options: where to listen, and what is let in.

        Raises:
            DeviceError: the address cannot be had.
        """
        self._socket = _bind(options)
        name = options.host if ":" not in options.host else f"[{options.host.strip('[]')}]"
        self.url = f"http://{name}:{self._socket.getsockname()[1]}"
        """Where it is reached."""
        config = uvicorn.Config(
            make_application(host, options),
            http=bounded_protocol(options.head_timeout_s),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=options.max_connections,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_GRACE_S,
            h11_max_incomplete_event_size=_HEAD_BYTES,
        )
        self._server = _Server(config)

    def run(self, ready: Callable[[str], None] | None = None) -> bool:
        """Answers; in the main thread SIGINT and SIGTERM end it, after the answers that are under way.

        Args:
            ready: told the address, once signals end it.

        Returns:
            Whether it ended in order; False where a second SIGINT cut that short.
        """
        log = logging.getLogger("uvicorn.error")
        level = log.level
        log.addFilter(self._is_news)
        try:
            with self._signals():
                if ready is not None:
                    ready(self.url)
                self._server.run(sockets=[self._socket])
        finally:
            log.setLevel(level)
            log.removeFilter(self._is_news)
        return not self._server.force_exit

    def _is_news(self, record: logging.LogRecord) -> bool:
        """Whether a line of uvicorn's says more than the guard's of an answer that the end cut off."""
        return not (self._server.should_exit and record.getMessage().startswith("ASGI callable returned"))

    def stop(self) -> None:
        """Ends it, from any thread."""
        self._server.should_exit = True

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """While it runs, signals end the server and nothing else.

        uvicorn 0.54 raises each signal once more for the handlers that it found, which would make a failure
        of an end in order; and signals that come before it listens to them must end it, too.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        found = {each: signal.signal(each, lambda number, frame: self.stop()) for each in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in found.items():
                signal.signal(number, handler)


def serve(
    host: ModelHost,
    options: ServerOptions,
    ready: Callable[[str], None] | None = None,
    *,
    preload: Sequence[str] = (),
) -> bool:
    """Listens and answers until the process is told to end.

    Args:
        host: opens models.
        options: where to listen, and what is let in.
        ready: told the address.
        preload: names of models to load before anything is answered, as far as the memory allows.

    Returns:
        Whether it ended in order; False where a second SIGINT cut that short.

    Raises:
        DeviceError: the address cannot be had.
        EdgeError: a model cannot be loaded.
    """
    listening = Listening(host, options)  # first: a taken port shows before anything is loaded
    host.preload(preload)
    return listening.run(ready)


def _bind(options: ServerOptions) -> socket.socket:
    name = options.host.strip("[]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            name, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(_BACKLOG)
    except OSError as error:
        raise DeviceError(
            f"cannot listen on {options.host}:{options.port}: {error.strerror or error}; "
            "choose another --host or --port"
        ) from error
    made.setblocking(False)
    return made
