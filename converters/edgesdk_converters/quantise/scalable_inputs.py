"""Finds the inputs of linear layers whose channels may be scaled, and what can take the inverse.

It reads a graph, fused or not, and changes nothing; `edgesdk_converters.transforms.scale_channels` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.graph.graph import Graph, Node
from edgesdk_converters.graph.ops import (
    Attend,
    HeadsFirst,
    Linear,
    LowRank,
    MergeHeads,
    Multiply,
    RmsNorm,
    Split,
    SplitHeads,
)
from edgesdk_converters.graph.program import Program


@dataclass(frozen=True)
class Scalable:
    """One input that linear layers share.

    Attributes:
        value: its name.
        channels: its width.
        readers: weights (O, channels) of the linear layers that read it.
        makers: weights whose rows (or vector) make it, each with the row at which its channels begin.
        kv_heads: more than 0 where the makers have one channel for several: values of attention.
        heads: query heads, where `kv_heads` is more than 0.
    """

    value: str
    channels: int
    readers: tuple[str, ...]
    makers: tuple[tuple[str, int], ...]
    kv_heads: int = 0
    heads: int = 0

    def reduce(self, factor: NDArray[np.float32]) -> NDArray[np.float32]:
        """Factors (channels,) as the makers' rows have them: one for each KV channel."""
        if not self.kv_heads:
            return factor
        first: NDArray[np.float32] = factor.reshape(self.kv_heads, self.heads // self.kv_heads, -1)[:, 0]
        return first.reshape(-1)

    def share(self, wish: NDArray[np.float32]) -> NDArray[np.float32]:
        """The nearest factors that query heads with the same KV head share (largest of each)."""
        if not self.kv_heads:
            return wish
        grouped = wish.reshape(self.kv_heads, self.heads // self.kv_heads, -1)
        return np.broadcast_to(grouped.max(axis=1, keepdims=True), grouped.shape).reshape(-1).copy()


def scalable_inputs(program: Program) -> tuple[Scalable, ...]:
    """All inputs of linear layers that can be scaled, in graph order."""
    graph = program.graph
    found: list[Scalable] = []
    for node in graph.nodes:
        if not isinstance(node.op, Linear):
            continue
        value = node.inputs[0]
        # A weight that others read too (a tied head) cannot be scaled for one of them.
        alone = all(
            isinstance(u.op, Linear) and u.inputs[0] == value and len(graph.users(u.inputs[1])) == 1
            for u in graph.users(value)
        )
        if not alone or any(place.value == value for place in found):
            continue
        makers, kv_heads, heads = _makers(program, value)
        if makers:
            readers = tuple(user.inputs[1] for user in graph.users(value))
            channels = program.weights.shape(node.inputs[1])[1]
            found.append(Scalable(value, channels, readers, makers, kv_heads, heads))
    return tuple(found)


def _makers(program: Program, value: str) -> tuple[tuple[tuple[str, int], ...], int, int]:
    """What makes a value; where attention does, its KV heads and its query heads, else 0 and 0."""
    graph = program.graph
    node = graph.producer(value)
    if node is None or value in graph.outputs:
        return (), 0, 0
    if isinstance(node.op, RmsNorm) and len(node.inputs) == 2:
        return _alone(graph, node.inputs[1:], 0), 0, 0
    if isinstance(node.op, Multiply):
        return _linear_rows(graph, node.inputs[1], cells=False), 0, 0
    if isinstance(node.op, MergeHeads):
        attend = graph.producer(node.inputs[0])
        if attend is not None and isinstance(attend.op, Attend) and _read_once(graph, attend.outputs[0]):
            (_, heads, _), (kv_heads, *_) = (graph.values[name].shape for name in attend.inputs[:2])
            return _linear_rows(graph, attend.inputs[2], cells=True), int(kv_heads), int(heads)
    return (), 0, 0


def _linear_rows(graph: Graph, value: str, *, cells: bool) -> tuple[tuple[str, int], ...]:
    """Weights and bias that make a value, through terms of low rank, splits and changes of layout.

    None where something besides reads what is scaled on the way; cells may be scaled with their values.
    """
    start, written = 0, []
    if not _read_once(graph, value) and not (cells and len(graph.users(value)) == 1):
        return ()
    node: Node | None = graph.producer(value)
    while node is not None and isinstance(node.op, HeadsFirst | SplitHeads | Split | LowRank):
        if isinstance(node.op, Split):
            start = sum(node.op.sizes[: node.outputs.index(value)])
        if isinstance(node.op, LowRank):
            written += _written_from(node, start)
        value = node.inputs[0]
        if not _read_once(graph, value):
            return ()
        node = graph.producer(value)
    if node is None or not isinstance(node.op, Linear):
        return ()
    made = (*((name, start) for name in node.inputs[1:]), *written)
    return made if all(_read_once(graph, name) for name, _ in made) else ()


def _written_from(node: Node, start: int) -> list[tuple[str, int]]:
    """B of the part whose columns begin at one, with the row at which they begin: none if it adds nothing."""
    op, names = cast(LowRank, node.op), iter(node.inputs[3:])
    before = 0
    for part in op.parts:
        name = next(names) if part.rank else None
        if before <= start < before + part.width:
            return [] if name is None else [(name, start - before)]
        before += part.width
    return []


def _read_once(graph: Graph, value: str) -> bool:
    return len(graph.users(value)) == 1 and value not in graph.outputs


def _alone(graph: Graph, names: tuple[str, ...], start: int) -> tuple[tuple[str, int], ...]:
    """Weights with the row at which the channels begin; none where one of them has another reader."""
    return tuple((name, start) for name in names) if all(_read_once(graph, name) for name in names) else ()
