"""Listens and answers until it is told to end."""

from __future__ import annotations

import socket
from collections.abc import Callable

from edgesdk.errors import DeviceError, MissingExtra
from edgesdk.server.model_host import ModelHost
from edgesdk.server.server_options import ServerOptions

try:
    import uvicorn

    from edgesdk.server.application import make_application
    from edgesdk.server.bounded_protocol import bounded_protocol
except ModuleNotFoundError as error:
    if error.name is None or error.name.startswith("edgesdk"):
        raise
    raise MissingExtra(error.name, "serve") from error

_BACKLOG = 128
_HEAD_BYTES = 64 << 10
_KEEP_ALIVE_S = 30
_GRACE_S = 5


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
        self._server = uvicorn.Server(config)

    def run(self) -> None:
        """Answers; in the main thread SIGINT and SIGTERM end it, after the answers that are under way."""
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """Ends it, from any thread."""
        self._server.should_exit = True


def serve(host: ModelHost, options: ServerOptions, ready: Callable[[str], None] | None = None) -> None:
    """Listens and answers until the process is told to end.

    Args:
        host: opens models.
        options: where to listen, and what is let in.
        ready: told the address.

    Raises:
        DeviceError: the address cannot be had.
    """
    listening = Listening(host, options)
    if ready is not None:
        ready(listening.url)
    listening.run()


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
