"""Cuts products into heads, rotates them, and puts heads first, with as few operators as it takes.

A product whose parts are all read as heads becomes heads once, and whole heads are cut from it. With one
token, heads stand first from there on: (1, heads, D) and (heads, 1, D) are the same numbers, and cells want
the second. `stated_order` gives the first back to operations that are not of this file.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from edgesdk_converters.emit.litert.state import Lowering
from edgesdk_converters.graph.graph import Graph, Node
from edgesdk_converters.graph.ops import Attend, HeadsFirst, MergeHeads, RmsNorm, Rotate, Split, SplitHeads

_EITHER_ORDER = (SplitHeads, HeadsFirst, MergeHeads, RmsNorm, Rotate, Attend)
"""Operations whose lowering takes heads in either order where there is one token."""


def stated_order(state: Lowering, node: Node, name: str) -> int:
    """The tensor of one of a node's inputs, -1 for what is no tensor; heads in the order of the graph."""
    index = state.index.get(name, -1)
    if index < 0 or state.step.tokens > 1 or isinstance(node.op, _EITHER_ORDER):
        return index
    shape = state.graph.values[name].shape
    if len(shape) != 3 or shape[0] != "T":
        return index
    return state.reshape(index, f"{name}.stated", state.shape(shape))


def lower_split(state: Lowering, node: Node, x: int, shapes: list[tuple[int, ...]]) -> list[int]:
    """Cuts the last axis: between heads, where all parts are read as heads."""
    sizes = cast(Split, node.op).sizes
    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    D = _head_size(state.graph, node)
    if D is None:
        return [
            state.slice(x, name, shape, len(shape) - 1, start)
            for name, shape, start in zip(node.outputs, shapes, starts, strict=True)
        ]
    T, axis = shapes[0][0], 0 if state.step.tokens == 1 else 1
    heads = state.reshape(x, f"{node.inputs[0]}.heads", _in_order(axis, T, sum(sizes) // D, D))
    cuts = [
        state.slice(heads, f"{name}.heads", _in_order(axis, T, size // D, D), axis, start // D)
        for name, size, start in zip(node.outputs, sizes, starts, strict=True)
    ]
    return [state.reshape(*cut) for cut in zip(cuts, node.outputs, shapes, strict=True)]


def lower_split_heads(state: Lowering, node: Node, x: int, shape: tuple[int, ...]) -> int:
    """(T, heads * D) -> (T, heads, D), or (heads, 1, D) where there is one token."""
    axis = 0 if state.step.tokens == 1 else 1
    return state.reshape(x, node.outputs[0], _in_order(axis, *shape))


def lower_heads_first(state: Lowering, node: Node, x: int, shape: tuple[int, ...]) -> int:
    """(T, K, D) -> (K, T, D)."""
    if state.step.tokens == 1:
        return state.reshape(x, node.outputs[0], shape)
    return state.transpose(x, node.outputs[0], shape, (1, 0, 2))


def lower_rotate(state: Lowering, node: Node, x: int) -> int:
    """Rotary embedding of heads, in the order in which they come."""
    rotary, out = cast(Rotate, node.op).rotary, node.outputs[0]
    shape = state.subgraph.shape(x)
    (*outer, D), size, half = shape, rotary.size, rotary.size // 2
    cos, sin = state.rotary(rotary)
    part = (*outer, size)
    y = x if size == D else state.slice_last(x, f"{out}.turning", part, 0)
    first = state.slice_last(y, f"{out}.first", (*outer, half), 0)
    second = state.slice_last(y, f"{out}.second", (*outer, half), half)
    swapped = state.concat([second, first], 2, f"{out}.swapped", part)
    straight = state.binary("MUL", y, cos, f"{out}.cos", part)
    crossed = state.binary("MUL", swapped, sin, f"{out}.sin", part)
    turned = state.binary("ADD", straight, crossed, f"{out}.turned", part)
    if size == D:
        return turned
    rest = state.slice_last(x, f"{out}.rest", (*outer, D - size), size)
    return state.concat([turned, rest], 2, out, shape)


def _in_order(axis: int, tokens: int, heads: int, size: int) -> tuple[int, ...]:
    """Shape of heads that stand in this axis."""
    return (heads, tokens, size) if axis == 0 else (tokens, heads, size)


def _head_size(graph: Graph, split: Node) -> int | None:
    """Size of the heads that every part is read as, and as nothing else; None if there is no such size."""
    found: set[int | None] = set()
    for name, size in zip(split.outputs, cast(Split, split.op).sizes, strict=True):
        for user in graph.users(name):
            found.add(size // user.op.heads if isinstance(user.op, SplitHeads) else None)
    return found.pop() if len(found) == 1 else None
