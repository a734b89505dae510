"""Cuts a decoder with streams where they begin: tokens alone below, tokens and streams above.

A stream of the form `streams` goes on with the state of its token, so nothing of it has to run before that
place (Bhendawade et al.: Speculative Streaming, arXiv 2402.11131, section 3.1). Both parts compute what the
whole computes there, on the very same weights. It comes after every other transform.

Letters: T tokens, E hidden size, G streams.
"""

from __future__ import annotations

from dataclasses import replace

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.exit_record import NEXT_STREAM, STREAM
from edgesdk.bundle.stack_record import SOURCES, STREAMS
from edgesdk.bundle.step_names import CellName
from edgesdk.errors import TransformError
from edgesdk_converters.graph.graph import Graph, Node
from edgesdk_converters.graph.ops import TakeRows
from edgesdk_converters.graph.program import Program
from edgesdk_converters.transforms.cut_blocks import Cut, new_cells, numbered, why_whole


def can_cut_streams(spec: DecoderSpec, first: int) -> bool:
    """Whether both parts are decoders with cells of their own.

    Args:
        spec: of the whole.
        first: blocks before the streams begin.
    """
    parts = (spec.blocks[:first], spec.blocks[first:])
    return why_whole(spec) is None and all(any(block.mixer for block in part) for part in parts)


def take_below(program: Program, first: int) -> Program:
    """What comes before the streams: `tokens` (T,) in, `next_stream` (T, E) out, cells of its layers.

    Raises:
        TransformError: the program has no streams that begin in its middle.
    """
    graph, spec = program.graph, program.spec
    start = _where(graph).inputs[0]
    part = replace(spec, blocks=spec.blocks[:first])
    renamed = {start: NEXT_STREAM, **numbered(spec, 0, first)}
    new = new_cells(graph, renamed)
    inputs = {"tokens", "positions", "rows", "mask"} | _window(part)
    builder = Cut(graph, renamed, part).copy(inputs, [start, *new])
    return replace(program, spec=part, graph=builder.build([NEXT_STREAM, *(renamed[name] for name in new)]))


def take_top(program: Program, first: int) -> Program:
    """What runs streams: `stream` (T, E) and `streams` (T, G) in, whatever the whole gives out.

    A stream's row of `stream` is that of its token.

    Raises:
        TransformError: the program has no streams that begin in its middle.
    """
    graph, spec = program.graph, program.spec
    taken = _where(graph)
    part = replace(spec, blocks=spec.blocks[first:])
    renamed = {taken.inputs[0]: STREAM, taken.outputs[0]: STREAM, **numbered(spec, first, len(spec.blocks))}
    new = new_cells(graph, renamed)
    given = [name for name in graph.outputs if CellName.parse(name) is None]
    inputs = {"positions", "rows", "mask", STREAMS} | _window(part)
    builder = Cut(graph, renamed, part).copy(inputs, [*given, *new])
    return replace(program, spec=part, graph=builder.build([*given, *(renamed[name] for name in new)]))


def _where(graph: Graph) -> Node:
    """What has streams go on with the state of their token."""
    found = next((n for n in graph.nodes if isinstance(n.op, TakeRows) and n.inputs[1] == SOURCES), None)
    if found is None:
        raise TransformError("no streams begin in the middle of the program")
    return found


def _window(part: DecoderSpec) -> set[str]:
    return set() if part.window is None else {"window_mask"}
