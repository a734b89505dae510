"""Attention in LiteRT operators: cells and new tokens apart, one softmax over both.

Two forms with equal results. With few new tokens, scores over cells and over new tokens are two
products whose results are joined: the cells, which are large, are never copied. With many, scores
are larger than cells, so keys and values are joined instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from converters.emit.litert.int8_cells import scale_columns, scaled_cells
from converters.graph.graph import Node
from converters.graph.ops import Attend

if TYPE_CHECKING:
    from converters.emit.litert.lowering import Lowering

JOIN_CELLS_FROM_TOKENS = 32
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
        keys = state.concat([k_cache, k_new], 1, f"{out}.keys", (K, S + T, D))
        scores = _product(state, query, keys, f"{out}.scores", (K, G * T, S + T), transpose_b=True)
    else:
        old = _product(state, query, k_cache, f"{out}.old", (K, G * T, S), transpose_b=True)
        old = scale_columns(state, keys_name, old, f"{out}.old.scaled", (K, G * T, S))
        new = _product(state, query, k_new, f"{out}.new", (K, G * T, T), transpose_b=True)
        scores = state.concat([old, new], 2, f"{out}.scores", (K, G * T, S + T))
    scores = _mask(state, op, scores, mask, f"{out}.masked", (K, G, T, S + T))
    options = state.schema.SoftmaxOptionsT()
    options.beta = 1.0
    shares = state.emit("SOFTMAX", [scores], f"{out}.shares", (K, G * T, S + T), options)
    if T >= JOIN_CELLS_FROM_TOKENS:
        v_cache = scaled_cells(state, values_name, v_cache, f"{out}.values.old", (K, S, D))
        values = state.concat([v_cache, v_new], 1, f"{out}.values", (K, S + T, D))
        y = _product(state, shares, values, f"{out}.y", (K, G * T, D), transpose_b=False)
    else:
        old_shares = state.slice_last(shares, f"{out}.shares.old", (K, G * T, S), 0)
        old_shares = scale_columns(state, values_name, old_shares, f"{out}.shares.old.scaled", (K, G * T, S))
        new_shares = state.slice_last(shares, f"{out}.shares.new", (K, G * T, T), S)
        old_y = _product(state, old_shares, v_cache, f"{out}.y.old", (K, G * T, D), transpose_b=False)
        new_y = _product(state, new_shares, v_new, f"{out}.y.new", (K, G * T, D), transpose_b=False)
        y = state.binary("ADD", old_y, new_y, f"{out}.y", (K, G * T, D))
    return _rows_first(state, y, out, (T, K, G, D))


def _queries(state: Lowering, q: int, name: str, sizes: tuple[int, int, int, int]) -> int:
    """(T, H, D) -> (K, G*T, D): queries that share a KV head become rows of one product."""
    T, K, G, D = sizes
    if T == 1:
        return state.reshape(q, name, (K, G, D))
    split = state.reshape(q, f"{name}.split", (T, K, G, D))
    turned = state.transpose(split, f"{name}.turned", (K, G, T, D), (1, 2, 0, 3))
    return state.reshape(turned, name, (K, G * T, D))


def _rows_first(state: Lowering, y: int, name: str, sizes: tuple[int, int, int, int]) -> int:
    T, K, G, D = sizes
    if T == 1:
        return state.reshape(y, name, (1, K * G, D))
    split = state.reshape(y, f"{name}.split", (K, G, T, D))
    turned = state.transpose(split, f"{name}.turned", (T, K, G, D), (2, 0, 1, 3))
    return state.reshape(turned, name, (T, K * G, D))


def _mask(
    state: Lowering, op: Attend, scores: int, mask: int, name: str, sizes: tuple[int, int, int, int]
) -> int:
    from converters.emit.litert.lowering import softcap

    K, G, T, width = sizes
    flat = (K, G * T, width)
    if op.softcap is not None:
        scores = softcap(state, scores, op.softcap, f"{name}.capped", flat)
    if T == 1:
        return state.binary("ADD", scores, mask, name, flat)
    split = state.reshape(scores, f"{name}.split", sizes)
    masked = state.binary("ADD", split, mask, f"{name}.sum", sizes)
    return state.reshape(masked, name, flat)


def _product(state: Lowering, a: int, b: int, name: str, shape: tuple[int, ...], *, transpose_b: bool) -> int:
    options = state.schema.BatchMatMulOptionsT()
    options.adjY = transpose_b
    return state.emit("BATCH_MATMUL", [a, b], name, shape, options)
