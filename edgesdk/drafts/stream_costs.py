"""What a step costs by its tokens and its streams.

Where streams run in the top blocks only, a step of n tokens and m streams costs as much as one of n tokens
below and one of n + m rows above. Both are shares of times that are known from steps without streams; what
that misses (the second call, sizes that do not fit) is a factor that is learned from steps with streams. What
slows all steps down is no such thing: those with streams move the common scale, too.
"""

from __future__ import annotations

from edgesdk.drafts.step_costs import StepCosts

_FACTOR_SHARE = 0.1
_UNSURE_STEPS = 4
"""A factor of so few steps takes up the whole of what it is off by; later steps move the scale, too."""
_LEAST_FACTOR, _MOST_FACTOR = 0.5, 2.0
"""A step beyond them was held up by something else."""


class StreamCosts:
    """Times of steps, in seconds."""

    def __init__(self, costs: StepCosts, share: float = 1.0) -> None:
        """Starts with no factor.

        Args:
            costs: of steps by their tokens.
            share: of a token's work that a stream's row costs; 1 where it runs through all blocks, and a row
                is a row.
        """
        self._costs, self._share = costs, share
        self._factor = 1.0
        self._count = 0

    def seconds(self, tokens: int, streams: int = 0) -> float:
        """Time of a step; in units of a step of one token while none has been seen.

        Args:
            tokens: that it runs, drafts included.
            streams: beside them.
        """
        if not streams:
            return self._costs.seconds(tokens)
        return self._parts(tokens, streams) * self._factor

    def learn(self, tokens: int, streams: int, seconds: float) -> None:
        """Notes a step.

        Args:
            tokens: that it ran, drafts included.
            streams: beside them.
            seconds: that it took.
        """
        if not streams or self._share == 1:
            self._costs.learn(tokens + streams, seconds)
        elif self._costs.known and seconds > 0:
            times = seconds / self._parts(tokens, streams)
            seen = min(max(times, _LEAST_FACTOR), _MOST_FACTOR)
            self._count += 1
            self._factor += max(_FACTOR_SHARE, 1 / self._count) * (seen - self._factor)
            # Else what slows every step down would count as the price of streams.
            self._costs.follow(1.0 if self._count <= _UNSURE_STEPS else times / self._factor)

    def _parts(self, tokens: int, streams: int) -> float:
        below, above = self._costs.seconds(tokens), self._costs.seconds(tokens + streams)
        return (1 - self._share) * below + self._share * above
