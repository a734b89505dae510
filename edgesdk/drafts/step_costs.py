"""What a step costs by its tokens, learned from the steps that run: v(T), the time of T tokens over that of
one.

Two things change a step's time: how many tokens it has, and everything else (cells in use, other work on the
machine). So there is a scale, which follows every step at once, and a curve of ratios, which changes slowly.
Only steps of different T tell one from the other; who asks sees to it that some run without drafts. The first
step of a size says nothing: it also lays out what every later one finds (3 to 5 ms beside 7).

It measures nothing itself and looks at no clock: what it is told decides.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from itertools import accumulate

_SCALE_SHARE = 0.25
"""Of the scale that one step makes anew."""
_RATIO_SHARE = 0.1
_UNSURE_STEPS = 4
"""Of so few steps the least is a size's ratio: what holds a step up only adds. The scale is left alone."""
_MOST_CHANGE = 3.0
"""A step that takes so many times what was expected was held up by something else."""
_GUESSED_SLOPE = 0.1
"""Before anything is known, a token more costs a tenth of the first: try, and see."""
_FRESH_STEPS = 64


class StepCosts:
    """Times of steps by their tokens, in seconds."""

    def __init__(self) -> None:
        """Starts with a guess."""
        self._scale_s: float | None = None
        self._ratios: dict[int, float] = {1: 1.0}
        self._sizes = [1]
        self._curve = [1.0]
        self._steps = 0
        self._seen: dict[int, int] = {}
        self._counts: dict[int, int] = {}
        self._least: dict[int, float] = {}
        """Of sizes of which few steps were seen, what the shortest took over one of one token."""

    @property
    def known(self) -> bool:
        """Whether a step has been seen."""
        return self._scale_s is not None

    def stale(self, tokens: int) -> bool:
        """Whether no step of so many tokens is among the last ones."""
        return self._steps - self._seen.get(tokens, -_FRESH_STEPS) >= _FRESH_STEPS

    def learn(self, tokens: int, seconds: float) -> None:
        """Notes a step.

        Args:
            tokens: that it ran, drafts included.
            seconds: that it took.
        """
        if tokens < 1 or not seconds > 0:
            return
        self._seen[tokens] = self._steps
        self._steps += 1
        expected = self._ratios.get(tokens, self.ratio(tokens))
        if self._scale_s is None:
            self._scale_s = seconds / expected
        seen = min(max(seconds / self._scale_s, expected / _MOST_CHANGE), expected * _MOST_CHANGE)
        count = self._counts[tokens] = self._counts.get(tokens, -1 if tokens > 1 else 0) + 1
        if tokens > 1:
            if count == 0:
                return
            if count == 1:
                insort(self._sizes, tokens)
            if count > _UNSURE_STEPS:
                seen_ratio = expected + _RATIO_SHARE * (seen - expected)
            else:
                least = self._least[tokens] = min(self._least.get(tokens, math.inf), seconds / self._scale_s)
                seen_ratio = min(least, expected * _MOST_CHANGE)
            self._ratios[tokens] = max(1.0, seen_ratio)
            # The least of a size and all above: a step of fewer tokens can be run as one of more.
            ratios = [self._ratios[size] for size in self._sizes]
            self._curve = list(accumulate(reversed(ratios), min))[::-1]
            if count <= _UNSURE_STEPS:
                return
        # What the ratio has not taken up is the scale's.
        self._scale_s *= (seen / self._ratios[tokens]) ** _SCALE_SHARE

    def follow(self, times: float) -> None:
        """Notes a step that no ratio is learned from, and moves the scale alone.

        Args:
            times: what it took over what was expected of it.
        """
        self._steps += 1
        if self._scale_s is not None:
            self._scale_s *= min(max(times, 1 / _MOST_CHANGE), _MOST_CHANGE) ** _SCALE_SHARE

    def ratio(self, tokens: int) -> float:
        """v(T): the time of a step of so many tokens over that of one.

        Between sizes that were seen it is interpolated; it never falls with more tokens, so that a size that
        was held up when it was tried is tried again.
        """
        sizes, curve = self._sizes, self._curve
        at = bisect_left(sizes, tokens)
        if at == len(sizes):
            return curve[-1] + _GUESSED_SLOPE * (tokens - sizes[-1])
        if sizes[at] == tokens:
            return curve[at]
        share = (tokens - sizes[at - 1]) / (sizes[at] - sizes[at - 1])
        return curve[at - 1] + share * (curve[at] - curve[at - 1])

    def seconds(self, tokens: int) -> float:
        """Time of a step of so many tokens; v(T) while no step has been seen."""
        return (1.0 if self._scale_s is None else self._scale_s) * self.ratio(tokens)
