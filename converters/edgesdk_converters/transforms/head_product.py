"""Finds the product that makes the logits, whatever scales or bends it afterwards."""

from __future__ import annotations

from edgesdk.errors import TransformError
from edgesdk_converters.graph.graph import Graph, Node
from edgesdk_converters.graph.ops import Linear, LowRank, Scale, Softcap


def head_product(graph: Graph) -> Node:
    """The product with the head: its first input is what the head reads, its second the matrix.

    Raises:
        TransformError: no product makes the logits.
    """
    product = graph.producer("logits")
    while product is not None and isinstance(product.op, Scale | Softcap | LowRank):
        product = graph.producer(product.inputs[0])
    if product is None or not isinstance(product.op, Linear):
        raise TransformError("no product makes the logits")
    return product
