"""Attention of the step in ONNX operators: cells and new tokens apart, one softmax over both.

The cells are never copied or transposed: ONNX's MatMul cannot transpose, so scores are made as
keys x queries^T, and the scores, which are smaller, are turned.
"""

from __future__ import annotations

from typing import cast

from edgesdk_converters.emit.onnx.step_state import StepLowering
from edgesdk_converters.graph.graph import Node
from edgesdk_converters.graph.ops import Attend


def lower_attend(state: StepLowering, node: Node) -> None:
    """Appends the operators of an `Attend` node, (T, H, D) in and out."""
    op, out = cast(Attend, node.op), node.outputs[0]
    q, k_new, v_new, mask, k_cache, v_cache = node.inputs
    T, H, D = state.sizes(state.graph.values[q].shape)
    K, S, _ = state.sizes(state.graph.values[k_cache].shape)
    G = H // K
    split = state.reshape(q, f"{out}.q.split", (T, K, G, D))
    turned = state.transpose(split, f"{out}.q.turned", (1, 3, 2, 0))
    query = state.reshape(turned, f"{out}.q", (K, D, G * T))
    parts = []
    for name, keys in (("old", k_cache), ("new", k_new)):
        product = state.model.node("MatMul", [keys, query], [f"{out}.{name}.turned"])
        parts.append(state.transpose(product, f"{out}.{name}", (0, 2, 1)))
    scores = state.concat(parts, f"{out}.scores")
    shares = _shares(state, op, scores, mask, (K, G, T, S + T), out)
    old = state.slice(shares, f"{out}.shares.old", 0, S)
    new = state.slice(shares, f"{out}.shares.new", S, S + T)
    old = state.model.node("MatMul", [old, v_cache], [f"{out}.y.old"])
    new = state.model.node("MatMul", [new, v_new], [f"{out}.y.new"])
    both = state.binary("Add", old, new, f"{out}.y")
    split = state.reshape(both, f"{out}.y.split", (K, G, T, D))
    rows = state.transpose(split, f"{out}.y.rows", (2, 0, 1, 3))
    state.reshape(rows, out, (T, H, D))


def _shares(
    state: StepLowering, op: Attend, scores: str, mask: str, sizes: tuple[int, int, int, int], out: str
) -> str:
    """Scales, caps and masks (K, G*T, S+T) scores and gives their softmax in the same shape."""
    K, G, T, width = sizes
    if op.scale != 1.0:
        scores = state.binary("Mul", scores, state.number(op.scale), f"{out}.scaled")
    if op.softcap is not None:
        scores = state.softcap(scores, op.softcap, f"{out}.capped")
    split = state.reshape(scores, f"{out}.split", sizes)
    masked = state.binary("Add", split, mask, f"{out}.masked")
    shares = state.model.node("Softmax", [masked], [f"{out}.shares.split"], {"axis": -1})
    return state.reshape(shares, f"{out}.shares", (K, G * T, width))
