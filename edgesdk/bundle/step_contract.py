"""The contract of a step, as data: what goes in, what comes out, and in which arrays the host keeps cells.

Backends, the pool of cells and whatever wraps a backend loop over it, so that a new port is a line of data
and a new kind of layer a group of cells. Names of tensors in files are the business of `step_names`. It
knows nothing of arrays.

Letters: T new tokens, S cells, R rows with logits, K KV heads, D head size, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.exit_record import CHANGES, LABELS, NEXT_STREAM, STREAM, ExitRecord
from edgesdk.bundle.manifest import CellType, Manifest, StackRecord, Variant
from edgesdk.bundle.port import NumberType, Port
from edgesdk.bundle.stack_record import BEFORE, MASKS, NEXT_STATE, STATE, STATES, STREAMS, picks
from edgesdk.bundle.step_shape import MAIN
from edgesdk.bundle.stream_part import StreamPart

NUMBER_BYTES: Mapping[NumberType, int] = {"float32": 4, "float16": 2, "int32": 4, "int8": 1}

LayerCells = tuple[int, int]
"""K and D of a layer's keys and values."""


@dataclass(frozen=True)
class CellGroup:
    """Equal layers, whose cells live in one array: (layers, sides, K, S, *tail).

    Attributes:
        name: of the array, in snapshots.
        layers: their numbers, as names in files have them: the place among the layers of the model that
            attend.
        heads: K.
        tail: what a plane holds of one cell: (D,), or () for one number.
        dtype: of the numbers.
        sides: what a layer keeps of a cell, a letter each.
        held: the host alone reads it, and hands in what a step needs of it (`BEFORE`); no file has it.
    """

    name: str
    layers: tuple[int, ...]
    heads: int
    tail: tuple[int, ...]
    dtype: NumberType
    sides: tuple[str, ...] = ("k", "v")
    held: bool = False

    @property
    def planes(self) -> tuple[int, ...]:
        """Planes of cells, by axis: (layers, sides, K)."""
        return len(self.layers), len(self.sides), self.heads

    @property
    def cell_bytes(self) -> int:
        """Bytes of one cell."""
        return math.prod(self.planes) * math.prod(self.tail) * NUMBER_BYTES[self.dtype]

    def shape(self, cells: int) -> tuple[int, ...]:
        """Shape of the array for so many cells: (layers, sides, K, S, *tail)."""
        return (*self.planes, cells, *self.tail)


@dataclass(frozen=True)
class StepContract:
    """What one stack of a file takes and gives.

    Attributes:
        inputs: what the host fills, cells apart.
        outputs: what a step gives, new keys and values apart: of every row (R, ..) or of every token (T, ..).
        groups: arrays of cells, read by a step; with int8 cells values and scales in turn.
        new: arrays of new keys and values that a step gives, with T in place of S; one for each kind of
            layer, whatever the cells are kept in.
        cell_type: how keys and values are stored; what convolutions keep is float32.
        window: what `window_mask` shows: so many tokens back, or to either side; None without one.
        predecessors: tokens before its own that a convolution sees: k - 1; 0 without convolutions.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    groups: tuple[CellGroup, ...]
    new: tuple[CellGroup, ...]
    cell_type: CellType
    window: int | None
    predecessors: int = 0

    @cached_property
    def cell_bytes(self) -> int:
        """Bytes of one cell over all groups."""
        return sum(group.cell_bytes for group in self.groups)

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """Numbers of the layers that have keys and values, rising."""
        return tuple(sorted(layer for group in self.new if not group.held for layer in group.layers))

    @property
    def held(self) -> int | None:
        """Index of the group of what convolutions keep; None without them."""
        return next((i for i, group in enumerate(self.groups) if group.held), None)

    @property
    def logits(self) -> Port:
        """Logits of the wanted rows: (R, V), or fewer where a head writes some tokens only.

        Of a segment, which has none, what it gives first.
        """
        return self.outputs[0]


def step_contract(
    spec: DecoderSpec,
    cell_type: CellType = "float32",
    *,
    inputs: tuple[Port, ...] = (),
    outputs: tuple[Port, ...] = (),
) -> StepContract:
    """The contract of a decoder.

    One whose tokens see the whole text has no cells, rows or logits, and gives states.

    Args:
        spec: shape of the decoder.
        cell_type: how cells are stored.
        inputs: that it has beside those of every decoder.
        outputs: that it has beside logits.
    """
    masks = MASKS[:1] if spec.window is None else MASKS
    tokens, positions = Port("tokens", ("T",), "int32"), Port("positions", ("T",), "int32")
    if not spec.is_causal:
        seen = tuple(Port(name, ("T", "T")) for name in masks)
        states = Port(STATES, ("T", spec.states_size))
        return StepContract(
            (tokens, positions, *seen, *inputs), (states, *outputs), (), (), "float32", spec.window
        )
    layers, kept = layer_cells(spec), held_groups(spec)
    return StepContract(
        inputs=(
            tokens,
            positions,
            *(Port(name, ("T", "S+T")) for name in masks),
            Port("rows", ("R",), "int32"),
            *predecessor_ports(spec),
            *inputs,
        ),
        outputs=(Port("logits", ("R", spec.logits_size)), *outputs),
        groups=(*cell_groups(layers, cell_type), *kept),
        new=(*new_groups(layers, cell_type), *kept),
        cell_type=cell_type,
        window=spec.window,
        predecessors=spec.predecessors,
    )


def predecessor_ports(spec: DecoderSpec) -> tuple[Port, ...]:
    """Inputs by which convolutions see the tokens before their own; none without convolutions."""
    if not spec.predecessors:
        return ()
    width = len(spec.convolving) * spec.predecessors * spec.hidden_size
    return (Port(BEFORE, ("T", width)), *(Port(name, ("T", "T")) for name in picks(spec.predecessors)))


def held_groups(spec: DecoderSpec) -> tuple[CellGroup, ...]:
    """The array of what convolutions keep of a token: (convolutions, 1, 1, S, E); none without them."""
    if not spec.convolving:
        return ()
    numbers = tuple(range(len(spec.convolving)))
    return (CellGroup("convolved", numbers, 1, (spec.hidden_size,), "float32", ("x",), held=True),)


def main_stack(spec: DecoderSpec, cell_type: CellType = "float32") -> dict[str, StepContract]:
    """The contracts of a file that has one stack, the decoder itself."""
    return {MAIN: step_contract(spec, cell_type)}


def step_contracts(manifest: Manifest, variant: Variant) -> dict[str, StepContract]:
    """The contract of every stack of a variant, by its name."""
    main = manifest.decoder_of(variant)
    records = {MAIN: StackRecord(MAIN), **{record.name: record for record in variant.stacks}}
    return {name: _contract_of(record, main, variant.cell_type) for name, record in records.items()}


def _contract_of(record: StackRecord, main: DecoderSpec, cell_type: CellType) -> StepContract:
    spec = main if record.decoder is None else record.decoder
    if record.draft is not None:
        return draft_contract(record.draft.hidden_size, record.draft.vocabulary)
    if record.exit is not None:
        return exit_contract(record.exit, spec, len(main.blocks), cell_type)
    if record.streamed is not None:
        return stream_part_contract(record.streamed, spec, record.outputs, cell_type)
    return step_contract(spec, cell_type, inputs=record.inputs, outputs=record.outputs)


def exit_contract(
    part: ExitRecord, spec: DecoderSpec, blocks: int, cell_type: CellType = "float32"
) -> StepContract:
    """The contract of a part of a decoder in segments.

    A segment has cells of its own layers, numbered from 0; the first reads tokens, the others a stream. A
    head has neither cells nor rows: every token has logits, of a head over labels one for each label, as many
    as a size has rows. A fill gives new keys and values and nothing
    else.

    Args:
        part: which one.
        spec: of its blocks; of a head, the decoder's.
        blocks: of the whole decoder.
        cell_type: how cells are stored.
    """
    stream = Port(STREAM, ("T", spec.hidden_size))
    layers = layer_cells(spec)
    if part.part == "head":
        logits = Port("logits", ("T", spec.logits_size))
        return StepContract((stream,), (logits,), (), (), "float32", None)
    if part.part == "labels":
        labels, chosen = Port(LABELS, ("R",), "int32"), Port("logits", ("T", "R"))
        return StepContract((stream, labels), (chosen,), (), (), "float32", None)
    if part.part == "fill":
        positions = Port("positions", ("T",), "int32")
        return StepContract((positions, stream), (), (), new_groups(layers, cell_type), cell_type, None)
    whole = step_contract(spec, cell_type)
    inputs = whole.inputs if not part.first else (stream, *whole.inputs[1:])
    changes = CHANGES if part.last < blocks else ()
    return StepContract(
        inputs=inputs,
        outputs=(
            Port(NEXT_STREAM, ("T", spec.hidden_size)),
            *(Port(name, ("R", spec.hidden_size)) for name in changes),
        ),
        groups=whole.groups,
        new=whole.new,
        cell_type=cell_type,
        window=whole.window,
    )


def stream_part_contract(
    part: StreamPart, spec: DecoderSpec, outputs: tuple[Port, ...] = (), cell_type: CellType = "float32"
) -> StepContract:
    """The contract of a part of a decoder whose streams run in its top blocks only.

    Both have cells of their own layers, numbered from 0.

    Args:
        part: which one.
        spec: of its blocks.
        outputs: of the top, beside logits.
        cell_type: how cells are stored.
    """
    whole = step_contract(spec, cell_type, outputs=outputs)
    if part.part == "below":
        return replace(whole, outputs=(Port(NEXT_STREAM, ("T", spec.hidden_size)),))
    stream, streams = Port(STREAM, ("T", spec.hidden_size)), Port(STREAMS, ("T", part.count))
    return replace(whole, inputs=(stream, *whole.inputs[1:], streams))


def draft_contract(hidden_size: int, vocabulary: int) -> StepContract:
    """The contract of a trained draft: every token has a state and logits, and there are no cells.

    Args:
        hidden_size: E.
        vocabulary: V', tokens that it proposes.
    """
    return StepContract(
        inputs=(Port("tokens", ("T",), "int32"), Port(STATE, ("T", hidden_size))),
        outputs=(Port("logits", ("T", vocabulary)), Port(NEXT_STATE, ("T", hidden_size))),
        groups=(),
        new=(),
        cell_type="float32",
        window=None,
    )


def layer_cells(spec: DecoderSpec) -> tuple[LayerCells | None, ...]:
    """Keys and values of every layer that attends; None for one that reads another layer's cells."""
    return tuple(layer.cells for layer in spec.layers)


def cell_groups(layers: Iterable[LayerCells | None], cell_type: CellType) -> tuple[CellGroup, ...]:
    """Arrays for cells, a kind of layer after the other, in the order in which each first occurs.

    Args:
        layers: keys and values of every layer; None for one without cells of its own.
        cell_type: how cells are stored; int8 ones have an array of values and one of scales, one for every
            key and every value of a head (docs/decisions/0009).
    """
    groups: list[CellGroup] = []
    for i, ((heads, size), members) in enumerate(_kinds(layers).items()):
        suffix = f".{i}" if i else ""
        groups.append(CellGroup(f"kv{suffix}", members, heads, (size,), cell_type))
        if cell_type == "int8":
            groups.append(CellGroup(f"scales{suffix}", members, heads, (), "float32"))
    return tuple(groups)


def new_groups(layers: Iterable[LayerCells | None], cell_type: CellType) -> tuple[CellGroup, ...]:
    """Arrays for new keys and values: float32, but float16 where cells are."""
    dtype: NumberType = "float16" if cell_type == "float16" else "float32"
    return tuple(
        CellGroup(f"new.{i}" if i else "new", members, heads, (size,), dtype)
        for i, ((heads, size), members) in enumerate(_kinds(layers).items())
    )


def _kinds(layers: Iterable[LayerCells | None]) -> dict[LayerCells, tuple[int, ...]]:
    """Numbers of the layers of each kind, kinds in the order in which they first occur."""
    kinds: dict[LayerCells, list[int]] = {}
    for number, cells in enumerate(layers):
        if cells is not None:
            kinds.setdefault(cells, []).append(number)
    return {kind: tuple(members) for kind, members in kinds.items()}
