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

from edgesdk.backends.protocol import Array, Cells
from edgesdk.bundle.step_contract import StepContract
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


def require_finite(kv: Cells, contract: StepContract) -> None:
    """Checks keys and values of n tokens.

    Args:
        kv: as a step gives them, or without n for one token, or cells as a pool keeps them: of int8 ones the
            scales are looked at.
        contract: of the step, whose layers a message names.

    Raises:
        NotFiniteError: one is NaN or infinity.
    """
    for array in kv.arrays:
        if not _all_finite(array):
            raise _describe(kv, contract)


def _all_finite(numbers: Array) -> bool:
    if numbers.itemsize == 4:
        flat = numbers.reshape(-1)
        # A product is one pass without a temporary array. Squares of sound numbers may overflow: then it is
        # asked of each. dot reports that, and keeping it quiet cost more than the product; vdot does not.
        return math.isfinite(np.vdot(flat, flat)) or bool(np.isfinite(flat).all())
    if numbers.itemsize == 2:  # float16: numpy's own check takes float16 numbers one by one
        bits = np.ascontiguousarray(numbers).view(np.uint16)
        return bool((bits & _HALF_EXPONENT).max(initial=0) != _HALF_EXPONENT)
    return True  # int8


def _describe(kv: Cells, contract: StepContract) -> NotFiniteError:
    """What was found first, by layer, and which of the n tokens have such numbers."""
    groups = contract.new if len(kv.arrays) == len(contract.new) else contract.groups
    places: list[tuple[int, int]] = []
    convolved: list[int] = []
    columns: set[int] = set()
    nan = False
    for group, array in zip(groups, kv.arrays, strict=True):
        wrong = ~np.isfinite(array)
        found = [(group.layers[layer], side) for layer, side in np.argwhere(wrong)[:, :2].tolist()]
        if group.held:
            convolved += [number for number, _ in found]
        else:
            places += found
        nan = nan or bool(np.isnan(array).any())
        if array.ndim == len(group.shape(1)):
            others = tuple(axis for axis in range(array.ndim) if axis != 3)
            columns.update(np.flatnonzero(wrong.any(axis=others)).tolist())
        else:
            columns.add(0)
    if places:
        layer, side = min(places)
        where = f"the {('keys', 'values')[side]} of layer {layer} (of 0 to {contract.layers[-1]})"
    else:
        where = f"what convolution {min(convolved)} keeps"
    return NotFiniteError(
        f"the model gave {'NaN' if nan else 'infinity'} among {where}, expected finite numbers: a damaged "
        "file, a failing device or numbers beyond float16; verify the bundle, or try another variant or "
        "backend",
        np.array(sorted(columns), np.intp),
    )
