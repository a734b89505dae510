"""A request inside the engine, and its branches: one sequence of tokens each, with what chooses them.

Plain state that only the engine's thread changes; other threads read the figures.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgesdk.decoding.choose import Chooser
from edgesdk.engine.answer import Answer
from edgesdk.engine.metrics import RequestMetrics
from edgesdk.engine.stream import Generation
from edgesdk.kv.cell_list import CellList


@dataclass(eq=False)
class SessionState:
    """What a session holds between its requests.

    Attributes:
        tokens: all of them, (n,) int32; those beyond the cells are still to be run.
        cells: of the first tokens; None when none of them has cells.
        busy: whether a request is at work on it.
        used: the step in which the last one ended.
    """

    tokens: NDArray[np.int32]
    cells: CellList | None = None
    busy: bool = False
    used: int = 0


@dataclass(eq=False)
class Request:
    """What was asked for.

    Attributes:
        prompt: (n,) int32, all tokens to be seen before the first is chosen.
        limit: most tokens of an answer.
        priority: higher goes first.
        deadline_s: when it ends at the latest, on the clock of `time.perf_counter`.
        submitted_s: when it was handed in.
        choosers: what chooses the tokens of each sample; none to run the prompt only.
        answers: what collects them; at least one.
        session: whose tokens the prompt starts with.
        kept: how many of them; the session forgets the others.
    """

    prompt: NDArray[np.int32]
    limit: int
    priority: int
    deadline_s: float | None
    submitted_s: float
    choosers: tuple[Chooser, ...]
    answers: tuple[Answer, ...]
    session: SessionState | None = None
    kept: int = 0
    generation: Generation = field(init=False)
    branches: list[Branch] = field(default_factory=list)
    started_s: float | None = None
    queued: bool = True
    """Whether it still counts among those that wait for the first time."""
    ended: bool = False

    @property
    def samples(self) -> int:
        """How many answers it has."""
        return len(self.answers)

    def metrics(self, index: int) -> RequestMetrics:
        """Figures of one sample; of the first until the prompt has run."""
        branch = self.branches[min(index, len(self.branches) - 1)] if self.branches else None
        times = tuple(branch.answer.times_s) if branch else ()
        return RequestMetrics(
            prompt_tokens=len(self.prompt),
            cached_tokens=branch.cached if branch else 0,
            new_tokens=len(times),
            preemptions=branch.preemptions if branch else 0,
            submitted_s=self.submitted_s,
            started_s=self.started_s,
            token_times_s=times,
        )


@dataclass(eq=False)
class Branch:
    """One sequence of a request.

    Attributes:
        branch_id: for the scheduler.
        request: whose it is.
        index: of the sample.
        chooser: chooses its tokens; None when the prompt is only to be run.
        answer: collects them.
        known: tokens there are; those before `cells.length` have been run.
        cells: of the tokens that have been run; None while it has none.
        cached: prompt tokens that had cells when it first ran.
        preemptions: how often its cells were taken.
    """

    branch_id: int
    request: Request
    index: int
    chooser: Chooser | None
    answer: Answer
    known: int = 0
    cells: CellList | None = None
    cached: int = 0
    preemptions: int = 0
    _tokens: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))

    def __post_init__(self) -> None:
        """Starts with the prompt."""
        prompt = self.request.prompt
        self._tokens = np.empty(len(prompt) + self.request.limit, np.int32)
        self._tokens[: len(prompt)] = prompt
        self.known = len(prompt)

    @property
    def tokens(self) -> NDArray[np.int32]:
        """(known,) int32, a view."""
        return self._tokens[: self.known]

    @property
    def length(self) -> int:
        """Tokens that have cells."""
        return 0 if self.cells is None else self.cells.length

    def append(self, token: int) -> None:
        """Adds a chosen token."""
        self._tokens[self.known] = token
        self.known += 1
