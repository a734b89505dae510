"""What the lowerings of the resident model share: names made so far, and what waits until it is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from edgesdk.bundle.decoder_spec import RotarySpec
from edgesdk_converters.emit.onnx.model_file import OnnxModel
from edgesdk_converters.graph.graph import Graph, Node
from edgesdk_converters.graph.ops import Split
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights

if TYPE_CHECKING:
    from edgesdk_converters.emit.onnx.resident_adapters import AdapterInput

CONTRIB = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""


@dataclass
class ResidentLowering:
    """State while the model is built.

    Attributes:
        model: where nodes go.
        graph: what is lowered.
        weights: constants.
        context: length of the rotary tables.
        accuracy_level: of MatMulNBits: 0 computes in float32, 4 with activations in int8 blocks.
        names: ONNX name of every value made so far.
        stacked: names of rows above what rounding them loses, by that of the rows (`two_rows`).
        adapter_inputs: what inputs for adapters are filled from.
        rotations: values whose rotation is left to their attention: what rotates, and how.
    """

    model: OnnxModel
    graph: Graph
    weights: QuantisedWeights
    context: int
    accuracy_level: int
    names: dict[str, str] = field(default_factory=dict)
    rotations: dict[str, tuple[str, RotarySpec]] = field(default_factory=dict)
    stacked: dict[str, str] = field(default_factory=dict)
    adapter_inputs: list[AdapterInput] = field(default_factory=list)
    _splits: dict[str, Node] = field(default_factory=dict)
    _sums: dict[str, Node] = field(default_factory=dict)

    def use(self, name: str) -> str:
        """The ONNX name of a value; what was deferred for its sake is done first."""
        resolved = self.names[name]
        parts = self.take_sum(resolved)
        if parts is not None:
            self.model.node("Add", parts, [resolved])
        node = self._splits.get(resolved)
        if node is not None:
            for part in node.outputs:
                del self._splits[part]
            sizes = self.model.integers(cast(Split, node.op).sizes)
            self.model.node("Split", [self.use(node.inputs[0]), sizes], node.outputs, {"axis": -1})
        return resolved

    def defer_split(self, node: Node) -> None:
        """Remembers a split; attention may take the whole instead of the parts."""
        self._splits.update(dict.fromkeys(node.outputs, node))

    def defer_sum(self, node: Node) -> None:
        """Remembers a sum; a norm that reads it next makes it too."""
        self._sums[node.outputs[0]] = node

    def take_sum(self, name: str) -> list[str] | None:
        """What to add for a value, if nothing has yet; whoever asks does it."""
        node = self._sums.pop(name, None)
        return None if node is None else [self.use(part) for part in node.inputs]

    def whole(self, parts: list[str]) -> str | None:
        """The value whose split gives exactly `parts` in order, while nothing has split it."""
        nodes = [self._splits.get(part) for part in parts]
        if nodes[0] is None or list(nodes[0].outputs) != parts:
            return None
        return self.use(nodes[0].inputs[0])

    def reshape(self, x: str, name: str, shape: list[int]) -> str:
        """Gives a value another shape; 0 keeps a dimension."""
        return self.model.node("Reshape", [x, self.model.integers(shape)], [name])

    def widen(self, stored: str) -> str:
        """A float16 constant in float32, made once; folded at load, because CPU kernels take float32."""
        wide = f"{stored}.float32"
        if wide not in self.names:
            self.names[wide] = self.model.node("Cast", [stored], [wide], {"to": 1})
        return wide

    def vector(self, name: str) -> str:
        """A one-dimensional weight."""
        return self.model.constant(name, "FLOAT", self.weights.shape(name), lambda: self.weights.load(name))
