"""Responses that a later one may go on from, by their ids: in memory, the newest of them, within a bound."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence

from edgesdk.errors import quoted
from edgesdk.server.openai.documents import JsonObject
from edgesdk.server.refusal import Refused

_MOST = 1_000
_MOST_BYTES = 64 << 20


class KeptResponses:
    """Items of conversations, oldest out first."""

    def __init__(self) -> None:
        """Starts empty."""
        self._kept: OrderedDict[str, tuple[int, list[JsonObject]]] = OrderedDict()
        self._bytes = 0

    def keep(self, ident: str, items: Sequence[JsonObject]) -> None:
        """Keeps a conversation up to and with a response."""
        size = len(json.dumps(items))
        if size > _MOST_BYTES:
            return
        self._kept[ident] = (size, list(items))
        self._bytes += size
        while len(self._kept) > _MOST or self._bytes > _MOST_BYTES:
            _, (gone, _items) = self._kept.popitem(last=False)
            self._bytes -= gone

    def find(self, ident: str | None) -> list[JsonObject]:
        """The conversation up to a response; empty for none.

        Raises:
            Refused: it is not kept, or not any more.
        """
        if ident is None:
            return []
        if ident not in self._kept:
            raise Refused(
                404,
                f"there is no response {quoted(ident, 60)} (any more); send the whole conversation",
                param="previous_response_id",
            )
        return self._kept[ident][1]
