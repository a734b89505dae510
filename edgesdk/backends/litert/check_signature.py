"""What a LiteRT file's signatures must take and give, by what the manifest says: memory is bound by it.

It compares shapes and types, and knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgesdk.backends.litert.cell_inputs import check_cell_inputs
from edgesdk.backends.litert.operator_shapes import FLOAT16, FLOAT32, INT8, INT32, Operand
from edgesdk.bundle.exit_record import LABELS
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.port import NumberType
from edgesdk.bundle.stack_record import SOURCES
from edgesdk.bundle.step_contract import StepContract
from edgesdk.bundle.step_names import CellTensor, PortTensor, has_few_columns, litert_tensors
from edgesdk.errors import DeviceError

TYPES: Mapping[NumberType, int] = {"float32": FLOAT32, "float16": FLOAT16, "int32": INT32, "int8": INT8}
"""Numbers of a contract as the file's schema counts them."""


@dataclass(frozen=True)
class LitertContract:
    """What the manifest says of a file.

    Attributes:
        contracts: what each stack takes and gives.
        steps: sizes of its signatures.
        vocab_size: V.
        context: longest sequence, in tokens.
    """

    contracts: Mapping[str, StepContract]
    steps: tuple[StepShape, ...]
    vocab_size: int
    context: int


def check_contract(
    contract: LitertContract,
    step: StepShape,
    inputs: Mapping[str, Operand],
    outputs: Mapping[str, Operand],
    picked: Mapping[str, int],
) -> None:
    """Refuses a signature for which other memory would be bound than it reads and writes.

    Args:
        contract: what the manifest says.
        step: the largest size that the signature runs.
        inputs: by name.
        outputs: by name.
        picked: rows of the smallest table that an input picks from, by its name.

    Raises:
        DeviceError: it takes or gives something else.
    """
    name = step.signature
    tensors = litert_tensors(contract.contracts[step.stack], few=has_few_columns(inputs))
    check_cell_inputs(inputs, tensors, contract.contracts[step.stack].cell_type)
    given: tuple[PortTensor | CellTensor, ...] = (*tensors.inputs_of(step), *tensors.cells)
    gives: tuple[PortTensor | CellTensor, ...] = (*tensors.ports_out, *tensors.new)
    for kind, found, expected in (("input", inputs, given), ("output", outputs, gives)):
        names = {tensor.name for tensor in expected}
        if set(found) != names:
            odd = min(set(found) ^ names)
            raise DeviceError(
                f"{kind} {odd[:60]!r} of {name!r} is not as its manifest says; convert the bundle again"
            )
        for tensor in expected:
            operand, shape = found[tensor.name], tensor.shape(step)
            if (operand.shape, operand.type) != (shape, TYPES[tensor.dtype]):
                raise DeviceError(
                    f"{kind} {tensor.name!r} of {name!r} has the shape {operand.shape}, its manifest says "
                    f"{shape}; convert the bundle again"
                )
    # What the host writes there is known; of any other input it is not.
    least = {"tokens": contract.vocab_size, "positions": contract.context, "rows": step.tokens}
    least |= {SOURCES: step.tokens, LABELS: contract.vocab_size}
    for label, rows in picked.items():
        if label not in least:
            raise DeviceError(
                f"a table of {name!r} is picked from by {label[:60]!r}, whose values nobody bounds; convert "
                "the bundle again"
            )
        if rows < least[label]:
            raise DeviceError(
                f"a table of {name!r} has fewer rows than there are {label}; convert the bundle again"
            )
