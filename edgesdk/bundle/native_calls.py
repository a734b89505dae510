"""The boundary to native libraries: whatever comes out of one is an EdgeError, in one line.

Libraries written in Rust end a call by a panic, which Python sees as an exception that is no `Exception`
and that passes every ordinary handler; others raise MemoryError, SystemError, OverflowError or nothing
more precise than `Exception`. Only what asks the program to end goes through.

It knows no library. It cannot catch what ends the process itself: that is refused before, or runs in a
process of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from edgesdk.errors import EdgeError, first_line

_Result = TypeVar("_Result")

_STACK_BYTES = 64 << 20
_STACK_SIZE = threading.Lock()


@contextmanager
def native_call(what: str, error_class: type[EdgeError] = EdgeError, advice: str = "") -> Iterator[None]:
    """A block that calls a native library.

    Args:
        what: what failed, as the start of the message.
        error_class: of the error that comes out.
        advice: what to do, as its end.

    Raises:
        EdgeError: of `error_class`, for anything that is raised in the block and asks for no end.
    """
    try:
        yield
    except (EdgeError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise error_class(f"{what}: {first_line(error, 160)}{'; ' if advice else ''}{advice}") from error


def on_deep_stack(call: Callable[[], _Result]) -> _Result:
    """Runs a call in a thread with room for deep recursion, which a caller's own thread may not have.

    Raises:
        BaseException: what the call raises.
    """
    results: list[_Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(error)

    with _STACK_SIZE:
        before = threading.stack_size(_STACK_BYTES)
        try:
            thread = threading.Thread(target=run, name="edgesdk-deep-stack")
            thread.start()
        finally:
            threading.stack_size(before)
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
