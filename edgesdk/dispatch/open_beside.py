"""Opens a candidate in a thread, while another one goes on with the work."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

from edgesdk.devices.receipt import Runner
from edgesdk.dispatch.mover import M, Opener
from edgesdk.errors import EdgeError, first_line


@dataclass(frozen=True)
class OpenedBeside(Generic[M]):
    """How it ended.

    Attributes:
        found: what opened and how to open it once more; None when nothing did.
        refused: what could not be opened before that, with reasons.
    """

    found: tuple[Runner, M, Opener[M]] | None
    refused: tuple[tuple[Runner, str], ...]


class OpenBeside(Generic[M]):
    """Opens the first of several that can be opened."""

    def __init__(self, waiting: Sequence[tuple[Runner, Opener[M]]]) -> None:
        """Starts the thread.

        Args:
            waiting: to be tried in order.
        """
        self._waiting = tuple(waiting)
        self._lock = threading.Lock()
        self._ended: OpenedBeside[M] | None = None
        self._dropped = False
        # A compiler cannot be interrupted, and must not keep a program from ending.
        self._thread = threading.Thread(target=self._work, name="edgesdk-open", daemon=True)
        self._thread.start()

    def take(self) -> OpenedBeside[M] | None:
        """The end, once, to whoever asks first; None while there is none. Never waits."""
        if self._ended is None:
            return None
        with self._lock:
            ended, self._ended = self._ended, None
        return ended

    def close(self) -> None:
        """Drops it: what is open, or will be when the thread is done, is closed. Does not wait."""
        with self._lock:
            self._dropped = True
            ended, self._ended = self._ended, None
        _close(ended)

    def _work(self) -> None:
        refused: list[tuple[Runner, str]] = []
        found = None
        for runner, opener in self._waiting:
            if self._dropped:
                break
            try:
                opened, backend = opener()
            except Exception as error:  # noqa: BLE001 - drivers raise what they like; the receipt tells it
                refused.append((runner, first_line(error)))
            else:
                found = (opened, backend, opener)
                break
        ended = OpenedBeside(found, tuple(refused))
        with self._lock:
            if not self._dropped:
                self._ended = ended
                return
        _close(ended)


def _close(ended: OpenedBeside[M] | None) -> None:
    if ended is not None and ended.found is not None:
        with contextlib.suppress(EdgeError):
            ended.found[1].close()
