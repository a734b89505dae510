"""Names and shapes of a step's tensors in files: one function per file format, over the contract.

The graph and ONNX: ports as they are, `k_cache.l` and `v_cache.l` (K, S, D) for the cells of layer l,
`k_new.l` and `v_new.l` (K, T, D) for what is new. What the i-th convolution keeps of the new tokens is
`x_new.i` (1, T, E); what it kept of earlier ones comes in through ports, so no input holds its cells.

LiteRT: masks are `NAME.new_first`, whose columns are the T new tokens, then the S cells: the order in which
a file can be resized (docs/decisions/0012). A signature for a few new tokens, whose T varies, has masks
`NAME.few_first` instead: FEW columns for new tokens however many there are, then the cells, so that it can be
cut between them. float16 cells are `k_half.l`, `v_half.l`; int8 cells keep the
names of float32, with `k_scale.l`, `v_scale.l` (K, 1, S) beside them, the shape that multiplies a row of
scores. `rows` is left out where T = 1.

Core ML: names without dots, `k_cache_l`; `rows` is left out where T = 1.

It knows nothing of files beyond that. Nobody else spells the name of a cell.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from edgesdk.bundle.port import Dim, NumberType, Port, shape_of
from edgesdk.bundle.step_contract import CellGroup, StepContract
from edgesdk.bundle.step_shape import FEW, StepShape

CACHE, HALF, SCALE, NEW = "cache", "half", "scale", "new"
"""What a tensor holds of a layer: float32 or int8 cells, float16 cells, scales of int8 cells, what is new."""

_NEW_FIRST, _FEW_FIRST = ".new_first", ".few_first"
WIDE = "_wide"
"""How the name of a LiteRT signature ends that turns float16 cells to float32 before it multiplies them."""


class CellName(NamedTuple):
    """Name of a layer's tensor in the graph, in ONNX and in LiteRT; `str` writes it.

    Attributes:
        side: `k` or `v`; `x` of what a convolution keeps.
        kind: `CACHE`, `HALF`, `SCALE` or `NEW`.
        layer: number of the layer, or of the convolution.
    """

    side: str
    kind: str
    layer: int

    def __str__(self) -> str:
        """Such as k_cache.0."""
        return f"{self.side}_{self.kind}.{self.layer}"

    @classmethod
    def parse(cls, name: str) -> CellName | None:
        """Reads such a name; None for the name of anything else."""
        head, dot, layer = name.partition(".")
        side, _, kind = head.partition("_")
        known = (side in ("k", "v") and kind in (CACHE, HALF, SCALE, NEW)) or (side, kind) == ("x", NEW)
        return cls(side, kind, int(layer)) if known and dot and layer.isdecimal() else None


@dataclass(frozen=True)
class PortTensor:
    """A port as a file has it.

    Attributes:
        name: in the file.
        port: of the contract.
        new_first: the columns of a mask are in the file's order: new tokens, then cells.
        few: it has as many columns for new tokens as any step of a few; what they show beyond T is masked.
        absent_alone: it is left out of steps of one token.
    """

    name: str
    port: Port
    new_first: bool = False
    few: bool = False
    absent_alone: bool = False

    @property
    def dtype(self) -> NumberType:
        """Its numbers."""
        return self.port.dtype

    def shape(self, step: StepShape) -> tuple[int, ...]:
        """Its shape in one size."""
        return (step.tokens, FEW + step.cells) if self.few else self.port.shape(step)


@dataclass(frozen=True)
class CellTensor:
    """One side of one layer of a group of cells, as a file has it.

    Attributes:
        name: in the file.
        group: index of the contract's group.
        layer: index within the group.
        side: likewise.
        dims: its shape, with S where the host's array has cells, and T where it has new tokens.
        dtype: its numbers.
    """

    name: str
    group: int
    layer: int
    side: int
    dims: tuple[Dim, ...]
    dtype: NumberType

    def shape(self, step: StepShape) -> tuple[int, ...]:
        """Its shape in one size."""
        return shape_of(self.dims, step)


@dataclass(frozen=True)
class StepTensors:
    """Everything that a step takes from a file or gives to it.

    Attributes:
        ports_in: inputs, cells apart.
        cells: inputs that hold cells, group by group.
        ports_out: outputs, new keys and values apart.
        new: new keys and values, group by group.
    """

    ports_in: tuple[PortTensor, ...]
    cells: tuple[CellTensor, ...]
    ports_out: tuple[PortTensor, ...]
    new: tuple[CellTensor, ...]

    def inputs_of(self, step: StepShape) -> tuple[PortTensor, ...]:
        """Inputs of one size, cells apart."""
        return tuple(tensor for tensor in self.ports_in if not (tensor.absent_alone and step.tokens == 1))

    def input_shapes(self, step: StepShape) -> dict[str, tuple[int, ...]]:
        """Shape of every input of one size, by its name."""
        shapes = {tensor.name: tensor.shape(step) for tensor in self.inputs_of(step)}
        return shapes | {tensor.name: tensor.shape(step) for tensor in self.cells}

    def output_shapes(self, step: StepShape) -> dict[str, tuple[int, ...]]:
        """Shape of every output of one size, by its name."""
        shapes = {tensor.name: tensor.shape(step) for tensor in self.ports_out}
        return shapes | {tensor.name: tensor.shape(step) for tensor in self.new}


def graph_tensors(contract: StepContract) -> StepTensors:
    """Names in the graph of a decoder, whatever its cells become in a file."""
    return StepTensors(
        ports_in=tuple(PortTensor(port.name, port) for port in contract.inputs),
        cells=_cells(_read(contract), "S", CACHE),
        ports_out=tuple(PortTensor(port.name, port) for port in contract.outputs),
        new=_cells(contract.new, "T", NEW),
    )


def onnx_tensors(contract: StepContract) -> StepTensors:
    """Names in a file of the `onnx-step` format: those of the graph."""
    return graph_tensors(contract)


def has_few_columns(inputs: Iterable[str]) -> bool:
    """Whether a signature of a LiteRT file with these inputs has the masks of a few new tokens."""
    return any(name.endswith(_FEW_FIRST) for name in inputs)


def litert_tensors(contract: StepContract, *, few: bool = False) -> StepTensors:
    """Names in a signature of a LiteRT file.

    Args:
        contract: of its stack.
        few: its masks have FEW columns for new tokens (`has_few_columns`).
    """
    suffix = _FEW_FIRST if few else _NEW_FIRST
    cells: list[CellTensor] = []
    for index, group in enumerate(_read(contract)):
        kind = CACHE if group.tail else SCALE
        cells.extend(_cells((group,), "S", HALF if group.dtype == "float16" else kind, index))
    return StepTensors(
        ports_in=tuple(
            PortTensor(
                f"{port.name}{suffix}" if port.is_mask else port.name,
                port,
                new_first=port.is_mask,
                few=few and port.is_mask,
                absent_alone=port.name == "rows",
            )
            for port in contract.inputs
        ),
        cells=tuple(cells),
        ports_out=tuple(PortTensor(port.name, port) for port in contract.outputs),
        new=_cells(contract.new, "T", NEW),
    )


def coreml_tensors(contract: StepContract) -> StepTensors:
    """Names in a function of a Core ML package, whose floating point tensors are float16 in the file."""
    return StepTensors(
        ports_in=tuple(
            PortTensor(port.name, port, absent_alone=port.name == "rows") for port in contract.inputs
        ),
        cells=_cells(_read(contract), "S", CACHE, dot="_"),
        ports_out=tuple(PortTensor(port.name, port) for port in contract.outputs),
        new=_cells(contract.new, "T", NEW, dot="_"),
    )


def _read(contract: StepContract) -> tuple[CellGroup, ...]:
    """Groups that files read; what the host holds for itself comes after them."""
    return tuple(group for group in contract.groups if not group.held)


def _cells(
    groups: tuple[CellGroup, ...], count: Dim, kind: str, first: int = 0, dot: str = "."
) -> tuple[CellTensor, ...]:
    """Tensors of groups, of which the first has the index `first`."""
    found = []
    for index, group in enumerate(groups, first):
        # A number for each cell is written as a row of them.
        dims = (group.heads, count, *group.tail) if group.tail else (group.heads, 1, count)
        for place, layer in enumerate(group.layers):
            for side, letter in enumerate(group.sides):
                name = str(CellName(letter, kind, layer)).replace(".", dot)
                found.append(CellTensor(name, index, place, side, dims, group.dtype))
    return tuple(found)
