"""Emits the step graph as one Core ML package: a function per size, one copy of the weights.

Two layouts. `cells`: the contract of docs/architecture.md, "The step": the caller owns the cache.
`state`: the cache is Core ML state that the model writes itself, for plain use from Swift; the mask is
(T, S), `start` (1,) int32 says which cell the first new token goes to, and there are no outputs but
`logits`.

Names follow Core ML: a dot is an underscore there. Floating point inputs and outputs are float16, so
masked entries must be finite there: -30000, not -1e9. Where a step has one token, `rows` is absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_names import CellName
from edgesdk.errors import EmitError
from edgesdk_converters.emit.coreml.lowering import LOWERINGS, lower_node
from edgesdk_converters.emit.coreml.mil_package import Compute, InputType, MilPackage
from edgesdk_converters.emit.coreml.state import Lowering
from edgesdk_converters.graph.graph import Graph
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.program_contract import refuse_convolutions, refuse_further_ports
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import Recipe

Layout = Literal["cells", "state"]


def emit_coreml(
    program: Program,
    weights: QuantisedWeights,
    path: Path,
    steps: Sequence[StepShape],
    context: int,
    layout: Layout = "cells",
) -> None:
    """Writes a Core ML package for iOS 18 and macOS 15.

    Args:
        program: the decoder.
        weights: its weights under a recipe; f32 computes in float32, every other recipe in float16.
        path: the `.mlpackage` folder to write.
        steps: sizes, one function each; the first is the default one.
        context: positions that the rotary tables cover.
        layout: who owns the cells.

    Raises:
        EmitError: an operation has no lowering, sizes do not suit the layout, or coremltools refuses
            the program.
        MissingExtra: coremltools is not installed.
    """
    check_layout(program, layout)
    write_package(program.graph, weights, path, steps, context, layout)


def check_layout(program: Program, layout: Layout) -> None:
    """Refuses decoders whose cells states cannot hold, or whose backend would not give what they give.

    Raises:
        EmitError: naming what it has.
    """
    refuse_convolutions(program, "a Core ML package")
    if layout != "state":
        return
    spec = program.spec
    refuse_further_ports(program, "the target coreml-state")
    if not spec.is_uniform:
        raise EmitError(
            f"{spec.architecture} has {spec.describe_layers()}; Core ML states are of one size and written "
            "by the layer that reads them; emit the target coreml instead"
        )


def write_package(
    graph: Graph,
    weights: QuantisedWeights,
    path: Path,
    steps: Sequence[StepShape],
    context: int,
    layout: Layout,
) -> None:
    """Writes a package that runs a step graph or a part of one; see `emit_coreml`."""
    for node in graph.nodes:
        if type(node.op) not in LOWERINGS:
            raise EmitError(f"the Core ML emitter has no lowering for {type(node.op).__name__}")
    if len({step.signature for step in steps}) != len(steps) or not steps:
        raise EmitError("the Core ML emitter needs at least one size, each with a signature of its own")
    if layout == "state" and len({step.cells for step in steps}) > 1:
        raise EmitError("functions that share states need one number of cells; name sizes of one S")
    compute = compute_type(weights.recipe)
    if layout == "state" and compute != "fp16":
        raise EmitError(
            f"Core ML states are float16, recipe {weights.recipe.name} computes in float32; use f16"
        )
    package = MilPackage()
    for step in steps:
        _lower_step(package, graph, weights, step, context, layout, compute)
    package.save(path, steps[0].signature)


def compute_type(recipe: Recipe) -> Compute:
    """float16, unless a recipe keeps every weight in float32."""
    return "fp32" if not recipe.rules and recipe.float_type == "float32" else "fp16"


def _lower_step(
    package: MilPackage,
    graph: Graph,
    weights: QuantisedWeights,
    step: StepShape,
    context: int,
    layout: Layout,
    compute: Compute,
) -> None:
    stateful = layout == "state"
    # Cells of a state include the new tokens.
    width = step.cells if stateful else step.cells + step.tokens
    sizes = {"T": step.tokens, "S": step.cells, "R": step.rows, "S+T": width}
    inputs: dict[str, InputType] = {}
    states: dict[str, tuple[int, ...]] = {}
    for value in graph.inputs:
        shape = tuple(dim if isinstance(dim, int) else sizes[dim] for dim in value.shape)
        if stateful and CellName.parse(value.name) is not None:
            states[value.name] = shape
        elif value.name != "rows" or step.tokens > 1:
            inputs[value.name] = (shape, "int32" if value.dtype == "int32" else compute)
    if states:
        inputs["start"] = ((1,), "int32")
    with package.function(step.signature, inputs, states) as function:
        state = Lowering(function, graph, weights, step, context, compute, stateful)
        for node in graph.nodes:
            lower_node(state, node)
        outputs = [name for name in graph.outputs if not (stateful and CellName.parse(name))]
        function.returns(outputs)
