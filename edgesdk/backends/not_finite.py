"""Finds NaN and infinity in new keys and values before they get into cells.

Kernels that round activations to int8 turn a NaN into an ordinary number, so logits may look sound after one
(docs/decisions/0016 says where it survives). What enters the cells passes the host anyway and is looked at
here: a few microseconds a step. It also keeps one sequence's NaN from the others, which share the cells'
memory: a masked cell counts zero times, and zero times NaN is NaN.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.protocol import Cells, Float, Float16, Int8Cells
from edgesdk.errors import DeviceError

_HALF_EXPONENT = np.uint16(0x7C00)  # all ones for NaN and infinity


class NotFiniteError(DeviceError):
    """A step gave keys or values that are not finite numbers; nothing of it has been kept.

    Attributes:
        columns: which of the tokens that were to be kept, by index: (n,) int.
        sequences: those that the tokens belong to; empty where that is not known.
    """

    def __init__(self, message: str, columns: NDArray[np.intp], sequences: tuple[object, ...] = ()) -> None:
        """Says what was seen."""
        super().__init__(message)
        self.columns = columns
        self.sequences = sequences


def require_finite(kv: Cells) -> None:
    """Checks keys and values of n tokens.

    Args:
        kv: (L, 2, K, n, D) as a step gives them, or without n for one token; of int8 cells, the scales.

    Raises:
        NotFiniteError: one is NaN or infinity.
    """
    numbers = kv.scales if isinstance(kv, Int8Cells) else kv
    if not _all_finite(numbers):
        raise _describe(np.isfinite(numbers), numbers, 4 if isinstance(kv, Int8Cells) else 5)


def _all_finite(numbers: Float | Float16) -> bool:
    if numbers.itemsize == 2:  # float16: numpy's own check takes float16 numbers one by one
        bits = np.ascontiguousarray(numbers).view(np.uint16)
        return bool((bits & _HALF_EXPONENT).max(initial=0) != _HALF_EXPONENT)
    flat = numbers.reshape(-1)
    # A product is one pass without a temporary array. Squares of sound numbers may overflow: then it is asked of
    # each. vdot says nothing of that, whatever numpy was told to do; to have dot keep quiet cost 10 us a step.
    return math.isfinite(np.vdot(flat, flat)) or bool(np.isfinite(flat).all())


def _describe(finite: NDArray[np.bool_], numbers: Float | Float16, axes: int) -> NotFiniteError:
    layer, kind = (int(i) for i in np.argwhere(~finite)[0][:2])
    found = "NaN" if np.isnan(numbers[~finite]).any() else "infinity"
    columns = np.zeros(1, np.intp)
    if finite.ndim == axes:
        columns = np.flatnonzero(~finite.all(axis=tuple(axis for axis in range(axes) if axis != 3)))
    return NotFiniteError(
        f"the model gave {found} among the {('keys', 'values')[kind]} of layer {layer} (of 0 to "
        f"{len(numbers) - 1}), expected finite numbers: a damaged file, a failing device or numbers beyond "
        "float16; verify the bundle, or try another variant or backend",
        columns,
    )
