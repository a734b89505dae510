"""Attention in MIL operations, over cells that the caller owns or over cells that are Core ML states.

Caller's cells: two forms with equal results, as in the LiteRT emitter (docs/decisions/0004). With few
new tokens, scores over cells and over new tokens are two products whose results are joined, so the
cells are never copied; with many, keys and values are joined instead.

States: new keys and values are written into the cells first, from `start` on, and attention runs over
the cells alone.
"""

from __future__ import annotations

from typing import cast

from edgesdk_converters.emit.coreml.mil_package import MilValue, core_ml_name
from edgesdk_converters.emit.coreml.state import Lowering
from edgesdk_converters.graph.graph import Node
from edgesdk_converters.graph.ops import Attend

JOIN_CELLS_FROM_TOKENS = 32
"""Steps of at least this many tokens join keys and values."""


def lower_attend(state: Lowering, node: Node) -> MilValue:
    """Appends the operations of an `Attend` node and returns its output (T, H, D)."""
    op, mb = cast(Attend, node.op), state.mb
    q, k_new, v_new, mask = (state.value(name) for name in node.inputs[:4])
    T, H, D = state.sizes(state.graph.values[node.inputs[0]].shape)
    K = state.sizes(state.graph.values[node.inputs[4]].shape)[0]
    sizes = (T, K, H // K, D)
    query = _queries(state, q, sizes)
    if state.stateful:
        keys, values = (_updated(state, node.inputs[i], new) for i, new in ((4, k_new), (5, v_new)))
        shares = _shares(state, op, mb.matmul(x=query, y=keys, transpose_y=True), mask, sizes)
        return _rows_first(state, mb.matmul(x=shares, y=values), node.outputs[0], sizes)
    k_cache, v_cache = (state.value(name) for name in node.inputs[4:])
    if T >= JOIN_CELLS_FROM_TOKENS:
        keys = mb.concat(values=[k_cache, k_new], axis=1)
        values = mb.concat(values=[v_cache, v_new], axis=1)
        shares = _shares(state, op, mb.matmul(x=query, y=keys, transpose_y=True), mask, sizes)
        y = mb.matmul(x=shares, y=values)
    else:
        old = mb.matmul(x=query, y=k_cache, transpose_y=True)
        new = mb.matmul(x=query, y=k_new, transpose_y=True)
        shares = _shares(state, op, mb.concat(values=[old, new], axis=-1), mask, sizes)
        old, new = mb.split(x=shares, split_sizes=[state.step.cells, T], axis=-1)
        y = mb.add(x=mb.matmul(x=old, y=v_cache), y=mb.matmul(x=new, y=v_new))
    return _rows_first(state, y, node.outputs[0], sizes)


def _updated(state: Lowering, name: str, new: MilValue) -> MilValue:
    """The cells (K, S, D) of a state after `new` (K, T, D) was written from `start` on."""
    mb, cells = state.mb, state.value(name)
    K, _, D = state.sizes(state.graph.values[name].shape)
    start = state.value("start")
    begin = mb.concat(values=[[0], start, [0]], axis=0)
    stop = mb.concat(values=[[K], mb.add(x=start, y=[state.step.tokens]), [D]], axis=0)
    written = mb.slice_update(x=mb.read_state(input=cells), update=new, begin=begin, end=stop)
    return mb.coreml_update_state(state=cells, value=written)


def _queries(state: Lowering, q: MilValue, sizes: tuple[int, int, int, int]) -> MilValue:
    """(T, H, D) -> (K, G*T, D): queries that share a KV head become rows of one product."""
    T, K, G, D = sizes
    if T == 1:
        return state.mb.reshape(x=q, shape=(K, G, D))
    turned = state.mb.transpose(x=state.mb.reshape(x=q, shape=(T, K, G, D)), perm=(1, 2, 0, 3))
    return state.mb.reshape(x=turned, shape=(K, G * T, D))


def _rows_first(state: Lowering, y: MilValue, name: str, sizes: tuple[int, int, int, int]) -> MilValue:
    T, K, G, D = sizes
    if T > 1:
        y = state.mb.transpose(x=state.mb.reshape(x=y, shape=(K, G, T, D)), perm=(2, 0, 1, 3))
    return state.mb.reshape(x=y, shape=(T, K * G, D), name=core_ml_name(name))


def _shares(
    state: Lowering, op: Attend, scores: MilValue, mask: MilValue, sizes: tuple[int, int, int, int]
) -> MilValue:
    """Scales, caps and masks (K, G*T, width) scores and gives their softmax in the same shape."""
    mb, (T, K, G, _) = state.mb, sizes
    width = mask.shape[-1]
    if op.scale != 1.0:
        scores = mb.mul(x=scores, y=state.number(op.scale))
    if op.softcap is not None:
        scores = state.softcap(scores, op.softcap)
    if T > 1:
        scores = mb.reshape(x=scores, shape=(K, G, T, width))
    shares = mb.softmax(x=mb.add(x=scores, y=mask), axis=-1)
    return mb.reshape(x=shares, shape=(K, G * T, width)) if T > 1 else shares
