"""How far a conversion is: its stages, weighed by what they took on one model, and what is left of them.

The weights are the seconds that each stage took for SmolLM2-135M on two cores. Larger models and other
machines take longer in nearly the same proportion, so what is left follows from what was done; it is an
estimate, and said to be one. Reading is left out of it, because it may mean a download.

It knows neither models nor files.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Stage = Literal[
    "reading",
    "reshaping",
    "quantising",
    "writing",
    "scoring",
    "proving",
    "comparing",
    "teaching",
    "training",
    "note",
]

_LEAST_KNOWN = 0.04
"""Share of the work after which the pace says something about the rest."""

_ALMOST = 0.99


@dataclass(frozen=True)
class Progress:
    """What happens now.

    Attributes:
        stage: one of a few words, for programs; `note` is no stage, but something to be kept in view.
        step: how many stages have begun.
        steps: how many there will be, as far as can be foreseen.
        what: one line, for people.
        share: of the whole that is done, 0 to 1; never falls.
        seconds: since the beginning.
        remaining_s: about how many seconds are left; None while nothing is known.
    """

    stage: Stage
    step: int
    steps: int
    what: str
    share: float
    seconds: float
    remaining_s: float | None

    def __str__(self) -> str:
        """The line for people."""
        return self.what


Report = Callable[[Progress], None]
"""Called before every stage, and in long ones again and again."""


class ProgressMeter:
    """Turns the lines that stages say into `Progress`."""

    def __init__(self, report: Report | None, plan: list[tuple[Stage, float]]) -> None:
        """Starts the clock.

        Args:
            report: told what happens; None for nobody.
            plan: the stages that are expected, with their weights.
        """
        self._report = report
        self._plan = list(plan)
        self._begun = 0
        self._total = sum(weight for _, weight in plan) or 1.0
        self._stage: Stage = "reading"
        self._done = self._weight = self._inner = self._step = self._share = 0.0
        self._started = self._counted_from = time.perf_counter()
        self._skipped = 0.0

    def enter(self, stage: Stage, what: str) -> None:
        """A stage begins; without `expect`, lines within it do not move it forward."""
        self._done += self._weight
        if self._stage == "reading" and stage != "reading":
            self._counted_from, self._skipped = time.perf_counter(), self._done
        self._weight = self._planned(stage)
        self._stage, self._inner, self._begun = stage, 0.0, self._begun + 1
        self._step = 0.0
        self._tell(what)

    def say(self, what: str, weight: float = 1.0) -> None:
        """One line within a stage, before what it announces.

        Args:
            what: the line.
            weight: how long that takes, beside the other lines of the stage.
        """
        self._tell(what)
        self._inner = min(_ALMOST, self._inner + self._step * weight)

    def note(self, what: str) -> None:
        """Says what the user should know when all is done, too."""
        stage, self._stage = self._stage, "note"
        self._tell(what)
        self._stage = stage

    def expect(self, weight: float) -> None:
        """Lines of so much weight in all will be said in what is left of the stage."""
        self._step = (1 - self._inner) / max(weight, 1.0)

    def _planned(self, stage: Stage) -> float:
        """The weight of the next stage of that kind; one that was not foreseen weighs nothing."""
        for index, (planned, weight) in enumerate(self._plan):
            if planned == stage:
                del self._plan[index]
                return weight
        return 0.0

    def _tell(self, what: str) -> None:
        if self._report is None:
            return
        now = time.perf_counter()
        done = self._done + self._inner * self._weight
        self._share = max(self._share, min(_ALMOST, done / self._total))
        counted, left = done - self._skipped, self._total - done
        known = self._stage not in ("reading", "note") and counted >= _LEAST_KNOWN * self._total
        remaining = (now - self._counted_from) * max(left, 0.0) / counted if known else None
        steps = self._begun + len(self._plan)
        self._report(
            Progress(self._stage, self._begun, steps, what, self._share, now - self._started, remaining)
        )
