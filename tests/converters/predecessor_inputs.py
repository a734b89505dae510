"""What convolutions read of the tokens before a piece of one sequence, written down from their definition."""

import numpy as np

from edgesdk.bundle.stack_record import BEFORE, picks


def predecessor_inputs(spec, kept, start, count):
    """Inputs for `count` tokens from position `start` on; empty without convolutions.

    Args:
        kept: (convolutions, n, E) what they kept of the tokens before `start`.
    """
    if not spec.convolving:
        return {}
    before = np.zeros((count, len(kept), spec.predecessors, spec.hidden_size), np.float32)
    inputs = {name: np.zeros((count, count), np.float32) for name in picks(spec.predecessors)}
    for row in range(count):
        for j, name in enumerate(inputs, start=1):
            if row >= j:
                inputs[name][row, row - j] = 1
            elif start + row >= j:
                before[row, :, j - 1] = kept[:, start + row - j]
    return {BEFORE: before.reshape(count, -1), **inputs}
