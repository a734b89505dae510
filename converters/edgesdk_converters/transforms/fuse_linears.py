"""Fuses linear layers that read the same value into one product followed by a split.

q, k and v become one matrix, gate and up another: fewer, larger products keep more of the machine
busy, and activations are quantised once instead of three times. What terms of low rank are made by is fused
with its like, and stays apart from the matrix beside it, which a recipe may store otherwise.
"""

from __future__ import annotations

import numpy as np

from edgesdk.bundle.manifest import TransformRecord
from edgesdk_converters.checkpoints.stored_blocks import BlockType, StoredBlocks, block_type, stack_blocks
from edgesdk_converters.graph.graph import Graph, Node, Value, rebuild
from edgesdk_converters.graph.low_rank_term import INNER, STREAM_INNER, is_inner
from edgesdk_converters.graph.ops import Linear, Split
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import Array, Derived, DerivedWeights, Weights, load_rows, stored_blocks


def fuse_linears(program: Program, *, keep_blocks: bool = False) -> Program:
    """Returns the program with sibling linear layers fused; every output row is computed as before.

    Args:
        program: any.
        keep_blocks: fuse only layers whose weights lie in blocks of the same kind, or in none.
    """
    graph = program.graph
    groups = _groups(graph, program.weights, keep_blocks)
    leaders = {group[0].outputs[0]: group for group in groups}
    members = {node.outputs[0] for group in groups for node in group}
    changed: dict[str, Derived] = {}
    removed: set[str] = set()
    added: list[Value] = []
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.outputs[0] in leaders:
            nodes.extend(_fuse(program.weights, leaders[node.outputs[0]], changed, added))
        elif node.outputs[0] not in members:
            nodes.append(node)
    for group in groups:
        removed.update(name for node in group for name in node.inputs[1:])
    weights = [v for v in graph.weights if v.name not in removed] + added
    return Program(
        spec=program.spec,
        graph=rebuild(graph, nodes, weights),
        weights=DerivedWeights(program.weights, changed, frozenset(removed)),
        history=(*program.history, TransformRecord("fuse_linears", {"groups": len(groups)})),
    )


def _groups(graph: Graph, weights: Weights, keep_blocks: bool) -> list[list[Node]]:
    by_input: dict[tuple[str, int, BlockType | None, bool], list[Node]] = {}
    for node in graph.nodes:
        alone = all(len(graph.users(name)) == 1 for name in node.inputs[1:])
        if isinstance(node.op, Linear) and alone and node.outputs[0] not in graph.outputs:
            kind = block_type(weights, node.inputs[1]) if keep_blocks else None
            inner = is_inner(graph, node.outputs[0])
            by_input.setdefault((node.inputs[0], len(node.inputs), kind, inner), []).append(node)
    return [group for group in by_input.values() if len(group) > 1]


def _fuse(
    weights: Weights, group: list[Node], changed: dict[str, Derived], added: list[Value]
) -> tuple[Node, Node]:
    fused = _joined([node.inputs[1] for node in group])
    inputs = [group[0].inputs[0]]
    for slot, name in enumerate((fused, f"{fused}.bias")[: len(group[0].inputs) - 1], start=1):
        parts = tuple(node.inputs[slot] for node in group)
        shapes = [weights.shape(part) for part in parts]
        shape = (sum(s[0] for s in shapes), *shapes[0][1:])
        kinds = {block_type(weights, part) for part in parts}
        changed[name] = Derived(
            shape,
            lambda base, parts=parts: _stack(base, parts),  # type: ignore[misc]
            parts=parts,
            kind=kinds.pop() if len(kinds) == 1 else None,
            blocks=lambda base, parts=parts: _stack_blocks(base, parts),  # type: ignore[misc]
            rows=lambda base, start, stop, parts=parts: _stack_rows(base, parts, start, stop),  # type: ignore[misc]
        )
        added.append(Value(name, shape))
        inputs.append(name)
    sizes = tuple(weights.shape(node.inputs[1])[0] for node in group)
    out = f"{fused}.out"
    return (
        Node(Linear(), tuple(inputs), (out,)),
        Node(Split(sizes), (out,), tuple(node.outputs[0] for node in group)),
    )


def _joined(names: list[str]) -> str:
    """layers.0.q and layers.0.k are layers.0.q_k; what they have at their end they keep there."""
    ends = (end for end in (INNER, STREAM_INNER) if all(name.endswith(end) for name in names))
    end = next(ends, "")
    names = [name.removesuffix(end) for name in names]
    stem, dot, _ = names[0].rpartition(".")
    return stem + dot + "_".join(name.rpartition(".")[2] for name in names) + end


def _stack(base: Weights, parts: tuple[str, ...]) -> Array:
    return np.concatenate([base.load(part) for part in parts], axis=0)


def _stack_rows(base: Weights, parts: tuple[str, ...], start: int, stop: int) -> Array:
    found, before = [], 0
    for part in parts:
        rows = base.shape(part)[0]
        first, last = max(start - before, 0), min(stop - before, rows)
        if first < last:
            found.append(load_rows(base, part, first, last))
        before += rows
    return found[0] if len(found) == 1 else np.concatenate(found, axis=0)


def _stack_blocks(base: Weights, parts: tuple[str, ...]) -> StoredBlocks:
    return stack_blocks([stored_blocks(base, part) for part in parts])
