"""Looks up rows of an int4 table: the head's own packed integers, two to a byte.

LiteRT has no look-up of int4 rows, and a table unpacked for it would be several times the head. So the
head's bytes are seen as int8, the wanted rows are picked, and arithmetic takes each byte apart:

    high = floor(byte / 16);  rest = byte - 16 high;  low = rest - 16 floor(rest / 8)

Both are exact in float32, and a decode step does this for one row.
"""

from __future__ import annotations

import numpy as np

from edgesdk_converters.emit.litert.model_file import Quantisation
from edgesdk_converters.emit.litert.state import Lowering
from edgesdk_converters.emit.pack_int4 import pack_int4


def packed_rows(state: Lowering, table: str, tokens: int, name: str, count: int) -> int:
    """Appends the operators and returns the rows, (T, E) float32.

    Args:
        state: lowering; the table's scheme has 4 bits.
        table: name of the weight, (V, E) with E even.
        tokens: tensor index of the token ids, (T,).
        name: of the result.
        count: T.
    """
    (V, E), T = state.weights.shape(table), count
    unit = Quantisation(np.ones(1, np.float32))
    raw = state.subgraph.constant(
        table,
        (V, E // 2),
        "INT8",
        lambda: pack_int4(state.weights.quantised(table).values),
        unit,
        view=".bytes",
    )
    half = (T, E // 2)
    picked = state.gather(raw, tokens, f"{name}.bytes", half, "INT8")
    state.subgraph.tensors[picked].quantization = state.subgraph.tensors[raw].quantization  # type: ignore[attr-defined]
    byte = state.emit("DEQUANTIZE", [picked], f"{name}.byte", half, state.schema.DequantizeOptionsT(), 2)
    high, rest = _floor_divide(state, byte, 16, f"{name}.high", half)
    negative, _ = _floor_divide(state, rest, 8, f"{name}.negative", half)
    sixteen = state.binary("MUL", negative, state.subgraph.number(16), f"{name}.sixteen", half)
    low = state.binary("SUB", rest, sixteen, f"{name}.low", half)
    pairs = [
        state.reshape(part, f"{name}.{kind}.pairs", (T, E // 2, 1))
        for kind, part in (("low", low), ("high", high))
    ]
    whole = state.concat(pairs, 2, f"{name}.pairs", (T, E // 2, 2))
    scheme = state.weights.scheme(table)
    block = E if scheme is None or scheme.block is None else scheme.block
    scales = _scales(state, table, tokens, name, (T, E // block))
    if block == E:
        values = state.reshape(whole, f"{name}.values", (T, E))
        return state.binary("MUL", values, scales, name, (T, E))
    blocks = (T, E // block, block)
    values = state.reshape(whole, f"{name}.values", blocks)
    scaled = state.binary("MUL", values, scales, f"{name}.scaled", blocks)
    return state.reshape(scaled, name, (T, E))


def _floor_divide(state: Lowering, x: int, by: int, name: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """floor(x / by), and what is left of x."""
    share = state.binary("MUL", x, state.subgraph.number(1 / by), f"{name}.share", shape)
    whole = state.emit("FLOOR", [share], name, shape)
    back = state.binary("MUL", whole, state.subgraph.number(by), f"{name}.back", shape)
    return whole, state.binary("SUB", x, back, f"{name}.rest", shape)


def _scales(state: Lowering, table: str, tokens: int, name: str, shape: tuple[int, int]) -> int:
    """The rows' scales, (T, B, 1) float32; for one scale per row (T, 1), which is stored as float32."""
    V, (T, count) = state.weights.shape(table)[0], shape
    kind = "FLOAT32" if count == 1 else "FLOAT16"
    dtype = np.float32 if count == 1 else np.float16
    stored = state.subgraph.constant(
        f"{table}.scales",
        (V, count),
        kind,
        lambda: state.weights.quantised(table).scales.astype(dtype),
        view=".rows",
    )
    rows = state.gather(stored, tokens, f"{name}.scales", (T, count), kind)
    if kind == "FLOAT16":
        options = state.schema.DequantizeOptionsT()
        rows = state.emit("DEQUANTIZE", [rows], f"{name}.scales.wide", (T, count), options, 3)
    return rows if count == 1 else state.reshape(rows, f"{name}.scales.column", (T, count, 1))
