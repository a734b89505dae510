"""Reads an answer in a thread of its own and reports what comes, so that many can be read at once.

The engine's streams are read one at a time by whoever holds them; a plan has several under way and must act
on whichever speaks first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from edgesdk.decoding.completion import Completion
from edgesdk.engine.generation import Generation
from edgesdk.engine.metrics import RequestMetrics
from edgesdk.errors import EdgeError


@dataclass(frozen=True)
class Piece:
    """Text that came.

    Attributes:
        source: whose.
        text: of it.
    """

    source: int
    text: str


@dataclass(frozen=True)
class Ended:
    """The end of an answer.

    Attributes:
        source: whose.
        completion: the whole; None where `error` is what happened.
        metrics: its figures; None where it never began.
        error: what ended it.
    """

    source: int
    completion: Completion | None
    metrics: RequestMetrics | None
    error: Exception | None = None


Event = Piece | Ended


class Reading:
    """One answer that is being read; ends with exactly one `Ended`."""

    def __init__(
        self, source: int, submit: Callable[[], Generation], report: Callable[[Event], None]
    ) -> None:
        """Begins.

        Args:
            source: what reports call it.
            submit: hands the request in; called in the thread, and may wait.
            report: takes events; called in the thread.
        """
        self._source = source
        self._submit = submit
        self._report = report
        self._lock = threading.Lock()
        self._cancelled = False
        self._generation: Generation | None = None
        self._thread = threading.Thread(target=self._read, name=f"edgesdk-plan-{source}", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Ends it within a step, or before it begins."""
        with self._lock:
            self._cancelled = True
            generation = self._generation
        if generation is not None:
            generation.cancel()

    def join(self) -> None:
        """Waits for the end."""
        self._thread.join()

    def _read(self) -> None:
        completion: Completion | None = None
        error: Exception | None = None
        generation: Generation | None = None
        try:
            generation = self._submit()
            with self._lock:
                self._generation = generation
                cancelled = self._cancelled
            if cancelled:
                generation.cancel()
            for chunk in generation:
                if chunk.text:
                    self._report(Piece(self._source, chunk.text))
                completion = chunk.completion or completion
        except Exception as caught:  # noqa: BLE001 - whoever waits for the end must hear of it
            error = caught
        if completion is None and error is None:
            error = EdgeError("the answer ended without a completion; please report this")
        self._report(Ended(self._source, completion, generation.metrics if generation else None, error))
