"""Attention in LiteRT operators: new tokens and cells apart, one softmax over both, new tokens first.

Two forms with equal results. With few new tokens, scores over cells and over new tokens are two products
whose results are joined. XNNPACK packs the right operand of a product anew on every step, so the cells'
keys stand on the left, and their scores, which are small, are transposed; values cannot, because cells lie
in rows. With many tokens, scores are larger than cells, so keys and values are joined instead. New tokens
stand first because S may vary: what is cut from the front needs no number that depends on it. Queries that
share a KV head are rows of one product, head by head, so the mask is tiled once for all layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from converters.emit.litert.int8_cells import scale_columns, scaled_cells
from converters.graph.graph import Node
from converters.graph.ops import Attend

if TYPE_CHECKING:
    from converters.emit.litert.lowering import Lowering

JOIN_CELLS_FROM_TOKENS = 16
"""Steps of at least this many tokens join keys and values (docs/decisions/0004)."""


def lower_attend(state: Lowering, node: Node, x: list[int]) -> int:
    """Appends the operators of an `Attend` node and returns the tensor of its output (T, H, D)."""
    op, out = cast(Attend, node.op), node.outputs[0]
    q, k_new, v_new, mask, k_cache, v_cache = x
    keys_name, values_name = node.inputs[4:6]
    T, H, D = state.shape(state.graph.values[node.inputs[0]].shape)
    K, S, _ = state.shape(state.graph.values[node.inputs[4]].shape)
    G = H // K
    if op.scale != 1.0:  # of queries: there are fewer numbers in them than in scores
        q = state.binary("MUL", q, state.subgraph.number(op.scale), f"{out}.q.scaled", (T, H, D))
    query = _queries(state, q, f"{out}.q", (T, K, G, D))
    if T >= JOIN_CELLS_FROM_TOKENS:
        k_cache = scaled_cells(state, keys_name, k_cache, f"{out}.keys.old", (K, S, D))
        keys = state.concat([k_new, k_cache], 1, f"{out}.keys", (K, S + T, D))
        scores = _product(state, query, keys, f"{out}.scores", (K, G * T, S + T), transpose_b=True)
    else:
        columns = _product(state, k_cache, query, f"{out}.old.columns", (K, S, G * T), transpose_b=True)
        old = state.transpose(columns, f"{out}.old", (K, G * T, S), (0, 2, 1))
        old = scale_columns(state, keys_name, old, f"{out}.old.scaled", (K, G * T, S))
        new = _product(state, query, k_new, f"{out}.new", (K, G * T, T), transpose_b=True)
        scores = state.concat([new, old], 2, f"{out}.scores", (K, G * T, S + T))
    scores = _mask(state, op, scores, mask, f"{out}.masked", (K, G, T, S + T))
    options = state.schema.SoftmaxOptionsT()
    options.beta = 1.0
    shares = state.emit("SOFTMAX", [scores], f"{out}.shares", (K, G * T, S + T), options)
    if T >= JOIN_CELLS_FROM_TOKENS:
        v_cache = scaled_cells(state, values_name, v_cache, f"{out}.values.old", (K, S, D))
        values = state.concat([v_new, v_cache], 1, f"{out}.values", (K, S + T, D))
        y = _product(state, shares, values, f"{out}.y", (K, G * T, D), transpose_b=False)
    else:
        old_shares = state.slice_last(shares, f"{out}.shares.old", (K, G * T, S), T)
        old_shares = scale_columns(state, values_name, old_shares, f"{out}.shares.old.scaled", (K, G * T, S))
        new_shares = state.slice_last(shares, f"{out}.shares.new", (K, G * T, T), 0)
        old_y = _product(state, old_shares, v_cache, f"{out}.y.old", (K, G * T, D), transpose_b=False)
        if T == 1:  # a product of one row is that row, scaled
            new_y = state.binary("MUL", new_shares, v_new, f"{out}.y.new", (K, G, D))
        else:
            new_y = _product(state, new_shares, v_new, f"{out}.y.new", (K, G * T, D), transpose_b=False)
        y = state.binary("ADD", old_y, new_y, f"{out}.y", (K, G * T, D))
    return _rows_first(state, y, out, (T, K, G, D))


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
    from converters.emit.litert.lowering import softcap

    K, G, T, width = sizes
    flat = (K, G * T, width)
    if op.softcap is not None:
        scores = softcap(state, scores, op.softcap, f"{name}.capped", flat)
    if T > 1:
        mask = state.tiled(mask, G, (G * T, width))
    return state.binary("ADD", scores, mask, name, flat)


def _product(state: Lowering, a: int, b: int, name: str, shape: tuple[int, ...], *, transpose_b: bool) -> int:
    options = state.schema.BatchMatMulOptionsT()
    options.adjY = transpose_b
    return state.emit("BATCH_MATMUL", [a, b], name, shape, options)
