"""Cells in float16: how a signature takes them, and where attention goes from float32 to float16 and back.

New keys and values are rounded before anything reads them, so a token is the same number to its own step
and to later ones. XNNPACK multiplies float16 with float16, on x86-64 with sums in float32 and on Arm in
float16, and converts by QUANTIZE; CAST it leaves to slower kernels (docs/decisions/0014).
"""

from __future__ import annotations

from edgesdk.bundle.step_names import HALF, CellName
from edgesdk_converters.emit.litert.state import Lowering
from edgesdk_converters.graph.graph import Value


def half_cells(state: Lowering, value: Value, cell: CellName) -> None:
    """Adds the input of one layer's keys or values, (K, S, D) float16."""
    name = str(cell._replace(kind=HALF))
    state.index[value.name] = state.subgraph.input(name, state.shape(value.shape), "float16")
    state.half_cells.add(value.name)


def to_half(state: Lowering, x: int, name: str, shape: tuple[int, ...]) -> int:
    """Rounds to float16."""
    return _converted(state, x, name, shape, "FLOAT16")


def to_float(state: Lowering, x: int, name: str, shape: tuple[int, ...]) -> int:
    """The same numbers in float32."""
    return _converted(state, x, name, shape, "FLOAT32")


def _converted(state: Lowering, x: int, name: str, shape: tuple[int, ...], dtype: str) -> int:
    out = state.subgraph.tensor(name, shape, dtype)
    state.subgraph.op("QUANTIZE", 1, [x], [out], state.schema.QuantizeOptionsT())
    return out
