"""How candidates are to be measured, as whoever asks for a plan says it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

BUDGET_S = 10.0


@dataclass(frozen=True)
class Measuring:
    """How far measuring may go.

    Attributes:
        measure: None to measure what is not in the cache; False never; True anew.
        budget_s: seconds for all.
        cancelled: asked often; ends the measurement early when it says so.
        say: told what is being measured.
    """

    measure: bool | None = None
    budget_s: float = BUDGET_S
    cancelled: Callable[[], bool] | None = None
    say: Callable[[str], None] | None = None


AS_NEEDED = Measuring()
