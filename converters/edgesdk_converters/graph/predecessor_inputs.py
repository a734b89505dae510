"""What the evaluator's convolutions read of the tokens before each new one (docs/decisions/0027).

The runtime's own way to fill the same inputs is `edgesdk.kv.predecessors`, which knows cells and drafts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.stack_record import BEFORE, picks


def predecessor_inputs(
    spec: DecoderSpec,
    seen: NDArray[np.bool_],
    distance: NDArray[np.integer],
    kept: NDArray[np.float32] | None = None,
) -> dict[str, NDArray[np.generic]]:
    """Inputs of one step; none for a decoder without convolutions.

    Args:
        spec: the decoder.
        seen: (T, S+T) which cell and which new token belongs to the text of each new one.
        distance: (T, S+T) how many tokens before it that stands.
        kept: (convolutions, S, E) what they kept of the tokens in cells; None for S = 0.
    """
    T, count, E = len(seen), spec.predecessors, spec.hidden_size
    if not count:
        return {}
    S = seen.shape[1] - T
    inputs: dict[str, NDArray[np.generic]] = {}
    before = np.zeros((T, len(spec.convolving), count, E), np.float32) if S else None
    for j, name in enumerate(picks(count), start=1):
        there = seen & (distance == j)
        inputs[name] = there[:, S:].astype(np.float32)
        rows, cells = np.nonzero(there[:, :S])
        if before is not None and kept is not None:
            before[rows, :, j - 1] = kept[:, cells].swapaxes(0, 1)
    if before is None:  # zeros that take no memory
        inputs[BEFORE] = np.broadcast_to(np.float32(0), (T, len(spec.convolving) * count * E))
    else:
        inputs[BEFORE] = before.reshape(T, -1)
    return inputs
