"""Emits the step graph as one ONNX file whose sizes are open, in a form whose attention OpenVINO fuses.

Inputs, outputs and operators are those of `step`; only what would fix T, S or R differs. Queries of the heads
that share keys are rows of one matrix, and the mask is repeated for them once for all layers, so that nothing
stands between product, mask, softmax and product: that pattern becomes one operation there
(docs/decisions/0029). Cells and new tokens are joined, which `step` avoids: a copy of the cells costs less
than scores that go through memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from edgesdk.bundle.manifest import StepShape
from edgesdk.errors import EmitError
from edgesdk_converters.emit.onnx.model_file import ExternalData, OnnxModel
from edgesdk_converters.emit.onnx.step import DATA_NAME, check_step, step_file
from edgesdk_converters.emit.onnx.step_lowering import LOWERINGS
from edgesdk_converters.emit.onnx.step_state import StepLowering
from edgesdk_converters.graph.graph import Node
from edgesdk_converters.graph.ops import Attend, Op, Shape
from edgesdk_converters.graph.program import Program
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights

_ANY = -1


@dataclass
class OpenLowering(StepLowering):
    """State while the model is built; a size that is open is -1, of which a shape has one at most."""

    _masks: dict[tuple[str, int], str] = field(default_factory=dict)

    def sizes(self, shape: Shape) -> tuple[int, ...]:
        """A symbolic shape with -1 for what is open."""
        return tuple(dim if isinstance(dim, int) else _ANY for dim in shape)

    def mask_rows(self, mask: str, groups: int) -> str:
        """(G*T, S+T) a mask for the rows of G heads, made once."""
        if groups == 1:
            return mask
        key = mask, groups
        if key not in self._masks:
            name = f"{mask}.rows.{groups}"
            self._masks[key] = self.model.node("Concat", [mask] * groups, [name], {"axis": 0})
        return self._masks[key]


def emit_open_step(
    program: Program, weights: QuantisedWeights, folder: Path, steps: Sequence[StepShape], context: int
) -> None:
    """Writes the model, named after the one signature of all sizes, and `weights.data`.

    Args:
        program: the decoder.
        weights: its weights under a recipe.
        folder: an existing folder.
        steps: sizes in which it will be run.
        context: positions that the rotary tables cover.

    Raises:
        EmitError: the target cannot express the program; nothing has been written.
        MissingExtra: the package `onnx` is not installed.
    """
    check_step(program)
    if len({step.signature for step in steps}) != 1:
        raise EmitError("the emitter of open ONNX steps needs sizes, all of one signature")
    with ExternalData(folder / DATA_NAME) as data:
        model = OnnxModel(f"{program.spec.architecture} {weights.recipe.name} open step", data)
        graph = program.graph
        state = OpenLowering(model, graph, weights, steps[0], context)
        for value in graph.inputs:
            model.input(value.name, "INT32" if value.dtype == "int32" else "FLOAT", value.shape)
        for node in graph.nodes:
            _LOWERINGS.get(type(node.op), LOWERINGS[type(node.op)])(state, node)
        for name in graph.outputs:
            model.output(name, "FLOAT", graph.values[name].shape)
        model.save(folder / step_file(steps[0]))


def _attend(state: StepLowering, node: Node) -> None:
    """Appends the operators of an `Attend` node, (T, H, D) in and out."""
    op, out, model = cast(Attend, node.op), node.outputs[0], state.model
    q, k_new, v_new, mask, k_cache, v_cache = node.inputs
    _, H, D = (state.graph.values[q].shape[axis] for axis in range(3))
    K = int(state.graph.values[k_cache].shape[0])
    G = int(H) // K
    split = state.reshape(q, f"{out}.q.split", (_ANY, K, G, int(D)))
    turned = state.transpose(split, f"{out}.q.turned", (1, 2, 0, 3))
    query = state.reshape(turned, f"{out}.q", (K, _ANY, int(D)))
    keys = model.node("Concat", [k_cache, k_new], [f"{out}.keys"], {"axis": 1})
    values = model.node("Concat", [v_cache, v_new], [f"{out}.values"], {"axis": 1})
    columns = state.transpose(keys, f"{out}.keys.turned", (0, 2, 1))
    scores = model.node("MatMul", [query, columns], [f"{out}.scores"])
    if op.scale != 1.0:
        scores = state.binary("Mul", scores, state.number(op.scale), f"{out}.scaled")
    if op.softcap is not None:
        scores = state.softcap(scores, op.softcap, f"{out}.capped")
    rows = cast(OpenLowering, state).mask_rows(mask, G)
    masked = state.binary("Add", scores, rows, f"{out}.masked")
    shares = model.node("Softmax", [masked], [f"{out}.shares"], {"axis": -1})
    both = model.node("MatMul", [shares, values], [f"{out}.y"])
    heads = state.reshape(both, f"{out}.y.split", (K, G, _ANY, int(D)))
    order = state.transpose(heads, f"{out}.y.rows", (2, 0, 1, 3))
    state.reshape(order, out, (_ANY, int(H), int(D)))


_LOWERINGS: Mapping[type[Op], Callable[[StepLowering, Node], None]] = {Attend: _attend}
