"""Emits the step graph as several Core ML packages, none larger than a limit.

Each has a function for every size, as the whole would; hidden states go from one to the next in the
compute type, so what the parts compute is what the whole computes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.package_list import PACKAGE_LIST_NAME, PackageList, write_package_list
from edgesdk.errors import EmitError
from edgesdk_converters.emit.coreml.emit_coreml import Layout, check_layout, compute_type, write_package
from edgesdk_converters.emit.coreml.split_graph import split_graph
from edgesdk_converters.graph.graph import Node
from edgesdk_converters.graph.ops import Linear, Rotate
from edgesdk_converters.graph.program import Program
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights

# Bytes of program for one node in one function, with the 64 or more that a blob takes for its header;
# SmolLM2's 600 nodes take 0.6 MB in a function.
_NODE_BYTES = 1500
_PACKAGE_BYTES = 4096


def emit_parts(
    program: Program,
    weights: QuantisedWeights,
    folder: Path,
    steps: Sequence[StepShape],
    context: int,
    layout: Layout,
    limit_bytes: int,
) -> PackageList:
    """Writes `part_1.mlpackage` and so on into a folder, and `packages.json` beside them.

    Args:
        program: the decoder.
        weights: its weights under a recipe.
        folder: where to write; it is there.
        steps: sizes, one function each in every package.
        context: positions that the rotary tables cover.
        layout: who owns the cells.
        limit_bytes: most of one package, all of its files together.

    Returns:
        The packages in the order in which they run.

    Raises:
        EmitError: the embedding, the head or half a block alone is larger than the limit, or as for
            `emit_coreml`.
        MissingExtra: coremltools is not installed.
    """
    check_layout(program, layout)
    parts = split_graph(program.graph, _size_in(program, weights, steps, context), limit_bytes)
    names = []
    for number, part in enumerate(parts, 1):
        names.append(f"part_{number}.mlpackage")
        path = folder / names[-1]
        write_package(part, weights, path, steps, context, layout)
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        if size > limit_bytes:
            raise EmitError(
                f"{names[-1]} has {size / 1e6:.2f} MB, the limit is {limit_bytes / 1e6:.2f}; give a larger "
                "one"
            )
    packages = PackageList(tuple(names))
    write_package_list(folder / PACKAGE_LIST_NAME, packages)
    return packages


def _size_in(
    program: Program, weights: QuantisedWeights, steps: Sequence[StepShape], context: int
) -> Callable[[Sequence[Node]], int]:
    """Estimates the bytes of a package from its nodes, rather above than below."""
    width = 4 if compute_type(weights.recipe) == "fp32" else 2
    sizes: dict[str, int] = {}
    for value in program.graph.weights:
        shape = weights.shape(value.name)
        if weights.scheme(value.name) is None:
            sizes[value.name] = width * (shape[0] * shape[1] if len(shape) == 2 else shape[0])
        else:
            sizes[value.name] = weights.stored(value.name).nbytes

    def size(nodes: Sequence[Node]) -> int:
        constants = {name for node in nodes for name in node.inputs if name in sizes}
        tables = {node.op.rotary for node in nodes if isinstance(node.op, Rotate)}
        zeros = {sizes_of[0] for sizes_of in _zeros(nodes, weights)}
        return (
            sum(sizes[name] for name in constants)
            + sum(table.size * context * width for table in tables)
            + sum(zeros) * width
            + len(nodes) * len(steps) * _NODE_BYTES
            + _PACKAGE_BYTES
        )

    return size


def _zeros(nodes: Sequence[Node], weights: QuantisedWeights) -> list[tuple[int, ...]]:
    """Shapes of matrices without a bias: the emitter stores zeros for it."""
    return [weights.shape(n.inputs[1]) for n in nodes if isinstance(n.op, Linear) and len(n.inputs) == 2]
