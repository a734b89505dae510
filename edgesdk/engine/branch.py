"""A request inside the engine, and its branches: one sequence of tokens each, with what chooses them.

Plain state that only the engine's thread changes; other threads read the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.adapter_record import Gates
from edgesdk.decoding.ahead import Ahead
from edgesdk.decoding.answer import Answer
from edgesdk.decoding.choose import Chooser
from edgesdk.decoding.draft import new_draft_key
from edgesdk.decoding.request_reader import AnswerRequest
from edgesdk.engine.generation import Generation
from edgesdk.engine.metrics import RequestMetrics
from edgesdk.kv.cell_list import CellList


@dataclass(eq=False)
class SessionState:
    """What a session holds between its requests.

    Attributes:
        tokens: all of them, (n,) int32; those beyond the cells are still to be run.
        cells: of the first tokens; None when none of them has cells.
        busy: whether a request is at work on it.
        used: the step in which the last one ended.
        gates: that its tokens are run with.
    """

    tokens: NDArray[np.int32]
    cells: CellList | None = None
    busy: bool = False
    used: int = 0
    gates: Gates = ()


@dataclass(eq=False)
class Request:
    """A request on its way.

    Attributes:
        asked: what was asked for.
        priority: higher goes first.
        deadline_s: when it ends at the latest, on the clock of `time.perf_counter`.
        submitted_s: when it was handed in.
        session: whose tokens the prompt starts with; `asked.held` says how many.
    """

    asked: AnswerRequest
    priority: int
    deadline_s: float | None
    submitted_s: float
    session: SessionState | None = None
    generation: Generation = field(init=False)
    branches: list[Branch] = field(default_factory=list)
    started_s: float | None = None
    queued: bool = True
    """Whether it still counts among those that wait for the first time."""
    ended: bool = False

    @property
    def samples(self) -> int:
        """How many answers it has."""
        return len(self.asked.answers)

    def metrics(self, index: int) -> RequestMetrics:
        """Figures of one sample; of the first until the prompt has run."""
        branch = self.branches[min(index, len(self.branches) - 1)] if self.branches else None
        times = tuple(branch.answer.times_s) if branch else ()
        return RequestMetrics(
            prompt_tokens=len(self.asked.prompt),
            cached_tokens=branch.cached if branch else 0,
            new_tokens=len(times),
            preemptions=branch.preemptions if branch else 0,
            submitted_s=self.submitted_s,
            started_s=self.started_s,
            token_times_s=times,
            steps=branch.answer.steps if branch else 0,
            drafted_tokens=branch.answer.drafted if branch else 0,
            kept_tokens=branch.answer.kept if branch else 0,
        )


@dataclass(eq=False)
class Branch:
    """One sequence of a request.

    Attributes:
        branch_id: for the scheduler.
        request: whose it is.
        index: of the sample.
        known: tokens there are; those before `cells.length` have been run.
        cells: of the tokens that have been run; None while it has none.
        cached: prompt tokens that had cells when it first ran.
        preemptions: how often its cells were taken.
        draft_key: what drafters call it.
        state: (E,) what the model's head read in the row that chose the token after the first `seen`; None
            where that is not known, or nobody drafts.
        seen: tokens before that token.
        ahead: what streams said behind the last of those.
    """

    branch_id: int
    request: Request
    index: int
    known: int = 0
    cells: CellList | None = None
    cached: int = 0
    preemptions: int = 0
    draft_key: int = field(default_factory=new_draft_key)
    state: NDArray[np.float32] | None = None
    seen: int = 0
    ahead: Ahead | None = None
    _tokens: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))

    def __post_init__(self) -> None:
        """Starts with the prompt."""
        prompt = self.request.asked.prompt
        self._tokens = np.empty(len(prompt) + self.request.asked.limit, np.int32)
        self._tokens[: len(prompt)] = prompt
        self.known = len(prompt)

    @property
    def chooser(self) -> Chooser | None:
        """What chooses its tokens; None when the prompt is only to be run."""
        choosers = self.request.asked.choosers
        return choosers[self.index] if choosers else None

    @property
    def answer(self) -> Answer:
        """What collects them."""
        return self.request.asked.answers[self.index]

    @property
    def gates(self) -> Gates:
        """That its tokens are run with."""
        return self.request.asked.gates

    @property
    def tokens(self) -> NDArray[np.int32]:
        """(known,) int32, a view."""
        return self._tokens[: self.known]

    @property
    def length(self) -> int:
        """Tokens that have cells."""
        return 0 if self.cells is None else self.cells.length

    def append(self, tokens: Sequence[int]) -> None:
        """Adds chosen tokens."""
        for token in tokens:  # mostly one, for which a slice takes longer
            self._tokens[self.known] = token
            self.known += 1
