"""What of a LiteRT signature depends on how cells are stored, and the order of its masks.

Names and shapes are those of `edgesdk.bundle.step_names.litert_tensors`.
"""

from __future__ import annotations

from collections.abc import Collection

from edgesdk.backends.protocol import MASKED, Array
from edgesdk.bundle.manifest import CellType
from edgesdk.bundle.step_names import SCALE, CellName, StepTensors
from edgesdk.errors import DeviceError


def turn_mask(mask: Array, turned: Array) -> None:
    """Writes a mask (T, S+T), cells first, into one (T, N+S), new tokens first, N at least T."""
    T, width = mask.shape
    N = turned.shape[1] - width + T
    turned[:, :T] = mask[:, -T:]
    if N > T:
        turned[:, T:N] = MASKED
    turned[:, N:] = mask[:, :-T]


def check_cell_inputs(inputs: Collection[str], tensors: StepTensors, cell_type: CellType) -> None:
    """Refuses a signature whose cells are stored in another way than the manifest says.

    Args:
        inputs: names of what it takes.
        tensors: what it should take.
        cell_type: how cells are stored by the manifest.

    Raises:
        DeviceError: an input is missing, or there are scales for cells that have none.
    """
    masks = [tensor.name for tensor in tensors.ports_in if tensor.new_first]
    if masks and masks[0] not in inputs:
        raise DeviceError(f"the LiteRT file has no input {masks[0]!r}; convert the bundle again")
    missing = [tensor.name for tensor in tensors.cells if tensor.name not in inputs]
    scales = [name for name in inputs if (found := CellName.parse(name)) and found.kind == SCALE]
    if missing or (scales and cell_type != "int8"):
        what = f"has no input {missing[0]!r}" if missing else f"has an input {scales[0]!r}"
        raise DeviceError(
            f"the manifest says that cells are {cell_type}, but the LiteRT file {what}; "
            "convert the bundle again"
        )
