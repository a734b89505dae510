"""Whatever was raised while a request was worked on, as the one error that its caller gets."""

from __future__ import annotations

from edgesdk.errors import DeviceError, EdgeError

_MOST_CHARS = 300


def as_edge_error(error: BaseException, what: str) -> EdgeError:
    """One of edgesdk's own like the error, if that is one; else a DeviceError that names it.

    A step may fail for several requests. Each gets an error of its own: one that is raised in several threads
    gathers the frames of all of them, and with them what they hold.

    Args:
        error: what was raised.
        what: failed, for the message.
    """
    if isinstance(error, EdgeError):
        own = type(error).__new__(type(error), *error.args)
        own.__dict__.update(error.__dict__)
        own.__cause__ = error.__cause__ or error
        return own
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
