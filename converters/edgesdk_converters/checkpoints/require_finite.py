"""Refuses numbers that are not finite where they are read, by the name of their tensor.

Failed merges and fine-tunes leave NaN and infinity in checkpoints. Rounded to integers they become some
number, so nothing later can see them (docs/decisions/0016).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import CheckpointError


def require_finite(values: NDArray[np.float32], file: str, tensor: str) -> None:
    """Checks a tensor, or some of its rows.

    Args:
        values: any shape, as float32.
        file: name of the file that holds it, for the message.
        tensor: its name.

    Raises:
        CheckpointError: it holds NaN or infinity.
    """
    finite = np.isfinite(values)
    if finite.all():
        return
    bad = values[~finite]
    kind = "NaN" if np.isnan(bad[0]) else "infinity"
    raise CheckpointError(
        f"{file} has {len(bad)} of {values.size} numbers in {tensor[:200]!r} that are not finite, the first "
        f"is {kind}; the checkpoint is damaged, get it again or take an earlier one"
    )
