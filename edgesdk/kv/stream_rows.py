"""Says in a step's arrays which of its rows are streams, and of which token.

A stack with streams has the input `streams` (T, G): 1 in column j - 1 of a row that is stream j, 0 in all of
a token's. Where streams begin in the middle of the model it has `sources` (T,), too: the row whose state a
row goes on with there, its own or that of the token it stands behind. It knows arrays and entries, no cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.protocol import Int, StepBuffers
from edgesdk.bundle.stack_record import SOURCES, STREAMS
from edgesdk.kv.step_entry import StepEntry


def show_streams(buffers: StepBuffers, entries: Sequence[StepEntry]) -> None:
    """Fills the two inputs of a stack with streams.

    Args:
        buffers: of the step's size.
        entries: of the step; their rows follow one another.

    Raises:
        ValueError: an entry has streams that the stack has not.
    """
    show_no_streams(buffers)
    columns = cast("NDArray[np.float32]", buffers.extra[STREAMS])
    sources = cast("Int | None", buffers.extra.get(SOURCES))
    first = 0
    for entry in entries:
        drafts = entry.drafts
        if drafts is not None and drafts.streams is not None:
            begin = first + len(entry.tokens)
            for row, number in enumerate(drafts.streams.tolist()):
                if not number:
                    continue
                if number > columns.shape[1]:
                    raise ValueError(f"stream {number} is drafted, the stack has {columns.shape[1]}")
                columns[begin + row, number - 1] = 1
                if sources is not None:
                    # A stream behind another goes on with what that one does.
                    sources[begin + row] = sources[begin + int(drafts.parents[row])]
        first += entry.rows


def show_no_streams(buffers: StepBuffers) -> None:
    """Fills them for a step of tokens alone."""
    buffers.extra[STREAMS][:] = 0
    sources = buffers.extra.get(SOURCES)
    if sources is not None:
        sources[:] = np.arange(len(sources))
