"""Runs Python in a process of its own, with a time limit, and says how that ended.

A vendor's library may abort, hang, leave children behind, or print without end: each becomes a reason.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgesdk.devices.python_process import python_command
from edgesdk.errors import DeviceError

_MOST_BYTES = 1 << 20
"""Of what a process prints; one that prints more is ended."""

_POLL_S = 0.05


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        text: what it printed, on standard output and error.
        stopped: whether it had to be ended.
        reason: why it failed, in one line; None when it ended in order.
    """

    text: str
    stopped: bool
    reason: str | None


def run_isolated(
    arguments: Sequence[str], time_limit_s: float, *, cancelled: Callable[[], bool] | None = None
) -> Ended:
    """Runs Python in another process.

    Args:
        arguments: of the interpreter.
        time_limit_s: seconds until the process and its children are ended.
        cancelled: asked every 50 ms; the process is ended when it says so.
    """
    output, ends = bytearray(), time.monotonic() + time_limit_s
    try:
        command = python_command(arguments)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except DeviceError as error:
        return Ended("", False, str(error))
    except OSError as error:
        return Ended("", False, f"it could not be started: {error.strerror or error}")
    # A thread, because a pipe cannot be waited for with a limit everywhere; a child of the process may keep
    # it open, so the thread is given up rather than waited for.
    reader = threading.Thread(target=_collect, args=(process, output), daemon=True)
    reader.start()
    stop = False
    try:
        while reader.is_alive() and not stop and time.monotonic() < ends:
            reader.join(min(_POLL_S, max(0.0, ends - time.monotonic())))
            stop = cancelled is not None and cancelled()
        # What it prints is over; it may live on, without a word, or with more words than are read.
        while (code := process.poll()) is None and not stop and time.monotonic() < ends:
            if len(output) >= _MOST_BYTES:
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(min(_POLL_S, max(0.0, ends - time.monotonic())))
            stop = cancelled is not None and cancelled()
    finally:
        _end(process)
    text = bytes(output).decode("utf-8", "replace")
    if stop:
        return Ended(text, True, "it was cancelled")
    if len(output) >= _MOST_BYTES:
        return Ended(text, True, f"it printed more than {_MOST_BYTES >> 20} MiB")
    if code is None:
        return Ended(text, True, f"it did not end within {time_limit_s:.1f} s")
    if code == 0:
        return Ended(text, False, None)
    how = f"signal {-code}" if code < 0 else f"status {code}"
    return Ended(text, False, f"it ended with {how}: {_last_line(text)}")


def _collect(process: subprocess.Popen[bytes], output: bytearray) -> None:
    stream = process.stdout
    if stream is None:
        return
    with stream, contextlib.suppress(OSError, ValueError):
        while len(output) < _MOST_BYTES:
            piece = os.read(stream.fileno(), 1 << 16)
            if not piece:
                return
            output += piece


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and whatever it started."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.2)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"
