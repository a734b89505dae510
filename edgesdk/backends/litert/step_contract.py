"""What a LiteRT file's signatures must take and give, by what the manifest says: memory is bound by it.

It compares shapes and types, and knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgesdk.backends.litert.cell_inputs import MASKS, check_cell_inputs
from edgesdk.backends.litert.operator_shapes import FLOAT16, FLOAT32, INT8, INT32, Operand
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.manifest import CellType, StepShape
from edgesdk.errors import DeviceError


@dataclass(frozen=True)
class LitertContract:
    """What the manifest says of a file.

    Attributes:
        spec: shape of the decoder.
        steps: sizes of its signatures.
        cell_type: how cells are stored.
        context: longest sequence, in tokens.
    """

    spec: DecoderSpec
    steps: tuple[StepShape, ...]
    cell_type: CellType
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
    check_cell_inputs(inputs, len(contract.spec.layers), contract.cell_type)
    for kind, found, expected in (
        ("input", inputs, expected_inputs(contract, step)),
        ("output", outputs, expected_outputs(contract, step)),
    ):
        if set(found) != set(expected):
            odd = min(set(found) ^ set(expected))
            raise DeviceError(
                f"{kind} {odd[:60]!r} of {name!r} is not as its manifest says; convert the bundle again"
            )
        for label, (shape, dtype) in expected.items():
            operand = found[label]
            if (operand.shape, operand.type) != (shape, dtype):
                raise DeviceError(
                    f"{kind} {label!r} of {name!r} has the shape {operand.shape}, its manifest says "
                    f"{shape}; convert the bundle again"
                )
    values = (("tokens", contract.spec.vocab_size), ("positions", contract.context), ("rows", step.tokens))
    for label, rows in values:
        if picked.get(label, rows) < rows:
            raise DeviceError(
                f"a table of {name!r} has fewer rows than there are {label}; convert the bundle again"
            )


Expected = dict[str, tuple[tuple[int, ...], int]]


def expected_inputs(contract: LitertContract, step: StepShape) -> Expected:
    """Shape and type of every input, by name."""
    spec, T, S = contract.spec, step.tokens, step.cells
    expected: Expected = {"tokens": ((T,), INT32), "positions": ((T,), INT32)}
    expected[MASKS[0]] = ((T, T + S), FLOAT32)
    if spec.window is not None:
        expected[MASKS[1]] = ((T, T + S), FLOAT32)
    if T > 1:
        expected["rows"] = ((step.rows,), INT32)
    cells = (spec.kv_heads, S, spec.head_size)
    for layer in range(len(spec.layers)):
        for letter in "kv":
            if contract.cell_type == "float16":
                expected[f"{letter}_half.{layer}"] = (cells, FLOAT16)
            else:
                kind = INT8 if contract.cell_type == "int8" else FLOAT32
                expected[f"{letter}_cache.{layer}"] = (cells, kind)
            if contract.cell_type == "int8":
                expected[f"{letter}_scale.{layer}"] = ((spec.kv_heads, 1, S), FLOAT32)
    return expected


def expected_outputs(contract: LitertContract, step: StepShape) -> Expected:
    """Shape and type of every output, by name."""
    spec = contract.spec
    rows = spec.vocab_size if spec.head_rows is None else spec.head_rows
    expected: Expected = {"logits": ((step.rows, rows), FLOAT32)}
    kind = FLOAT16 if contract.cell_type == "float16" else FLOAT32
    for layer in range(len(spec.layers)):
        for letter in "kv":
            expected[f"{letter}_new.{layer}"] = ((spec.kv_heads, step.tokens, spec.head_size), kind)
    return expected
