"""Arrays of cells by a contract: allocated, checked, and seen as the tensors that a file reads and writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args

import numpy as np

from edgesdk.backends.aligned_array import aligned_array
from edgesdk.backends.protocol import Array, Cells
from edgesdk.bundle.manifest import CellType
from edgesdk.bundle.step_contract import CellGroup, StepContract
from edgesdk.bundle.step_names import CellTensor
from edgesdk.errors import DeviceError


def allocate_cells(groups: Iterable[CellGroup], count: int) -> Cells:
    """Zeroed, aligned arrays for so many cells of some groups."""
    return Cells(tuple(aligned_array(group.dtype, *group.shape(count)) for group in groups))


def check_cells(cells: Cells, contract: StepContract, count: int, backend: str) -> None:
    """Compares cells with what a step reads.

    Args:
        cells: what a caller has given.
        contract: of the stack.
        count: S.
        backend: for the message.

    Raises:
        DeviceError: they are of another type or shape, or not contiguous.
    """
    found = cells.cell_type
    if found != contract.cell_type and found in get_args(CellType):
        raise DeviceError(f"{backend} reads {contract.cell_type} cells, found {found}")
    if len(cells.arrays) != len(contract.groups):
        raise DeviceError(
            f"cells are {len(cells.arrays)} arrays, expected {len(contract.groups)} for the model's layers"
        )
    for array, group in zip(cells.arrays, contract.groups, strict=True):
        expected = group.shape(count)
        if array.shape != expected or array.dtype != group.dtype or not array.flags.c_contiguous:
            raise DeviceError(
                f"cells are {array.dtype} {array.shape}, expected contiguous {group.dtype} {expected}"
            )


def cell_views(tensors: Sequence[CellTensor], cells: Cells) -> list[Array]:
    """What each of a file's tensors is of some cells: contiguous views, in the tensors' order."""
    views: list[Array] = []
    for tensor in tensors:
        plane: Array = cells.arrays[tensor.group][tensor.layer, tensor.side]
        # A scale for each cell is a row of them in a file.
        views.append(plane[:, None] if len(tensor.dims) > plane.ndim else plane)
    return views


def all_finite(cells: Cells) -> bool:
    """Whether every floating point number is one."""
    return all(bool(np.isfinite(array).all()) for array in cells.arrays if array.dtype.kind == "f")
