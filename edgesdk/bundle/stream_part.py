"""What a stack is of a decoder whose streams run in its top blocks only.

    below    tokens through the blocks before the streams begin; gives the stream (T, E) there
    top      tokens and streams through the blocks behind it, from that stream on, with the head

The whole decoder stays beside them and can run streams, too, through all of its blocks: a step may be run
either way and says the same. It knows nothing of files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from edgesdk.bundle.port import LARGEST_SIZE
from edgesdk.errors import quoted

MOST_STREAMS = 8
"""Tokens ahead of the model's own."""

BELOW, TOP = "below_streams", "top_rows"
"""Names of the two stacks."""

RowsOf = Literal["below", "top"]


@dataclass(frozen=True)
class StreamPart:
    """One of the two.

    Attributes:
        part: `below` or `top`.
        first: blocks before the streams begin.
        count: G, streams that the model has.
    """

    part: RowsOf
    first: int
    count: int

    def __post_init__(self) -> None:
        """Refuses what no part is.

        Raises:
            ValueError: naming it; readers turn it into their own error.
        """
        if self.part not in get_args(RowsOf):
            raise ValueError(f"a part with streams is {quoted(self.part)}, expected below or top")
        if not 1 <= self.first <= LARGEST_SIZE or not 1 <= self.count <= MOST_STREAMS:
            raise ValueError(
                f"{quoted(self.count)} streams begin behind {quoted(self.first)} blocks, expected 1 to "
                f"{MOST_STREAMS} behind at least one"
            )

    @property
    def name(self) -> str:
        """What its stack is called."""
        return BELOW if self.part == "below" else TOP
