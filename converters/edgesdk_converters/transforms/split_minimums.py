"""Splits weights whose blocks have minimums into symmetric blocks and a small product of block sums.

`x (d q + m)' = x (d q)' + sums(x) m'`, where sums(x) has one number per block of columns: kernels
for symmetric blocks then hold the file's own integers and scales. Exact, whatever the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial

import numpy as np

from edgesdk.bundle.manifest import TransformRecord
from edgesdk.errors import TransformError
from edgesdk_converters.checkpoints.stored_blocks import BlockType, StoredBlocks, block_type
from edgesdk_converters.graph.graph import Node, Value, rebuild
from edgesdk_converters.graph.ops import Add, BlockSums, Linear
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import Array, Derived, DerivedWeights, Weights, stored_blocks


def split_minimums(
    program: Program, names: Collection[str], *, positive_scales: bool = False, half_scales: bool = False
) -> Program:
    """Returns the program with the minimums of some weights split off; logits stay the same.

    Weights without minimums are left alone. `NAME` keeps its name and shape (O, I) and loses its
    minimums; `NAME.minimums` is (O, I / block).

    Args:
        program: any.
        names: weights whose blocks are to be kept; those with minimums feed linear layers only.
        positive_scales: also split weights of 4 bits so that no scale is zero or negative.
        half_scales: round scales to float16; logits change by as much as the blocks' `error` says.

    Raises:
        TransformError: a weight does not lie in blocks, or something else than a linear layer reads it.
    """
    graph = program.graph
    changed: dict[str, Derived] = {}
    added: list[Value] = []
    sums: dict[tuple[str, int], str] = {}
    split = {name: _kind(program, name) for name in names}
    rounded = {n for n, k in split.items() if half_scales and not k.half_scales}
    changing = {n: k for n, k in split.items() if n in rounded or k.needs_minimums(positive_scales)}
    split = {n: k for n, k in changing.items() if k.needs_minimums(positive_scales)}
    nodes: list[Node] = []
    for name, kind in changing.items():
        take = partial(_parts, name=name, positive=positive_scales, rounded=name in rounded)
        bare = replace(kind, minimums=False, half_scales=kind.half_scales or name in rounded)
        _change(program.weights, name, bare, take, changed)
        if name in split:
            _add_minimums(program.weights, name, kind.block, take, changed, added)
    for node in graph.nodes:
        found = [name for name in node.inputs if name in split]
        if not found:
            nodes.append(node)
        elif isinstance(node.op, Linear):
            nodes.extend(_split(node, split[found[0]].block, sums))
        else:
            raise TransformError(f"{type(node.op).__name__} reads {found[0]!r}, whose blocks have minimums")
    settings: dict[str, str | int | float | bool] = {"weights": len(split)}
    if rounded:
        settings["rounded_scales"] = len(rounded)
    return Program(
        spec=program.spec,
        graph=rebuild(graph, nodes, [*graph.weights, *added]),
        weights=DerivedWeights(program.weights, changed, frozenset()),
        history=(*program.history, TransformRecord("split_minimums", settings)),
    )


def _kind(program: Program, name: str) -> BlockType:
    kind = block_type(program.weights, name)
    if kind is None:
        raise TransformError(f"weight {name!r} does not lie in blocks")
    return kind


Take = Callable[[Weights], tuple[StoredBlocks, Array | None]]


def _change(weights: Weights, name: str, kind: BlockType, take: Take, changed: dict[str, Derived]) -> None:
    def bare(base: Weights) -> StoredBlocks:
        return take(base)[0]

    changed[name] = Derived(
        weights.shape(name),
        lambda base: bare(base).dequantise(),
        kind=kind,
        blocks=bare,
    )


def _add_minimums(
    weights: Weights,
    name: str,
    block: int,
    take: Take,
    changed: dict[str, Derived],
    added: list[Value],
) -> None:
    rows, columns = weights.shape(name)
    shape = (rows, columns // block)

    def minimums(base: Weights) -> Array:
        found = take(base)[1]
        return np.zeros(shape, np.float32) if found is None else found

    changed[f"{name}.minimums"] = Derived(shape, minimums, parts=(name,))
    added.append(Value(f"{name}.minimums", shape))


def _parts(base: Weights, *, name: str, positive: bool, rounded: bool) -> tuple[StoredBlocks, Array | None]:
    """Blocks without minimums, and the minimums.

    Raises:
        TransformError: a scale cannot be rounded to float16.
    """
    blocks = stored_blocks(base, name)
    try:
        return (blocks.with_half_scales() if rounded else blocks).split(positive_scales=positive)
    except ValueError as error:
        raise TransformError(f"weight {name!r}: {error}; use recipe w8") from error


def _split(node: Node, block: int, sums: dict[tuple[str, int], str]) -> list[Node]:
    """The nodes in place of one linear layer; siblings share their input's block sums."""
    x, weight, *bias = node.inputs
    out = node.outputs[0]
    nodes = []
    if (x, block) not in sums:
        sums[x, block] = f"{x}.sums.{block}"
        nodes.append(Node(BlockSums(block), (x,), (sums[x, block],)))
    main, side = f"{out}.symmetric", f"{out}.minimums"
    return [
        *nodes,
        Node(Linear(), (x, weight, *bias), (main,)),
        Node(Linear(), (sums[x, block], f"{weight}.minimums"), (side,)),
        Node(Add(), (main, side), (out,)),
    ]
