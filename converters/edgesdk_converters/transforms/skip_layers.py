"""Removes blocks, or halves of blocks, from a stack: what they would have added is not added.

Every half of a block writes to the residual stream in one place, an addition. Without the half, what
reads that sum reads the stream before it; nothing else changes, and no weight gets another name. So it
may come before or after any other transform, and a stack and its shallow copy can use the same weights.

Static removal of whole layers: ShortGPT (arXiv 2403.03853, section 3); of halves: "What Matters in
Transformers? Not All Attention is Needed" (arXiv 2406.15786). It does not choose what to remove.
"""

from __future__ import annotations

import dataclasses

from edgesdk.bundle.decoder_block import Attention, Block
from edgesdk.bundle.decoder_spec import DecoderSpec, Half
from edgesdk.bundle.manifest import TransformRecord
from edgesdk.bundle.step_names import CACHE, NEW, CellName
from edgesdk.errors import TransformError
from edgesdk_converters.graph.graph import Graph, GraphBuilder, Node
from edgesdk_converters.graph.ops import Add, Attend
from edgesdk_converters.graph.program import Program
from edgesdk_converters.transforms.skip_request import SkipRequest


def skip_layers(program: Program, request: SkipRequest) -> Program:
    """Returns the program without some halves of its blocks; without any change for an empty request.

    Args:
        program: a decoder, before or after other transforms.
        request: what to remove, numbered as in the checkpoint.

    Raises:
        TransformError: the stack lacks one of the halves, or nothing with cells would be left.
    """
    if not request.halves:
        return program
    spec, cells = remaining_spec(program.spec, request)
    graph = _bypass(
        program.graph, request, cells, windowed=spec.window is not None, convolutions=len(spec.convolving)
    )
    record = TransformRecord("skip_layers", {"skipped": request.describe(), "layers": len(spec.layers)})
    return Program(spec, graph, program.weights, (*program.history, record))


def remaining_spec(spec: DecoderSpec, request: SkipRequest) -> tuple[DecoderSpec, tuple[int, ...]]:
    """What is left of a stack.

    Returns:
        Its shape, and the index that each of its layers has in `spec.layers`.

    Raises:
        TransformError: the stack lacks one of the halves, what is left reads the keys and values of one, or
            no attention would be left.
    """
    there = spec.halves
    missing = [half for half in request.halves if half not in there]
    if missing:
        last = max(half.layer for half in there)
        what = "was removed already" if missing[0].layer <= last else f"the last block is {last}"
        if any(block.number == missing[0].layer for block in spec.convolving):
            what = "it is a convolution, which later tokens read; leave its mlp out alone"
        raise TransformError(f"block {missing[0]} cannot be skipped: {what}")
    attention = [half for half in there if half.kind == "attention"]
    cells = tuple(i for i, half in enumerate(attention) if half not in request.halves)
    if not cells:
        raise TransformError(
            f"skipping {request.describe()} leaves no attention of {len(attention)} layers; keep at least one"
        )
    blocks = tuple(left for block in spec.blocks if (left := _remaining(block, request)) is not None)
    for block in blocks:
        source = block.mixer.reads if isinstance(block.mixer, Attention) else None
        if source is not None and Half(source, "attention") in request.halves:
            raise TransformError(
                f"block {source}.attention cannot be skipped: block {block.number} reads its keys and values"
            )
    return dataclasses.replace(spec, blocks=blocks), cells


def _remaining(block: Block, request: SkipRequest) -> Block | None:
    mixer = None if Half(block.number, "attention") in request.halves else block.mixer
    feed_forward = None if Half(block.number, "mlp") in request.halves else block.feed_forward
    if mixer is None and feed_forward is None and not block.layer_input:
        return None
    return dataclasses.replace(block, mixer=mixer, feed_forward=feed_forward)


def residual_sum(graph: Graph, half: Half) -> Node:
    """The addition by which a half joins the stream: its first input is the stream before it.

    Raises:
        TransformError: the graph has none.
    """
    name = f"layers.{half.layer}.{'attn' if half.kind == 'attention' else 'mlp'}.sum"
    node = graph.producer(name)
    if node is None or not isinstance(node.op, Add):
        raise TransformError(f"the graph has no half {half} to skip")
    return node


def _bypass(
    graph: Graph, request: SkipRequest, cells: tuple[int, ...], *, windowed: bool, convolutions: int
) -> Graph:
    """The graph without some additions and all that only they need, its cells numbered anew."""
    renamed = {
        str(CellName(side, kind, old)): str(CellName(side, kind, new))
        for new, old in enumerate(cells)
        for side in "kv"
        for kind in (CACHE, NEW)
    }
    renamed |= {name: name for name in (str(CellName("x", NEW, i)) for i in range(convolutions))}
    dropped = {residual_sum(graph, half).outputs[0] for half in request.halves}
    given = dropped.intersection(graph.outputs)
    if given:
        raise TransformError(
            f"{min(given)!r} is an output; the half of a block that makes it cannot be skipped"
        )
    gone = {v.name for v in graph.inputs if CellName.parse(v.name) is not None} - set(renamed)
    if not windowed:
        gone.add("window_mask")
    outputs = [n for n in graph.outputs if n in renamed or CellName.parse(n) is None]
    needed = _needed(graph, outputs, dropped)
    builder = GraphBuilder()
    for value in graph.inputs:
        if value.name not in gone:
            builder.input(renamed.get(value.name, value.name), value.shape, value.dtype)
    for value in graph.weights:
        builder.weight(value.name, value.shape)
    for node in graph.nodes:
        if node.outputs[0] in dropped:
            renamed[node.outputs[0]] = renamed.get(node.inputs[0], node.inputs[0])
        elif needed.intersection(node.outputs):
            op = node.op
            if isinstance(op, Attend):
                op = dataclasses.replace(op, layer=cells.index(op.layer))
            inputs = [renamed.get(name, name) for name in node.inputs]
            builder.add(op, inputs, *(renamed.get(name, name) for name in node.outputs))
    return builder.build([renamed.get(name, name) for name in outputs])


def _needed(graph: Graph, outputs: list[str], dropped: set[str]) -> set[str]:
    """Every value that the outputs need once the dropped sums pass their first input through."""
    needed = set(outputs)
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs[:1] if node.outputs[0] in dropped else node.inputs)
    return needed
