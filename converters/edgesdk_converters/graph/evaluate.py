"""The evaluator: runs a step graph with the array operations of a namespace (numpy or jax.numpy).

It is the float32 oracle that every emitter is compared with, and, under JAX, the differentiable
model. Weights are loaded when a node needs them and dropped after it, large matrices a few rows at a time
where they can be read so (`read_by_rows`), so a whole pass holds one weight at most. It has no mask policy:
see `edgesdk_converters.graph.full_sequence` for plain causal use.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.graph import ops
from edgesdk_converters.graph.graph import Graph
from edgesdk_converters.graph.read_by_rows import picked_rows, product, reads_by_rows
from edgesdk_converters.graph.rotary import rotary_rows
from edgesdk_converters.graph.weights import Weights

# jax arrays have numpy's interface; numpy's type stands for both.
Array: TypeAlias = NDArray[np.float32]
Namespace: TypeAlias = types.ModuleType


def evaluate(
    graph: Graph,
    weights: Weights,
    inputs: Mapping[str, NDArray[np.generic]],
    xp: Namespace = np,
    lowerings: Mapping[type[ops.Op], Lowering] | None = None,
) -> dict[str, Array]:
    """Runs a graph.

    Args:
        graph: a step graph; T, S and R are whatever the inputs have.
        weights: numbers for its weights.
        inputs: an array for every input of the graph.
        xp: `numpy` or `jax.numpy`.
        lowerings: how operations compute; None for `LOWERINGS`.

    Returns:
        The graph's outputs by name, float32.
    """
    lowerings = LOWERINGS if lowerings is None else lowerings
    constants = {value.name for value in graph.weights}
    last_use = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    values: dict[str, Array] = {name: xp.asarray(value) for name, value in inputs.items()}
    for i, node in enumerate(graph.nodes):
        lowering, later = lowerings[type(node.op)], node.inputs[1:2]
        by_rows = _BY_ROWS.get(lowering) if xp is np else None
        if by_rows is not None and later[0] in constants and reads_by_rows(weights, later[0]):
            rest = [weights.load(name) for name in node.inputs[2:]]
            results = by_rows(values[node.inputs[0]], weights, later[0], *rest)
        else:
            arguments = [xp.asarray(weights.load(n)) if n in constants else values[n] for n in node.inputs]
            results = lowering(node.op, xp, *arguments)
        values.update(zip(node.outputs, results, strict=True))
        for name in node.inputs:
            if last_use[name] == i and name in values and name not in graph.outputs:
                del values[name]
    return {name: values[name] for name in graph.outputs}


def _embed(op: ops.Embed, xp: Namespace, tokens: Array, table: Array) -> tuple[Array, ...]:
    return (table[tokens],)


def _embed_by_rows(tokens: Array, weights: Weights, name: str) -> tuple[Array, ...]:
    return (picked_rows(weights, name, np.asarray(tokens, np.int64)),)


def _take_rows(op: ops.TakeRows, xp: Namespace, x: Array, rows: Array) -> tuple[Array, ...]:
    return (x[rows],)


def _rms_norm(op: ops.RmsNorm, xp: Namespace, x: Array, *weight: Array) -> tuple[Array, ...]:
    y = x / xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True) + np.float32(op.eps))
    return (y * weight[0] if weight else y,)


def _linear(op: ops.Linear, xp: Namespace, x: Array, weight: Array, *bias: Array) -> tuple[Array, ...]:
    y = x @ weight.T
    return (y + bias[0] if bias else y,)


def _linear_by_rows(x: Array, weights: Weights, name: str, *bias: Array) -> tuple[Array, ...]:
    y = product(x, weights, name)
    if bias:
        y += bias[0]
    return (y,)


def _row_products(op: ops.RowProducts, xp: Namespace, x: Array, rows: Array) -> tuple[Array, ...]:
    return (x @ rows.T,)


def _low_rank(
    op: ops.LowRank, xp: Namespace, y: Array, h: Array, gates: Array, *written: Array
) -> tuple[Array, ...]:
    gated = h * gates[:, np.asarray(op.columns)]
    added, start, left = [], 0, iter(written)
    for part in op.parts:
        if part.rank:
            added.append(gated[:, start : start + part.rank] @ next(left).T)
        else:
            added.append(xp.zeros((y.shape[0], part.width), y.dtype))
        start += part.rank
    return (y + xp.concatenate(added, axis=1),)


def _split(op: ops.Split, xp: Namespace, x: Array) -> tuple[Array, ...]:
    return tuple(xp.split(x, np.cumsum(op.sizes)[:-1].tolist(), axis=-1))


def _split_heads(op: ops.SplitHeads, xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (x.reshape(x.shape[0], op.heads, x.shape[1] // op.heads),)


def _merge_heads(op: ops.MergeHeads, xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (x.reshape(x.shape[0], -1),)


def _heads_first(op: ops.HeadsFirst, xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (xp.swapaxes(x, 0, 1),)


def _rotate(op: ops.Rotate, xp: Namespace, x: Array, positions: Array) -> tuple[Array, ...]:
    return (turn(op, xp, x, *rotary_rows(op.rotary, np.asarray(positions))),)


def turn(op: ops.Rotate, xp: Namespace, x: Array, cos: Array, sin: Array) -> Array:
    """x (T, heads, D) turned by angles, given as cosines and sines (T, size / 2); the rest of D stays."""
    cos, sin = (xp.asarray(rows)[:, None, :] for rows in (cos, sin))
    half = op.rotary.size // 2
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    turned: Array = xp.concatenate([a * cos - b * sin, b * cos + a * sin, rest], axis=-1)
    return turned


def _attend(
    op: ops.Attend, xp: Namespace, q: Array, k_new: Array, v_new: Array, mask: Array, *cells: Array
) -> tuple[Array, ...]:
    T, H, D = q.shape
    K = k_new.shape[0]
    k, v = k_new, v_new
    if cells:
        k, v = xp.concatenate([cells[0], k], axis=1), xp.concatenate([cells[1], v], axis=1)
    grouped = xp.transpose(q.reshape(T, K, H // K, D), (1, 2, 0, 3))  # (K, G, T, D)
    keys = xp.swapaxes(k, 1, 2)[:, None]  # (K, 1, D, S+T)
    scores = (grouped @ keys) * np.float32(op.scale)
    if op.softcap is not None:
        scores = xp.tanh(scores / np.float32(op.softcap)) * np.float32(op.softcap)
    scores = scores + mask[None, None]
    scores = xp.exp(scores - xp.max(scores, axis=-1, keepdims=True))
    weights = scores / xp.sum(scores, axis=-1, keepdims=True)
    out = weights @ v[:, None]  # (K, G, T, D)
    return (xp.transpose(out, (2, 0, 1, 3)).reshape(T, H, D),)


def _convolve(op: ops.Convolve, xp: Namespace, x: Array, before: Array, *given: Array) -> tuple[Array, ...]:
    picks, taps = given[: op.kernel - 1], given[op.kernel - 1 :]
    y = x * taps[0]
    for j, pick in enumerate(picks, start=1):
        start, end = op.columns(j, x.shape[1])
        y = y + (before[:, start:end] + pick @ x) * taps[j]
    return (y,)


def _activate(op: ops.Activate, xp: Namespace, x: Array) -> tuple[Array, ...]:
    if op.kind == "silu":
        # The clip keeps exp from overflowing; sigmoid(-80) is already 0 in float32 products.
        return (x / (np.float32(1) + xp.exp(-xp.clip(x, -80, 80))),)
    inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x)
    return (np.float32(0.5) * x * (np.float32(1) + xp.tanh(inner)),)


def _add(op: ops.Add, xp: Namespace, a: Array, b: Array) -> tuple[Array, ...]:
    return (a + b,)


def _multiply(op: ops.Multiply, xp: Namespace, a: Array, b: Array) -> tuple[Array, ...]:
    return (a * b,)


def _scale(op: ops.Scale, xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (x * np.float32(op.factor),)


def _scale_columns(op: ops.ScaleColumns, xp: Namespace, x: Array, weight: Array) -> tuple[Array, ...]:
    return (x * weight,)


def _block_sums(op: ops.BlockSums, xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (x.reshape(x.shape[0], -1, op.block).sum(axis=-1),)


def _softcap(op: ops.Softcap, xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (xp.tanh(x / np.float32(op.cap)) * np.float32(op.cap),)


Lowering: TypeAlias = Callable[..., tuple[Array, ...]]

LOWERINGS: Mapping[type[ops.Op], Lowering] = cast(
    "Mapping[type[ops.Op], Lowering]",
    {
        ops.Embed: _embed,
        ops.TakeRows: _take_rows,
        ops.RmsNorm: _rms_norm,
        ops.Linear: _linear,
        ops.RowProducts: _row_products,
        ops.LowRank: _low_rank,
        ops.Split: _split,
        ops.SplitHeads: _split_heads,
        ops.MergeHeads: _merge_heads,
        ops.HeadsFirst: _heads_first,
        ops.Rotate: _rotate,
        ops.Attend: _attend,
        ops.Convolve: _convolve,
        ops.Activate: _activate,
        ops.Add: _add,
        ops.Multiply: _multiply,
        ops.Scale: _scale,
        ops.ScaleColumns: _scale_columns,
        ops.BlockSums: _block_sums,
        ops.Softcap: _softcap,
    },
)

_BY_ROWS: Mapping[Lowering, Callable[..., tuple[Array, ...]]] = {
    _embed: _embed_by_rows,
    _linear: _linear_by_rows,
}
"""How an operation computes with numpy where its matrix, the second input, is read a few rows at a time."""
