"""Where streams begin in a decoder's graph."""

from __future__ import annotations

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk_converters.graph.graph import Graph
from edgesdk_converters.graph.ops import Add


def stream_before(graph: Graph, spec: DecoderSpec, place: int) -> str:
    """The value of the residual stream (T, E) that a block reads.

    Args:
        graph: as `build_decoder` makes it.
        spec: of the decoder.
        place: of the block.
    """
    at = f"layers.{spec.blocks[place].number}."
    joins = (node for node in graph.nodes if isinstance(node.op, Add) and node.outputs[0].startswith(at))
    return next(joins).inputs[0]
