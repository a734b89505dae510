"""How long a plan may go on: a deadline, and the caller's wish to stop."""

from __future__ import annotations

import time
from collections.abc import Callable

from edgesdk.errors import UnsupportedOption, quoted


class Allowance:
    """The time that a plan may take, and the caller's wish to stop."""

    def __init__(self, deadline_s: float | None, cancelled: Callable[[], bool] | None) -> None:
        """Starts the clock.

        Args:
            deadline_s: seconds from now; None for as long as it takes.
            cancelled: says whether to stop.
        """
        self._ends_s = None if deadline_s is None else time.perf_counter() + deadline_s
        self._cancelled = cancelled

    def left_s(self) -> float | None:
        """Seconds left, above 0 so that a request takes them; None for no limit."""
        return None if self._ends_s is None else max(self._ends_s - time.perf_counter(), 1e-3)

    def is_over(self) -> bool:
        """Whether the time is over."""
        return self._ends_s is not None and time.perf_counter() >= self._ends_s

    def is_cancelled(self) -> bool:
        """Whether the caller has had enough."""
        return self._cancelled is not None and bool(self._cancelled())


def check_cancelled(cancelled: object) -> None:
    """Refuses what cannot be asked whether to stop.

    Raises:
        UnsupportedOption: it is neither None nor a function.
    """
    if cancelled is not None and not callable(cancelled):
        raise UnsupportedOption(f"cancelled is {quoted(cancelled)}, expected a function")
