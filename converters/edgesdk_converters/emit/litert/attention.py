"""Attention in LiteRT operators: new tokens and cells apart, one softmax over both, new tokens first.

Two forms with equal results. With few new tokens, scores over cells and over new tokens are two products
whose results are joined. XNNPACK packs the right operand of a product anew on every step, so the cells'
keys stand on the left, and their scores, which are small, are transposed; values cannot, because cells lie
in rows. With many tokens, scores are larger than cells, so keys and values are joined instead. New tokens
stand first because S may vary: what is cut from the front needs no number that depends on it. Queries that
share a KV head are rows of one product, head by head, so the mask is tiled once for all layers. float16
cells are multiplied as they are for one token, which reads them once; for more they become float32 first,
because XNNPACK's float16 products take half as long again. Where a processor would sum in float16, there is
a form for one token and for a few that turns them to float32, too (docs/decisions/0045). Where tokens see
the whole text there are no cells, and new keys and values are all there is.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np

from edgesdk.bundle.step_shape import FEW
from edgesdk_converters.emit.litert.half_cells import to_float, to_half
from edgesdk_converters.emit.litert.int8_cells import cell_numbers
from edgesdk_converters.emit.litert.state import CellPart, Lowering
from edgesdk_converters.graph.graph import Node
from edgesdk_converters.graph.ops import Attend

SHARES = 64.0
"""What float16 shares are multiplied by; values of more than 1,023 would not fit (docs/decisions/0014)."""


def lower_attend(state: Lowering, node: Node, x: list[int]) -> int:
    """Appends the operators of an `Attend` node and returns the tensor of its output (T, H, D)."""
    op, out = cast(Attend, node.op), node.outputs[0]
    q, mask = x[0], x[3]
    T, H, D = state.shape(state.graph.values[node.inputs[0]].shape)
    K = state.shape(state.graph.values[node.inputs[1]].shape)[0]
    G = H // K
    if op.scale != 1.0:  # of queries: there are fewer numbers in them than in scores
        q = state.binary(
            "MUL", q, state.subgraph.number(op.scale), f"{out}.q.scaled", state.subgraph.shape(q)
        )
    query = _queries(state, q, f"{out}.q", (T, K, G, D))
    options = state.schema.SoftmaxOptionsT()
    options.beta = 1.0
    if len(x) == 4:  # there are no cells
        scores = _product(state, query, x[1], f"{out}.scores", (K, G * T, T), transpose_b=True)
        scores = _mask(state, op, scores, mask, f"{out}.masked", (K, G, T, T))
        shares = state.emit("SOFTMAX", [scores], f"{out}.shares", (K, G * T, T), options)
        y = _product(state, shares, x[2], f"{out}.y", (K, G * T, D), transpose_b=False)
        return _rows_first(state, y, out, (T, K, G, D))
    S = state.shape(state.graph.values[node.inputs[4]].shape)[1]
    N = FEW if state.few else T
    sizes = _Sizes(T, S, K, G, D, N)
    keys = _part(state, node.inputs[1], node.inputs[4], sizes)
    values = _part(state, node.inputs[2], node.inputs[5], sizes)
    joins = T > FEW
    scores = (_joined_scores if joins else _split_scores)(state, out, query, keys, sizes)
    scores = _mask(state, op, scores, mask, f"{out}.masked", (K, G, T, S + N))
    shares = state.emit("SOFTMAX", [scores], f"{out}.shares", (K, G * T, S + N), options)
    y = (_joined_values if joins else _split_values)(state, out, shares, values, sizes)
    return _rows_first(state, y, out, (T, K, G, D))


class _Sizes(NamedTuple):
    """New tokens, cells, KV heads, queries that share one, head size, and columns for new tokens."""

    T: int
    S: int
    K: int
    G: int
    D: int
    N: int


def _part(state: Lowering, new_name: str, name: str, sizes: _Sizes) -> CellPart:
    """New keys or values and cells; of float16 cells the new ones are rounded, for the signature as well."""
    if name not in state.read_cells:  # by an earlier layer, whose cells this one shares
        state.read_cells[name] = _read_part(state, new_name, name, sizes)
    return state.read_cells[name]


def _read_part(state: Lowering, new_name: str, name: str, sizes: _Sizes) -> CellPart:
    T, S, K, _, D, _ = sizes
    new, cells = state.index[new_name], state.index[name]
    if name not in state.half_cells:
        return CellPart(_filled(state, new, new_name, sizes), cell_numbers(state, name, cells, (K, S, D)))
    new = state.index[new_name] = to_half(state, new, f"{new_name}.half", (K, T, D))
    if (T == 1 or state.few) and not state.wide:
        return CellPart(_filled(state, new, new_name, sizes), cells, half=True)
    new = to_float(state, new, f"{new_name}.rounded", (K, T, D))
    return CellPart(_filled(state, new, new_name, sizes), to_float(state, cells, f"{name}.float", (K, S, D)))


def _filled(state: Lowering, new: int, name: str, sizes: _Sizes) -> int:
    """New keys or values with zeros behind them, (K, N, D), where there are more columns than tokens."""
    T, _, K, _, D, N = sizes
    if T == 1 or not state.few:
        return new
    filled = state.concat([new, _zeros(state, new, (K, N, D))], 1, f"{name}.longer", (K, T + N, D))
    return state.slice(filled, f"{name}.filled", (K, N, D), 1, 0)


def _zeros(state: Lowering, like: int, shape: tuple[int, ...]) -> int:
    """Zeros of the same numbers as another tensor."""
    half = state.subgraph.is_half(like)
    kind, numbers = ("FLOAT16", np.float16) if half else ("FLOAT32", np.float32)
    key = f"zeros.{kind}.{','.join(map(str, shape))}"
    return state.subgraph.constant(key, shape, kind, lambda: np.zeros(shape, numbers))


def _joined(state: Lowering, out: str, part: CellPart, sizes: _Sizes) -> int:
    """New ones and cells under each other, (K, T+S, D)."""
    T, S, K, _, D, _ = sizes
    return state.concat([part.new, part.cells], 1, out, (K, S + T, D))


def _joined_scores(state: Lowering, out: str, query: int, keys: CellPart, sizes: _Sizes) -> int:
    T, S, K, G, _, _ = sizes
    joined = _joined(state, f"{out}.keys", keys, sizes)
    return _product(state, query, joined, f"{out}.scores", (K, G * T, S + T), transpose_b=True)


def _split_scores(state: Lowering, out: str, query: int, keys: CellPart, sizes: _Sizes) -> int:
    T, S, K, G, D, N = sizes
    if keys.half:  # packing costs little where a number is short, less than turning the scores
        query = to_half(state, query, f"{out}.q.half", (K, G * T, D))
        old = _product(state, query, keys.cells, f"{out}.old", (K, G * T, S), transpose_b=True)
    else:
        columns = _product(state, keys.cells, query, f"{out}.old.columns", (K, S, G * T), transpose_b=True)
        old = state.transpose(columns, f"{out}.old", (K, G * T, S), (0, 2, 1))
    M = 1 if T == 1 else N
    parts = [_product(state, query, keys.new, f"{out}.new", (K, G * T, M), transpose_b=True)]
    if N > M:
        parts.append(_zeros(state, parts[0], (K, G, N - M)))
    scores = state.concat([*parts, old], 2, f"{out}.scores", (K, G * T, S + N))
    return to_float(state, scores, f"{out}.scores.float", (K, G * T, S + N)) if keys.half else scores


def _joined_values(state: Lowering, out: str, shares: int, values: CellPart, sizes: _Sizes) -> int:
    T, _, K, G, D, _ = sizes
    joined = _joined(state, f"{out}.values", values, sizes)
    return _product(state, shares, joined, f"{out}.y", (K, G * T, D), transpose_b=False)


def _split_values(state: Lowering, out: str, shares: int, values: CellPart, sizes: _Sizes) -> int:
    T, S, K, G, D, N = sizes
    if values.half:  # the smallest float16 that Arm's kernels keep is 6e-5, and shares are often less
        larger = state.binary(
            "MUL", shares, state.subgraph.number(SHARES), f"{out}.shares.larger", (K, G * T, S + N)
        )
        shares = to_half(state, larger, f"{out}.shares.half", (K, G * T, S + N))
    old_shares = state.slice_last(shares, f"{out}.shares.old", (K, G * T, S), N)
    new_shares = state.slice_last(shares, f"{out}.shares.new", (K, G * T, 1 if T == 1 else N), 0)
    old_y = _product(state, old_shares, values.cells, f"{out}.y.old", (K, G * T, D), transpose_b=False)
    if T == 1:  # a product of one row is that row, scaled
        new_y = state.binary("MUL", new_shares, values.new, f"{out}.y.new", (K, G, D))
    else:
        new_y = _product(state, new_shares, values.new, f"{out}.y.new", (K, G * T, D), transpose_b=False)
    y = state.binary("ADD", old_y, new_y, f"{out}.y", (K, G * T, D))
    if not values.half:
        return y
    y = to_float(state, y, f"{out}.y.float", (K, G * T, D))
    return state.binary("MUL", y, state.subgraph.number(1 / SHARES), f"{out}.y.smaller", (K, G * T, D))


def _queries(state: Lowering, q: int, name: str, sizes: tuple[int, int, int, int]) -> int:
    """(T, H, D) -> (K, G*T, D): queries that share a KV head become rows of one product."""
    T, K, G, D = sizes
    if T == 1:
        return state.reshape(q, name, (K, G, D))
    turned = state.transpose(q, f"{name}.turned", (K * G, T, D), (1, 0, 2))
    return state.reshape(turned, name, (K, G * T, D))


def _rows_first(state: Lowering, y: int, name: str, sizes: tuple[int, int, int, int]) -> int:
    T, K, G, D = sizes
    if T == 1:
        return state.reshape(y, name, (1, K * G, D))
    split = state.reshape(y, f"{name}.split", (K * G, T, D))
    return state.transpose(split, name, (T, K * G, D), (1, 0, 2))


def _mask(
    state: Lowering, op: Attend, scores: int, mask: int, name: str, sizes: tuple[int, int, int, int]
) -> int:
    K, G, T, width = sizes
    flat = (K, G * T, width)
    if op.softcap is not None:
        scores = state.softcap(scores, op.softcap, f"{name}.capped", flat)
    if T > 1:
        mask = state.tiled(mask, G, (G * T, width))
    return state.binary("ADD", scores, mask, name, flat)


def _product(state: Lowering, a: int, b: int, name: str, shape: tuple[int, ...], *, transpose_b: bool) -> int:
    options = state.schema.BatchMatMulOptionsT()
    options.adjY = transpose_b
    return state.emit("BATCH_MATMUL", [a, b], name, shape, options)
