"""Why a request is not answered: the status of HTTP and one line, whichever interface it came by.

What the rest of the house raises becomes a refusal here, in one place; how an interface writes it is its own.
"""

from __future__ import annotations

import re

from edgesdk.errors import (
    CapacityError,
    DeviceError,
    EdgeError,
    QueueFull,
    UnsupportedOption,
)

RETRY_AFTER_S = 1
"""What a client is told to wait while the queue is full: about an answer's time."""

_NAMED = re.compile(r"([a-z_]+)(?:\[\d+\])? (?:is|has|names|holds|goes) ")


class Refused(Exception):  # noqa: N818 - reads as what happened
    """A request that is not answered.

    Attributes:
        status: of HTTP.
        message: one line.
        param: the option that it is about.
        code: a word for programs.
        retry_after_s: when it may be tried again; None where that would not help.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        """Says why."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s


def refusal_of(error: EdgeError) -> Refused:
    """What an error of the house is to a client."""
    message = " ".join(str(error).split())
    if isinstance(error, QueueFull):
        return Refused(
            429,
            "too many requests are waiting; try again later",
            code="queue_full",
            retry_after_s=RETRY_AFTER_S,
        )
    if isinstance(error, CapacityError):
        return Refused(400, message, param="messages", code="context_length_exceeded")
    if isinstance(error, DeviceError):
        return Refused(503, message, code="not_available", retry_after_s=RETRY_AFTER_S)
    named = _NAMED.match(message) if isinstance(error, UnsupportedOption) else None
    return Refused(400, message, param=None if named is None else named.group(1))
