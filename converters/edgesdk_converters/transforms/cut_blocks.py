"""Cuts a decoder between blocks: parts that read and give the residual stream, on the very same weights.

What a part computes is what the whole computes there, operation by operation, so parts in a row are the
whole to the last bit. It comes after every other transform: the stream between parts is whatever the file's
is, rotated or not (`rotate_residual` refuses an input that joins the stream). The shape follows AdaInfer (Fan
et al., IJCAI 2025, section 3): a model that may be left after some of its blocks.

Letters: T tokens, R rows, E hidden size.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from edgesdk.bundle.decoder_block import Block, Convolution
from edgesdk.bundle.decoder_spec import DecoderSpec, Half
from edgesdk.bundle.exit_record import CHANGES, LABELS, NEXT_STREAM, STREAM
from edgesdk.bundle.step_names import CACHE, NEW, CellName
from edgesdk.errors import TransformError
from edgesdk_converters.graph.graph import Graph, GraphBuilder, Node
from edgesdk_converters.graph.ops import Attend, Embed, RowProducts, TakeRows
from edgesdk_converters.graph.program import Program
from edgesdk_converters.transforms.head_product import head_product
from edgesdk_converters.transforms.skip_layers import residual_sum


def check_cuttable(spec: DecoderSpec, exits: Sequence[int]) -> None:
    """Refuses a decoder that cannot be left after these blocks.

    Args:
        spec: the decoder.
        exits: how many blocks have run before each exit, rising.

    Raises:
        TransformError: saying what stands in the way.
    """
    name, blocks = spec.architecture, len(spec.blocks)
    bounds = (0, *exits, blocks)
    if any(after - before < 2 for before, after in pairwise(bounds[:-1])) or bounds[-2] >= blocks:
        raise TransformError(
            f"exits after {', '.join(map(str, exits))} of {blocks} blocks: expected rising numbers below "
            f"{blocks}, each two or more above the one before"
        )
    tied = why_whole(spec)
    if tied is not None:
        raise TransformError(f"{name} {tied}")
    if spec.head_rows is not None:
        raise TransformError("a head that writes some tokens only has no exits; prune both vocabularies")
    for last in exits:
        halves = [b.number for b in spec.blocks[last - 2 : last] if not (b.mixer and b.feed_forward)]
        if halves:
            raise TransformError(f"block {halves[0]} lacks a half, so no exit can be judged after it")
    if any(not any(b.mixer for b in spec.blocks[a:z]) for a, z in pairwise(bounds)):
        raise TransformError("a segment has no attention; choose other exits")


def why_whole(spec: DecoderSpec) -> str | None:
    """What of a decoder's blocks keeps it in one piece, wherever it were cut; None where it can be."""
    if spec.convolving:
        return "has convolutions, whose cells no segment keeps; it cannot be cut"
    if any(isinstance(block.mixer, Convolution) for block in spec.blocks):
        return "has short convolutions; it cannot be cut into segments"
    if spec.layer_inputs is not None or any(block.layer_input for block in spec.blocks):
        return "reads the token in every block; it cannot be cut into segments"
    if any(layer.reads is not None for layer in spec.layers):
        return "has layers that read others' cells; it cannot be cut into segments"
    return None


def take_blocks(program: Program, first: int, last: int) -> Program:
    """A segment: blocks from `first` on, up to before `last`, of a decoder.

    Returns:
        A program on the same weights, whose layers and cells are numbered from 0. It reads `tokens` (T,) or,
        where blocks come before it, `stream` (T, E), and gives `next_stream` (T, E) and, where blocks follow,
        the outputs `CHANGES` (R, E).

    Raises:
        TransformError: the graph is not that of a decoder.
    """
    graph, spec = program.graph, program.spec
    segment = replace(spec, blocks=spec.blocks[first:last])
    renamed = {_stream_after(graph, spec.blocks[last - 1]): NEXT_STREAM, **numbered(spec, first, last)}
    if first:
        renamed[_stream_after(graph, spec.blocks[first - 1])] = STREAM
    changes = _changes(graph, spec.blocks[:last]) if last < len(spec.blocks) else {}
    new = new_cells(graph, renamed)
    wanted = [_stream_after(graph, spec.blocks[last - 1]), *changes.values(), *new]
    inputs = {"positions", "mask", "rows", *(() if first else ("tokens",))}
    inputs |= {"window_mask"} if segment.window is not None else set()
    builder = Cut(graph, renamed, segment).copy(inputs, wanted)
    for name, value in changes.items():
        builder.add(TakeRows(), [renamed.get(value, value), "rows"], name)
    kept = [renamed[name] for name in new]
    built = builder.build([NEXT_STREAM, *changes, *kept])
    return replace(program, spec=segment, graph=built)


def take_head(program: Program) -> Program:
    """The head alone: `stream` (T, E) in, `logits` (T, V) out, by the model's own norm and head.

    Raises:
        TransformError: the head is no single product, or does not read a norm of the stream.
    """
    graph, spec = program.graph, program.spec
    end = _stream_after(graph, spec.blocks[-1])
    taken = next((n for n in graph.nodes if isinstance(n.op, TakeRows)), None)
    try:
        head_product(graph)
    except TransformError as error:
        raise TransformError(
            "the head is no single product (recipes that keep outliers apart, as source for litert, make it "
            "two), so it cannot stand alone; take another recipe, or leave exits out"
        ) from error
    if taken is None:
        raise TransformError("no rows are taken before the head, so it cannot stand alone")
    # Whether rows are taken before the norm or after it, every token is one here.
    renamed = {end: STREAM}
    renamed[taken.outputs[0]] = renamed.get(taken.inputs[0], taken.inputs[0])
    builder = Cut(graph, renamed, spec).copy(set(), ["logits"], dropped={taken.outputs[0]})
    return replace(program, graph=builder.build(["logits"]))


def take_label_head(program: Program) -> Program:
    """The head over some tokens alone: `stream` (T, E) and `labels` (R,) in, `logits` (T, R) out.

    The rows of the head's own matrix are picked while it runs, so any tokens will do; norm, scale and cap
    are those of the head.

    Raises:
        TransformError: the head does not read a norm of the stream, or adds a bias.
    """
    head = take_head(program)
    product = head_product(head.graph)
    x, matrix, *bias = product.inputs
    if bias:
        raise TransformError("the head adds a bias, of which no rows are picked; it has no head over labels")
    builder = GraphBuilder()
    for value in head.graph.inputs:
        builder.input(value.name, value.shape, value.dtype)
    builder.input(LABELS, ("R",), "int32")
    for weight in head.graph.weights:
        builder.weight(weight.name, weight.shape)
    for node in head.graph.nodes:
        if node is product:
            (rows,) = builder.add(Embed(), [LABELS, matrix], "labels.rows")
            builder.add(RowProducts(), [x, rows], *node.outputs)
        else:
            builder.add(node.op, node.inputs, *node.outputs)
    return replace(head, graph=builder.build(["logits"]))


def take_fill(program: Program, first: int, last: int) -> Program:
    """Keys and values that blocks from `first` on, up to before `last`, make of one stream.

    Every block reads the stream of the exit in place of its own, as if those between had added nothing.

    Returns:
        A program on the same weights: `positions` (T,) and `stream` (T, E) in, new keys and values of the
        blocks' layers out, numbered from 0.

    Raises:
        TransformError: the graph is not that of a decoder.
    """
    graph, spec = program.graph, program.spec
    blocks = spec.blocks[first:last]
    segment = replace(spec, blocks=blocks)
    renamed = numbered(spec, first, last)
    for before in spec.blocks[first - 1 : last - 1]:
        renamed[_stream_after(graph, before)] = STREAM
    wanted = new_cells(graph, renamed)
    builder = Cut(graph, renamed, segment).copy({"positions"}, wanted, cells=False)
    return replace(program, spec=segment, graph=builder.build([renamed[name] for name in wanted]))


class Cut:
    """Copies what leads to some values of a graph, under other names."""

    def __init__(self, graph: Graph, renamed: Mapping[str, str], segment: DecoderSpec) -> None:
        """Copies nothing yet.

        Args:
            graph: that is cut.
            renamed: names of values in the copy, where they are others; what becomes `STREAM` is an input.
            segment: the decoder of the copy.
        """
        self._graph, self._renamed, self._segment = graph, renamed, segment

    def copy(
        self,
        inputs: Collection[str],
        wanted: Sequence[str],
        *,
        dropped: Collection[str] = (),
        cells: bool = True,
    ) -> GraphBuilder:
        """A builder that has everything but the outputs.

        Args:
            inputs: of the graph that stay.
            wanted: values that are to be made.
            dropped: values that are others by another name.
            cells: whether cells are read.
        """
        graph, renamed = self._graph, self._renamed
        ends = {name for name, to in renamed.items() if to == STREAM}
        kept = self._needed(wanted, ends, dropped)
        builder = GraphBuilder()
        for value in graph.inputs:
            cell = CellName.parse(value.name)
            if value.name in inputs or (cells and cell is not None and value.name in renamed):
                builder.input(renamed.get(value.name, value.name), value.shape, value.dtype)
        if ends:
            builder.input(STREAM, ("T", self._segment.hidden_size))
        for weight in graph.weights:
            builder.weight(weight.name, weight.shape)
        offset = self._offset()
        for node in kept:
            op = replace(node.op, layer=node.op.layer - offset) if isinstance(node.op, Attend) else node.op
            names = [renamed.get(name, name) for name in node.inputs]
            builder.add(op, names, *(renamed.get(name, name) for name in node.outputs))
        return builder

    def _needed(self, wanted: Sequence[str], ends: set[str], dropped: Collection[str]) -> list[Node]:
        needed, kept = set(wanted), []
        for node in reversed(self._graph.nodes):
            if needed.isdisjoint(node.outputs) or not ends.isdisjoint(node.outputs):
                continue
            needed.update(node.inputs[:1] if node.outputs[0] in dropped else node.inputs)
            if node.outputs[0] not in dropped:
                kept.append(node)
        return kept[::-1]

    def _offset(self) -> int:
        """The number in the whole decoder of the first layer of the segment."""
        places = [
            node.op.layer
            for node in self._graph.nodes
            if isinstance(node.op, Attend)
            and self._renamed.get(str(CellName("k", NEW, node.op.layer))) == str(CellName("k", NEW, 0))
        ]
        return places[0] if places else 0


def new_cells(graph: Graph, renamed: Mapping[str, str]) -> list[str]:
    """Outputs that are new keys and values of a part's layers, as the whole names them."""
    cells = ((name, CellName.parse(name)) for name in graph.outputs if name in renamed)
    return [name for name, cell in cells if cell is not None and cell.kind == NEW]


def numbered(spec: DecoderSpec, first: int, last: int) -> dict[str, str]:
    """Names of the cells of some blocks, as the whole has them and numbered from 0."""
    before = sum(block.mixer is not None for block in spec.blocks[:first])
    count = sum(block.mixer is not None for block in spec.blocks[first:last])
    return {
        str(CellName(side, kind, before + layer)): str(CellName(side, kind, layer))
        for layer in range(count)
        for side in "kv"
        for kind in (CACHE, NEW)
    }


def _stream_after(graph: Graph, block: Block) -> str:
    """The value that holds the stream after a block.

    Raises:
        TransformError: the graph has none.
    """
    if block.scaled:
        name = f"layers.{block.number}.out"
        if name in graph.values:
            return name
    half = Half(block.number, "mlp" if block.feed_forward is not None else "attention")
    return residual_sum(graph, half).outputs[0]


def _changes(graph: Graph, blocks: Sequence[Block]) -> dict[str, str]:
    """The values whose rows tell how the last block differs from the one before it, by output."""
    before, last = blocks[-2:]
    values = [
        residual_sum(graph, Half(block.number, kind)).inputs[1]
        for kind in ("attention", "mlp")
        for block in (last, before)
    ]
    return dict(zip(CHANGES, [*values, _stream_after(graph, before)], strict=True))
