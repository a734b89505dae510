"""Whatever was raised while a request was worked on, as the one error that its caller gets."""

from __future__ import annotations

from edgesdk.errors import DeviceError, EdgeError

_MOST_CHARS = 300


def as_edge_error(error: BaseException, what: str) -> EdgeError:
    """The error, if it is one of edgesdk's own; else a DeviceError that names it.

    Args:
        error: what was raised.
        what: failed, for the message.
    """
    if isinstance(error, EdgeError):
        return error
    wrapped = DeviceError(f"{what} failed: {describe(error)}")
    wrapped.__cause__ = error
    return wrapped


def describe(error: BaseException) -> str:
    """Its class and what it says, in one line."""
    try:
        said = " ".join(str(error).split())[:_MOST_CHARS]
    except BaseException:  # noqa: BLE001 - an error that cannot say what is wrong is no reason to stop
        said = ""
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
