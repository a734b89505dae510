"""Prunes the head alone: every token can be read, some can be written.

The head is what decoding pays for; the embedding table is only looked up. A tied table stays as it is, and
the head becomes a matrix of its own, with the rows of the tokens that may be written. Outputs beside the
logits stay. It comes before all transforms but those that drop layers, and does not know how the tokens
were chosen.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import TransformRecord
from edgesdk.errors import TransformError
from edgesdk_converters.checkpoints.stored_blocks import block_type
from edgesdk_converters.graph.graph import Graph, Node, Value, rebuild
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import Derived, DerivedWeights, stored_blocks
from edgesdk_converters.transforms.head_product import head_product

_EARLIER = ("skip_layers", "repair_stack")


def prune_head(program: Program, kept: NDArray[np.int64]) -> Program:
    """Returns the program with logits for some tokens only.

    Args:
        program: as its checkpoint has it, with or without `skip_layers` and `repair_stack`.
        kept: (N,) ids of the tokens that can be written, ascending.

    Returns:
        A program whose logits are (R, N): columns `kept` of the whole one's.

    Raises:
        TransformError: the ids do not ascend within the vocabulary, the head is pruned already, or
            another transform came first, or the matrix is the head of another output too.
    """
    spec = program.spec
    if spec.head_rows is not None or any(record.name not in _EARLIER for record in program.history):
        raise TransformError("the head is pruned once, and before any transform but skip_layers")
    if not len(kept) or (np.diff(kept) <= 0).any() or kept[0] < 0 or kept[-1] >= spec.vocab_size:
        raise TransformError(
            f"kept ids must ascend within 0 to {spec.vocab_size - 1}, and there must be some"
        )
    source = "embed" if spec.tied_head else "head"
    narrow = dataclasses.replace(spec, tied_head=False, head_rows=len(kept))
    kind = block_type(program.weights, source)
    head = Derived(
        (len(kept), spec.hidden_size),
        lambda base: base.load(source)[kept],
        parts=(source,),
        kind=kind,
        blocks=None if kind is None else lambda base: stored_blocks(base, source).take_rows(kept),
    )
    return Program(
        spec=narrow,
        graph=_with_own_head(program.graph, source, len(kept)),
        weights=DerivedWeights(program.weights, {"head": head}, frozenset()),
        history=(*program.history, TransformRecord("prune_head", {"tokens": len(kept)})),
    )


def _with_own_head(graph: Graph, source: str, rows: int) -> Graph:
    """The graph whose logits are the product with a matrix `head` of so many rows."""
    product = head_product(graph)
    if product.inputs[1] != source:
        raise TransformError(f"no product with {source!r} makes the logits")
    if source == "head" and len(graph.users(source)) > 1:
        raise TransformError("the head makes another output, too; give that a matrix of its own")
    x, _, *bias = product.inputs
    nodes = [
        Node(node.op, (x, "head", *bias), node.outputs) if node is product else node for node in graph.nodes
    ]
    head = Value("head", (rows, *graph.values[source].shape[1:]))
    return rebuild(graph, nodes, [*(w for w in graph.weights if w.name != "head"), head])
