"""When to try again what does not pay: seldomer each time."""

from __future__ import annotations

_TRY_AGAIN_STEPS = 32
_MOST_WAIT_STEPS = 1024


class Trials:
    """Counts the steps in which something was left out."""

    def __init__(self) -> None:
        """Starts as if it had just been done."""
        self._waited = 0
        self._wait = _TRY_AGAIN_STEPS

    def due(self, pays: bool) -> bool:
        """Whether it is done in this step: it pays, or was left out for long enough."""
        self._waited += 1
        if pays:
            self._wait = _TRY_AGAIN_STEPS
        elif self._waited >= self._wait:
            self._wait = min(2 * self._wait, _MOST_WAIT_STEPS)
        else:
            return False
        self._waited = 0
        return True
