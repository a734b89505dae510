"""What a request took, and what the engine is doing: plain figures, sent nowhere.

Times are read from `time.perf_counter`. Percentiles are of the gaps between tokens as they were chosen,
whether or not anybody read them by then.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RequestMetrics:
    """Figures of one answer; of a running one, as far as it has come.

    Attributes:
        prompt_tokens: tokens of the prompt.
        cached_tokens: those of them that were not run, because their cells were there already.
        new_tokens: tokens chosen.
        preemptions: how often its cells were taken and it was computed again.
        submitted_s: when it was handed in, on the clock of `time.perf_counter`.
        started_s: when its first tokens ran; None in the queue.
        token_times_s: when each token was chosen.
        steps: steps of the model that gave tokens.
        drafted_tokens: tokens that a drafter proposed and these steps judged.
        kept_tokens: those of them that the answer has and needed no step for.
    """

    prompt_tokens: int
    cached_tokens: int
    new_tokens: int
    preemptions: int
    submitted_s: float
    started_s: float | None
    token_times_s: tuple[float, ...]
    steps: int = 0
    drafted_tokens: int = 0
    kept_tokens: int = 0

    @property
    def queue_ms(self) -> float | None:
        """Time in the queue; None while it is there."""
        return None if self.started_s is None else (self.started_s - self.submitted_s) * 1e3

    @property
    def ttft_ms(self) -> float | None:
        """Time to first token, the queue included; None before it."""
        return (self.token_times_s[0] - self.submitted_s) * 1e3 if self.token_times_s else None

    @property
    def tbt_ms(self) -> tuple[float, ...]:
        """Times between tokens."""
        return tuple(np.diff(self.token_times_s) * 1e3)

    @property
    def tbt_p50_ms(self) -> float | None:
        """Median time between tokens; None with fewer than two tokens."""
        return self._percentile(50)

    @property
    def tbt_p99_ms(self) -> float | None:
        """99th percentile of the time between tokens; None with fewer than two tokens."""
        return self._percentile(99)

    @property
    def decode_tokens_per_s(self) -> float | None:
        """Tokens after the first over the time they took; None with fewer than two tokens."""
        if len(self.token_times_s) < 2:
            return None
        return (len(self.token_times_s) - 1) / max(self.token_times_s[-1] - self.token_times_s[0], 1e-9)

    def _percentile(self, percent: float) -> float | None:
        gaps = self.tbt_ms
        return float(np.percentile(gaps, percent)) if gaps else None


@dataclass(frozen=True)
class EngineMetrics:
    """Gauges and counters of an engine.

    Attributes:
        running: branches that hold a seat.
        waiting: branches in the queue.
        cells_used: cells with a holder, shared ones counted once.
        cells_free: the others.
        cached_cells: cells that the prefix cache holds.
        steps: steps run.
        tokens: tokens run that have cells since; of drafts those that were kept.
        chosen_tokens: tokens chosen.
        preemptions: branches whose cells were taken.
        finished: requests that ended, however they did.
        cache_hits: branches that found a part of their prompt in the prefix cache.
        cached_tokens: prompt tokens found there.
        model_s: time in steps of the model.
        host_s: time of the engine's own between and around them.
        token_budget: tokens of a step in which something decodes.
        seats: most branches that run at once.
        drafted_tokens: tokens that a drafter proposed and steps judged.
        kept_tokens: those of them that answers have and needed no step for.
        draft_s: time in the drafter; `host_s` holds it, too.
    """

    running: int
    waiting: int
    cells_used: int
    cells_free: int
    cached_cells: int
    steps: int
    tokens: int
    chosen_tokens: int
    preemptions: int
    finished: int
    cache_hits: int
    cached_tokens: int
    model_s: float
    host_s: float
    token_budget: int
    seats: int
    drafted_tokens: int = 0
    kept_tokens: int = 0
    draft_s: float = 0.0

    @property
    def tokens_per_step(self) -> float:
        """Mean tokens of a step; 0 before the first."""
        return self.tokens / self.steps if self.steps else 0.0
