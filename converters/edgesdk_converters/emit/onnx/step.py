"""Emits the step graph as ONNX files of static size, one per (T, S), over one data file.

The contract is that of docs/architecture.md, "The step": inputs and outputs are the graph's, with its
names and shapes. Meant for execution providers that compile static graphs; any ONNX runtime takes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgesdk.bundle.manifest import StepShape
from edgesdk.errors import EmitError
from edgesdk_converters.emit.further_stack import FurtherStack
from edgesdk_converters.emit.leave_out_streams import leave_out_streams
from edgesdk_converters.emit.onnx.model_file import ExternalData, OnnxModel
from edgesdk_converters.emit.onnx.step_lowering import LOWERINGS, lower_node
from edgesdk_converters.emit.onnx.step_state import StepLowering
from edgesdk_converters.graph.program import Program
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights

DATA_NAME = "weights.data"


def step_file(step: StepShape) -> str:
    """The name of one size's file."""
    return f"{step.signature}.onnx"


def emit_step(
    program: Program,
    weights: QuantisedWeights,
    folder: Path,
    steps: Sequence[StepShape],
    context: int,
    stacks: Sequence[FurtherStack] = (),
) -> None:
    """Writes one model per size, named after its signature, and `weights.data`.

    Args:
        program: the decoder.
        weights: its weights under a recipe.
        folder: an existing folder.
        steps: sizes.
        context: positions that the rotary tables cover.
        stacks: further stacks on the same weights, with signatures of their own.

    Raises:
        EmitError: the target cannot express the program; nothing has been written.
        MissingExtra: the package `onnx` is not installed.
    """
    every = (FurtherStack(program, tuple(steps)), *stacks)
    for stack in every:
        check_step(stack.program)
    signatures = [step.signature for stack in every for step in stack.steps]
    if len(set(signatures)) != len(signatures) or not steps:
        raise EmitError("the ONNX step emitter needs at least one size, each with a signature of its own")
    with ExternalData(folder / DATA_NAME) as data:
        for stack in every:
            own = stack.weights_beside(program, weights)
            alone = leave_out_streams(stack.program.graph)
            for step in stack.steps:
                graph = alone if step.tokens == 1 else stack.program.graph
                model = OnnxModel(f"{program.spec.architecture} {weights.recipe.name} {step.signature}", data)
                _lower(StepLowering(model, graph, own, step, context))
                model.save(folder / step_file(step))


def check_step(program: Program) -> None:
    """Refuses what cannot be emitted, reading no weight.

    Raises:
        EmitError: naming the operation.
    """
    for node in program.graph.nodes:
        if type(node.op) not in LOWERINGS:
            raise EmitError(f"the ONNX step emitter has no lowering for {type(node.op).__name__}")


def _lower(state: StepLowering) -> None:
    graph, model = state.graph, state.model
    for value in graph.inputs:
        model.input(value.name, "INT32" if value.dtype == "int32" else "FLOAT", state.sizes(value.shape))
    for node in graph.nodes:
        lower_node(state, node)
    for name in graph.outputs:
        model.output(name, "FLOAT", state.sizes(graph.values[name].shape))
