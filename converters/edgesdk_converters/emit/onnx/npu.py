"""Emits the step graph as Qualcomm's Hexagon processor takes it whole: one static ONNX file per size.

Same inputs and outputs as `step`, so the same backend runs both; only the operators between differ
(`npu_lowering`). The files run anywhere that ONNX does, for comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgesdk.bundle.manifest import StepShape
from edgesdk.errors import EmitError
from edgesdk_converters.emit.onnx.model_file import ExternalData, OnnxModel
from edgesdk_converters.emit.onnx.npu_lowering import NpuLowering, lower_npu_node
from edgesdk_converters.emit.onnx.step import DATA_NAME, check_step, step_file
from edgesdk_converters.graph.program import Program
from edgesdk_converters.quantise.activation_ranges import ActivationRange
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights

HALF_MAX = 65504.0
"""The largest float16 number."""


def emit_npu(
    program: Program,
    weights: QuantisedWeights,
    folder: Path,
    steps: Sequence[StepShape],
    context: int,
    ranges: Mapping[str, ActivationRange],
) -> None:
    """Writes one model per size, named after its signature, and `weights.data`.

    Args:
        program: the decoder.
        weights: its weights under a recipe.
        folder: an existing folder.
        steps: sizes.
        context: positions that the rotary tables cover.
        ranges: from `measure_ranges`; a matrix without them is multiplied in float16.

    Raises:
        EmitError: the target cannot express the program; nothing has been written.
        MissingExtra: the package `onnx` is not installed.
    """
    check_step(program)
    if len({step.signature for step in steps}) != len(steps) or not steps:
        raise EmitError("the ONNX NPU emitter needs at least one size, each with a signature of its own")
    for name, found in ranges.items():
        if max(found.high, -found.low) > HALF_MAX:
            raise EmitError(
                f"{name} reaches {max(found.high, -found.low):.0f}, more than float16 holds; "
                "this model does not suit an NPU as it is"
            )
    with ExternalData(folder / DATA_NAME) as data:
        for step in steps:
            model = OnnxModel(f"{program.spec.architecture} {weights.recipe.name} {step.signature}", data)
            _lower(NpuLowering(model, program.graph, weights, step, context, ranges=ranges))
            model.save(folder / step_file(step))


def _lower(state: NpuLowering) -> None:
    graph, model = state.graph, state.model
    for value in graph.inputs:
        model.input(value.name, "INT32" if value.dtype == "int32" else "FLOAT", state.sizes(value.shape))
    for node in graph.nodes:
        lower_npu_node(state, node)
    for name in graph.outputs:
        model.output(name, "FLOAT", state.sizes(graph.values[name].shape))
