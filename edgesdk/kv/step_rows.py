"""The rows of a step: which are wanted, run again where they are more than a size has, handed out to entries.

It knows arrays and entries, not cells or sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgesdk.backends.protocol import Float, StepBuffers
from edgesdk.kv.step_entry import StepEntry

Rows = list[Float | None]
"""For each entry its rows of one output, None where it wants none."""


def run_rows(
    run: Callable[[], None],
    buffers: StepBuffers,
    entries: Sequence[StepEntry],
    wanted: int,
    outputs: Sequence[Float],
) -> list[Rows]:
    """Runs a step for the rows that its entries want, again for those beyond R.

    Args:
        run: runs the step on `buffers`, whose other inputs are filled.
        buffers: of its size.
        entries: of the step.
        wanted: rows that they want together.
        outputs: of the step, (R, ..) each.

    Returns:
        For each output, for each entry: (..) after its last token, or (n, ..); views of the outputs where R
        are enough.
    """
    R = len(buffers.rows)
    if wanted == 1 and len(entries) == 1:
        buffers.rows[:] = entries[0].rows - 1
        run()
        last = entries[0].logits == "last"
        return [[output[0] if last else output[:1]] for output in outputs]
    rows = np.zeros(max(wanted, 1), np.int32)
    places: list[tuple[int, int]] = []
    first = place = 0
    for entry in entries:
        count, asked = entry.rows, entry.wanted
        rows[place : place + asked] = np.arange(first + count - asked, first + count)
        places.append((place, place + asked))
        first, place = first + count, place + asked
    found = list(outputs)
    if wanted > R:
        found = [np.empty((wanted, *output.shape[1:]), np.float32) for output in outputs]
    for begin in range(0, len(rows), R):
        count = min(R, len(rows) - begin)
        buffers.rows[:count] = rows[begin : begin + count]
        buffers.rows[count:] = 0
        run()
        if wanted > R:
            for mine, output in zip(found, outputs, strict=True):
                mine[begin : begin + count] = output[:count]
    return [
        [
            None if a == b else mine[a:b] if entry.drafts or entry.logits == "all" else mine[a]
            for entry, (a, b) in zip(entries, places, strict=True)
        ]
        for mine in found
    ]


def rows_of_tokens(output: Float, entries: Sequence[StepEntry], *, copy: bool) -> list[Float]:
    """An output of every token, handed out to the entries of a step.

    Args:
        output: (T, ..).
        entries: of the step.
        copy: hand out copies, not views.

    Returns:
        For each entry (n, ..) of its tokens, drafts apart.
    """
    found, first = [], 0
    for entry in entries:
        rows = output[first : first + len(entry.tokens)]
        found.append(rows.copy() if copy else rows)
        first += entry.rows
    return found
