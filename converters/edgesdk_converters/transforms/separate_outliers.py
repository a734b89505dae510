"""Computes a few large channels of a linear layer's input apart from the others.

A kernel that quantises activations with one scale per row gives small channels no steps where one is
large. `x W' = (x * mask) W' + (x P') S'`: the mask zeroes the large channels, P picks them, and S has
their columns of W (the mixed-precision decomposition of LLM.int8(), arXiv 2208.07339, section 3.2,
with channels chosen beforehand). Where W's minimums were split off, P also makes the block sums, so
that both cost one small product. Exact, whatever the channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgesdk.bundle.manifest import TransformRecord
from edgesdk.errors import TransformError
from edgesdk_converters.graph.graph import Node, Value, rebuild
from edgesdk_converters.graph.ops import Add, BlockSums, Linear, ScaleColumns
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import Array, Derived, DerivedWeights, Weights


@dataclass(frozen=True)
class _Pick:
    """What is taken from an input: channels, and sums over blocks (0 for none)."""

    width: int
    channels: tuple[int, ...]
    block: int

    @property
    def rows(self) -> int:
        return len(self.channels) + (self.width // self.block if self.block else 0)

    def matrix(self) -> Array:
        """P: (rows, width)."""
        picked = np.zeros((len(self.channels), self.width), np.float32)
        picked[np.arange(len(self.channels)), self.channels] = 1
        if not self.block:
            return picked
        sums = np.repeat(np.eye(self.width // self.block, dtype=np.float32), self.block, axis=1)
        return np.concatenate([picked, sums])

    def mask(self) -> Array:
        """(width,): 0 for the channels, 1 for the others."""
        mask = np.ones(self.width, np.float32)
        mask[list(self.channels)] = 0
        return mask


def separate_outliers(program: Program, channels: Mapping[str, Sequence[int]]) -> Program:
    """Returns the program with some channels of some layers' inputs separated; logits stay the same.

    Args:
        program: any; minimums that are to share the small product are split off already.
        channels: by the weight of the linear layer, indices of its input channels.

    Raises:
        TransformError: no linear layer has such a weight, or it has no such channels.
    """
    state = _State(program, channels)
    nodes: list[Node] = []
    for node in program.graph.nodes:
        nodes.extend(state.replace(node))
    return Program(
        spec=program.spec,
        graph=rebuild(program.graph, nodes, [*program.graph.weights, *state.added]),
        weights=DerivedWeights(program.weights, state.changed, frozenset(state.removed)),
        history=(*program.history, TransformRecord("separate_outliers", {"layers": len(channels)})),
    )


class _State:
    def __init__(self, program: Program, channels: Mapping[str, Sequence[int]]) -> None:
        self._weights, self._graph = program.weights, program.graph
        self.changed: dict[str, Derived] = {}
        self.added: list[Value] = []
        self._made: set[tuple[str, str]] = set()
        self._names: dict[_Pick, str] = {}
        self._layers = {n.inputs[1]: n for n in program.graph.nodes if isinstance(n.op, Linear)}
        self._picks = {weight: self._pick(weight, picked) for weight, picked in channels.items() if picked}
        self.removed = {f"{weight}.minimums" for weight, pick in self._picks.items() if pick.block}

    def _pick(self, weight: str, picked: Sequence[int]) -> _Pick:
        node = self._layers.get(weight)
        width = self._weights.shape(weight)[1] if node else 0
        if not all(0 <= channel < width for channel in picked) or len(set(picked)) != len(picked):
            raise TransformError(f"no linear layer with the weight {weight!r} has the channels {picked}")
        sums = self._layers.get(f"{weight}.minimums")
        made = None if sums is None else self._graph.producer(sums.inputs[0])
        block = made.op.block if made is not None and isinstance(made.op, BlockSums) else 0
        return _Pick(width, tuple(int(c) for c in sorted(picked)), block)

    def replace(self, node: Node) -> list[Node]:
        """What stands in place of a node."""
        if not isinstance(node.op, Linear):
            return [node]
        if node.inputs[1] in self.removed:  # its product is part of the layer's small one
            return []
        weight = node.inputs[1]
        pick = self._picks.get(weight)
        if pick is None:
            return [node]
        x, out = node.inputs[0], node.outputs[0]
        prefix = self._constants(pick)
        side = self._side(weight, pick)
        nodes = []
        for made, op, constant in (
            ("masked", ScaleColumns(), f"{prefix}.mask"),
            ("picked", Linear(), f"{prefix}.pick"),
        ):
            if (x, f"{prefix}.{made}") not in self._made:
                self._made.add((x, f"{prefix}.{made}"))
                nodes.append(Node(op, (x, constant), (f"{x}.{prefix}.{made}",)))
        masked, picked = f"{x}.{prefix}.masked", f"{x}.{prefix}.picked"
        if pick.block:  # the sum that follows takes this product in place of the minimums'
            nodes.append(Node(Linear(), (masked, *node.inputs[1:]), (out,)))
            return [*nodes, Node(Linear(), (picked, side), (self._partner(node),))]
        nodes.append(Node(Linear(), (masked, *node.inputs[1:]), (f"{out}.masked",)))
        nodes.append(Node(Linear(), (picked, side), (f"{out}.side",)))
        return [*nodes, Node(Add(), (f"{out}.masked", f"{out}.side"), (out,))]

    def _partner(self, node: Node) -> str:
        """The product of block sums that is added to a layer's own; several layers may read one weight."""
        (total,) = self._graph.users(node.outputs[0])
        return total.inputs[1]

    def _constants(self, pick: _Pick) -> str:
        """The name that an input's mask and pick go under, made once for all layers alike."""
        if pick not in self._names:
            name = self._names[pick] = f"outliers.{len(self._names)}"
            self._add(f"{name}.mask", Derived((pick.width,), lambda base: pick.mask()))
            self._add(f"{name}.pick", Derived((pick.rows, pick.width), lambda base: pick.matrix()))
        return self._names[pick]

    def _side(self, weight: str, pick: _Pick) -> str:
        name, minimums = f"{weight}.side", f"{weight}.minimums"

        def compute(base: Weights) -> Array:
            columns = base.load(weight)[:, list(pick.channels)]
            return np.concatenate([columns, base.load(minimums)], axis=1) if pick.block else columns

        shape = (self._weights.shape(weight)[0], pick.rows)
        self._add(name, Derived(shape, compute, parts=(weight,)))
        return name

    def _add(self, name: str, derived: Derived) -> None:
        self.changed[name] = derived
        self.added.append(Value(name, derived.shape))
