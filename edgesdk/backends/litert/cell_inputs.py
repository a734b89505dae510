"""The inputs of a LiteRT signature that depend on S: cells, by name and in order, and masks.

float32 cells: `k_cache.l` and `v_cache.l`, (K, S, D). float16 cells: `k_half.l` and `v_half.l`, of the same
shape. int8 cells: `k_cache.l` and `v_cache.l` in int8, then for every layer `k_scale.l` and `v_scale.l`,
(K, 1, S) float32: the shape that multiplies a row of scores. Masks are (T, T+S)
with new tokens first, where the step contract has cells first: the order in which a file can be resized.
"""

from __future__ import annotations

from collections.abc import Collection

from edgesdk.backends.litert.host_memory import Bindable
from edgesdk.backends.protocol import Cells, Float, Int8Cells, type_of_cells
from edgesdk.bundle.manifest import CellType
from edgesdk.errors import DeviceError

_KINDS: dict[CellType, tuple[str, ...]] = {
    "float32": ("cache",),
    "float16": ("half",),
    "int8": ("cache", "scale"),
}


def cell_input_names(layers: int, cell_type: CellType) -> list[str]:
    """Names of the inputs, in the order of `cell_views`."""
    return [
        f"{letter}_{kind}.{layer}" for kind in _KINDS[cell_type] for layer in range(layers) for letter in "kv"
    ]


def cell_views(cells: Cells, cell_type: CellType) -> list[Bindable]:
    """What goes to each of the inputs: views, contiguous.

    Raises:
        DeviceError: the cells are of another type.
    """
    found = type_of_cells(cells)
    if found != cell_type:
        raise DeviceError(f"the LiteRT file reads {cell_type} cells, found {found}")
    values = cells.values if isinstance(cells, Int8Cells) else cells
    views: list[Bindable] = [kv for layer in values for kv in layer]
    if isinstance(cells, Int8Cells):
        views.extend(kv[:, None, :] for layer in cells.scales for kv in layer)
    return views


MASKS = ("mask.new_first", "window_mask.new_first")
"""Names of the inputs for masks, the second where a layer has a window."""


def turn_mask(mask: Float, turned: Float) -> None:
    """Writes a mask (T, S+T), cells first, into one (T, T+S), new tokens first."""
    T = mask.shape[0]
    turned[:, :T] = mask[:, -T:]
    turned[:, T:] = mask[:, :-T]


def check_cell_inputs(inputs: Collection[str], layers: int, cell_type: CellType) -> None:
    """Refuses a signature whose cells are stored in another way than the manifest says.

    Raises:
        DeviceError: an input is missing, or there are scales for cells that have none.
    """
    if MASKS[0] not in inputs:
        raise DeviceError(f"the LiteRT file has no input {MASKS[0]!r}; convert the bundle again")
    missing = [name for name in cell_input_names(layers, cell_type) if name not in inputs]
    scales = [name for name in inputs if name.startswith(("k_scale.", "v_scale."))]
    if missing or (scales and cell_type != "int8"):
        what = f"has no input {missing[0]!r}" if missing else f"has an input {scales[0]!r}"
        raise DeviceError(
            f"the manifest says that cells are {cell_type}, but the LiteRT file {what}; "
            "convert the bundle again"
        )
