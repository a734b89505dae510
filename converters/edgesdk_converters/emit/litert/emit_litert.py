"""Emits the step graph as one LiteRT file: a few signatures, one copy of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgesdk.bundle.manifest import CellType, StepShape
from edgesdk.bundle.step_contract import StepContract
from edgesdk.bundle.step_names import WIDE, CellName, litert_tensors
from edgesdk.bundle.step_shape import FEW
from edgesdk.errors import EmitError
from edgesdk_converters.emit.further_stack import FurtherStack
from edgesdk_converters.emit.leave_out_streams import leave_out_streams
from edgesdk_converters.emit.litert.drop_unread import drop_unread
from edgesdk_converters.emit.litert.half_cells import half_cells
from edgesdk_converters.emit.litert.int8_cells import int8_cells
from edgesdk_converters.emit.litert.join_rotations import join_rotations
from edgesdk_converters.emit.litert.lowering import LOWERINGS, lower_node
from edgesdk_converters.emit.litert.model_file import ModelFile
from edgesdk_converters.emit.litert.state import Lowering
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.program_contract import program_contract
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights


@dataclass(frozen=True)
class LitertOptions:
    """How a file stores what can be stored in several ways.

    Attributes:
        cell_type: of cached keys and values (docs/decisions/0009 and 0014).
        channel_scales: whether int8 products have their scales inside (docs/decisions/0003).
    """

    cell_type: CellType = "float32"
    channel_scales: bool = True


def emit_litert(
    program: Program,
    weights: QuantisedWeights,
    path: Path,
    steps: Sequence[StepShape],
    context: int,
    stacks: Sequence[FurtherStack] = (),
    options: LitertOptions = LitertOptions(),
) -> None:
    """Writes a LiteRT model.

    Inputs and outputs of a signature are those of the graph under the names that LiteRT files give them
    (`edgesdk.bundle.step_names`); `rows` is absent where a step has one token. Columns of masks are in the
    order of attention, new tokens first. Where a step has one token, nothing reads what says which rows are
    streams. int8 cells have inputs for their scales, (K, 1, S), beside them;
    with float16 cells new keys and values are float16, too, and steps of one token and of a few have a second
    signature, whose name ends in `WIDE`, for processors that would sum in float16. Where sizes share a
    signature, whoever loads the file resizes the inputs to the one that it runs; until then they have the
    largest.

    Args:
        program: the decoder.
        weights: its weights under a recipe.
        path: file to write.
        steps: sizes.
        context: positions that the rotary tables cover.
        stacks: stacks that use some of the same weights, with sizes of their own: `skip_layers` of this
            very program, which adds no weight to the file, or a trained draft. Their signatures stand in the
            same file.
        options: how cells and scales are stored.

    Raises:
        EmitError: an operation has no lowering, or a further stack has weights of its own.
        MissingExtra: LiteRT is not installed.
    """
    check_operations(program)
    model = ModelFile(f"edgesdk {program.spec.architecture} {weights.recipe.name}")
    for stack in (FurtherStack(program, tuple(steps)), *stacks):
        _lower_steps(stack, stack.weights_beside(program, weights), model, context, options)
    model.write(path)


def check_operations(program: Program) -> None:
    """Refuses what cannot be emitted, reading no weight.

    Raises:
        EmitError: naming the operation.
    """
    for node in program.graph.nodes:
        if type(node.op) not in LOWERINGS:
            raise EmitError(f"the LiteRT emitter has no lowering for {type(node.op).__name__}")


def _lower_steps(
    stack: FurtherStack, weights: QuantisedWeights, model: ModelFile, context: int, options: LitertOptions
) -> None:
    graph, steps = stack.program.graph, stack.steps
    every, bare = join_rotations(graph), leave_out_streams(graph)
    alone = every if bare is graph else join_rotations(bare)
    contract = stack.contract or program_contract(stack.program, options.cell_type)
    largest: dict[str, StepShape] = {}
    for step in sorted(steps):
        largest[step.signature] = step
    for signature, step in largest.items():
        sharing = [other for other in steps if other.signature == signature]
        different = {
            "T": {s.tokens for s in sharing},
            "S": {s.cells for s in sharing},
            "R": {s.rows for s in sharing},
        }
        varying = frozenset(name for name, sizes in different.items() if len(sizes) > 1)
        few = len(largest) < len(steps) and step.tokens <= FEW and bool(contract.groups)
        halves = contract.cell_type == "float16" and bool(contract.groups) and (few or step.tokens == 1)
        for wide in (False, True)[: 1 + halves]:
            state = Lowering(
                model.subgraph(f"{signature}{WIDE if wide else ''}"),
                alone if step.tokens == 1 else every,
                weights,
                step,
                context,
                varying,
                few,
                wide,
                channel_scales=options.channel_scales,
            )
            _lower_step(state, contract)
            drop_unread(state.subgraph)


def _lower_step(state: Lowering, contract: StepContract) -> None:
    graph, cell_type = state.graph, contract.cell_type
    names = {tensor.port.name: tensor.name for tensor in litert_tensors(contract, few=state.few).ports_in}
    for value in graph.inputs:
        if value.name == "rows" and state.step.tokens == 1:
            continue
        cell = CellName.parse(value.name)
        if cell is not None and cell_type != "float32":
            (int8_cells if cell_type == "int8" else half_cells)(state, value, cell)
            continue
        name = names.get(value.name, value.name)
        state.index[value.name] = state.subgraph.input(name, state.shape(value.shape), value.dtype)
    for node in graph.nodes:
        lower_node(state, node)
    for name in graph.outputs:
        state.subgraph.output(name, state.index[name])
