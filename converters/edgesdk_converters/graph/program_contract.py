"""The contract of a program's step: that of its decoder, and whatever its graph has beside it."""

from __future__ import annotations

from collections.abc import Collection

from edgesdk.bundle.manifest import CellType
from edgesdk.bundle.port import Port
from edgesdk.bundle.stack_record import StackRecord, StreamsRecord
from edgesdk.bundle.step_contract import StepContract, step_contract
from edgesdk.bundle.step_names import CellName
from edgesdk.bundle.step_shape import MAIN
from edgesdk.errors import EmitError
from edgesdk_converters.graph.program import Program


def program_contract(program: Program, cell_type: CellType = "float32") -> StepContract:
    """Ports and cells of a program, in the order of its graph.

    Args:
        program: a decoder, whose graph may have more inputs and more outputs than every decoder has.
        cell_type: how cells are stored.
    """
    graph = program.graph
    inputs = [Port(v.name, v.shape, v.dtype) for v in graph.inputs if CellName.parse(v.name) is None]
    values = [graph.values[name] for name in graph.outputs if CellName.parse(name) is None]
    plain = step_contract(program.spec, cell_type)
    known = {port.name for port in (*plain.inputs, *plain.outputs)}
    return step_contract(
        program.spec,
        cell_type,
        inputs=tuple(port for port in inputs if port.name not in known),
        outputs=tuple(Port(v.name, v.shape, v.dtype) for v in values if v.name not in known),
    )


def main_record(program: Program, streams: StreamsRecord | None = None) -> tuple[StackRecord, ...]:
    """What the manifest says of the main stack: its further ports; nothing where it has none.

    Args:
        program: as it is written.
        streams: what its streams are, where it has some.
    """
    plain, found = step_contract(program.spec), program_contract(program)
    inputs, outputs = found.inputs[len(plain.inputs) :], found.outputs[len(plain.outputs) :]
    return (StackRecord(MAIN, inputs=inputs, outputs=outputs, streams=streams),) if inputs or outputs else ()


def refuse_convolutions(program: Program, target: str) -> None:
    """Refuses a decoder with convolutions, whose earlier tokens the host hands in.

    Args:
        program: a decoder.
        target: what cannot take them.

    Raises:
        EmitError: saying so.
    """
    spec = program.spec
    if spec.convolving:
        raise EmitError(
            f"{spec.architecture} has {len(spec.convolving)} convolutions, which {target} does not hold; "
            "emit the step variant (onnx-step), or litert"
        )


def refuse_further_ports(program: Program, target: str, *, but: Collection[str] = ()) -> None:
    """Refuses a program with more inputs or outputs than every decoder has.

    Args:
        program: a decoder.
        target: what cannot have them.
        but: those that it can have.

    Raises:
        EmitError: naming one.
    """
    plain, found = step_contract(program.spec), program_contract(program)
    beside = (*found.inputs[len(plain.inputs) :], *found.outputs[len(plain.outputs) :])
    further = [port for port in beside if port.name not in but]
    if further:
        raise EmitError(
            f"{target} takes tokens and gives logits only, the model also has {further[0].name!r}; "
            "emit another target"
        )
