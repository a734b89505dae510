"""How a server listens and what it takes, checked before anything is opened."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from edgesdk.decoding.option_types import number, whole_number, whole_text
from edgesdk.errors import UnsupportedOption, quoted

_MOST_PORT = 65_535
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})|\[[0-9a-fA-F:.]{2,45}\]|\*")
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]{1,260}|[a-z][a-z0-9+.-]{1,40}://[A-Za-z0-9.\-]{0,260}")
_SHORTEST_KEY = 8
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class ServerOptions:
    """How a server listens and what it takes.

    Attributes:
        host: address to listen on.
        port: to listen on; 0 for a free one.
        api_key: what clients must show; None for no key, which only this machine's own address allows.
        without_key: listen on other addresses without a key all the same.
        allowed_hosts: names that a Host header may have besides this machine's own; `*` for any.
        allowed_origins: pages of other origins that browsers may let in.
        max_body_bytes: most bytes of a request.
        max_depth: most levels of JSON in it.
        max_values: most values in it.
        body_timeout_s: most seconds that a request's body takes to come.
        head_timeout_s: most seconds that its head takes.
        max_connections: most connections at once.
        memory_limit_mb: most MiB of models at once; None for half of the machine's memory.
        idle_unload_s: seconds after which a model that nobody uses is unloaded; None to unload only where
            another needs the memory.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    api_key: str | None = None
    without_key: bool = False
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    max_body_bytes: int = 8 << 20
    max_depth: int = 64
    max_values: int = 200_000
    body_timeout_s: float = 30.0
    head_timeout_s: float = 15.0
    max_connections: int = 512
    memory_limit_mb: int | None = None
    idle_unload_s: float | None = None

    def __post_init__(self) -> None:
        """Refuses what has no meaning, or would serve strangers by oversight.

        Raises:
            UnsupportedOption: naming the option.
        """
        whole_number("port", self.port, 0, _MOST_PORT)
        for name in ("max_body_bytes", "max_depth", "max_values", "max_connections"):
            whole_number(name, getattr(self, name), 1, 1 << 30)
        for name in ("body_timeout_s", "head_timeout_s"):
            if not 0 < number(name, getattr(self, name)) < 1e6:
                raise UnsupportedOption(f"{name} is {quoted(getattr(self, name))}, expected seconds above 0")
        if self.memory_limit_mb is not None:
            whole_number("memory_limit_mb", self.memory_limit_mb, 1)
        if self.idle_unload_s is not None and not 0 < number("idle_unload_s", self.idle_unload_s) < 1e9:
            raise UnsupportedOption(
                f"idle_unload_s is {quoted(self.idle_unload_s)}, expected seconds above 0"
            )
        for each in self.allowed_hosts:
            if not _HOST.fullmatch(whole_text("allowed_hosts", each)):
                raise UnsupportedOption(
                    f"allowed_hosts has {quoted(each)}, expected a name without a port, or *"
                )
        for each in self.allowed_origins:
            if not _ORIGIN.fullmatch(whole_text("allowed_origins", each)):
                raise UnsupportedOption(
                    f"allowed_origins has {quoted(each)}, expected an origin such as http://localhost:3000"
                )
        self._check_key()

    def _check_key(self) -> None:
        if self.api_key is None:
            if not self.is_loopback and not self.without_key:
                raise UnsupportedOption(
                    f"host {self.host} lets other machines in, and there is no key; give one "
                    "(EDGESDK_API_KEY or --api-key-file), or say --without-key"
                )
            return
        key = whole_text("api_key", self.api_key)
        if len(key) < _SHORTEST_KEY or not key.isascii() or not key.isprintable() or key.strip() != key:
            raise UnsupportedOption(
                f"api_key has {len(key)} characters, expected {_SHORTEST_KEY} or more, all of them printable "
                "ASCII without space around"
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    @property
    def hosts(self) -> frozenset[str]:
        """Names that a Host header may have, without port and in lower case."""
        own = f"[{self.host}]" if ":" in self.host and not self.host.startswith("[") else self.host
        # An address that stands for all of a machine's is no name of it.
        named = () if self.host in ("0.0.0.0", "::", "[::]") else (own,)
        return frozenset(each.lower() for each in (*_LOOPBACK, *named, *self.allowed_hosts))
