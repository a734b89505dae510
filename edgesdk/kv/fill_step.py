"""Writes what a step reads of its entries: tokens or a stream, and positions; and says what rows each has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from edgesdk.backends.protocol import Float, StepBuffers
from edgesdk.bundle.exit_record import STREAM
from edgesdk.kv.step_entry import StepEntry
from edgesdk.kv.step_mask import MaskBlock


def fill_step(buffers: StepBuffers, entries: Sequence[StepEntry], total: int) -> list[MaskBlock]:
    """Fills tokens and positions; what a size has beyond them is 0.

    Args:
        buffers: of the size that runs.
        entries: in the order of their rows.
        total: rows of all entries.

    Returns:
        The rows of each entry, for masks.
    """
    first = 0
    for entry in entries:
        tokens, drafts = entry.tokens, entry.drafts
        count, end = len(tokens), first + entry.rows
        if entry.stream is None:
            buffers.tokens[first : first + count] = tokens
        else:
            cast(Float, buffers.extra[STREAM])[first : first + count] = entry.stream
        if drafts is not None:
            buffers.tokens[first + count : end] = drafts.tokens
        first = end
    buffers.tokens[total:] = 0
    if STREAM in buffers.extra:
        cast(Float, buffers.extra[STREAM])[total:] = 0
    return place_rows(buffers, entries, total)


def place_rows(buffers: StepBuffers, entries: Sequence[StepEntry], total: int) -> list[MaskBlock]:
    """Fills the positions of rows alone.

    Args:
        buffers: of the size that runs.
        entries: in the order of their rows.
        total: rows of all entries.

    Returns:
        The rows of each entry, for masks.
    """
    blocks = []
    first = 0
    for entry in entries:
        start, drafts, rows = entry.cells.length, entry.drafts, entry.rows
        end = first + rows
        parents = depths = None
        if drafts is not None:
            parents, depths = drafts.after(len(entry.tokens))
        if depths is not None:
            buffers.positions[first:end] = start + depths
        else:
            buffers.positions[first:end] = start if rows == 1 else np.arange(start, start + rows)
        blocks.append(MaskBlock(entry.cells, rows, parents, depths))
        first = end
    buffers.positions[total:] = 0
    return blocks
