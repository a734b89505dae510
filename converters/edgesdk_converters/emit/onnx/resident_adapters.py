"""Adapters beside a resident model: inputs with empty defaults, and files that fill them.

Every product that an adapter changes gets two inputs, `PRODUCT.lora_A` (I, r) and `PRODUCT.lora_B`
(r, O), whose defaults have a rank of 0: who hands nothing in runs the model as it is. That is how ONNX
Runtime takes adapters (onnxruntime.ai, "Multi-LoRA"), and onnxruntime-genai hands in what its
`.onnx_adapter` files hold. One adapter is active at a time, so there are no gates: scales lie in B.
Products that were fused keep inputs of their own, because B of a fused one would be mostly zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np

from edgesdk.bundle.adapter_record import INNER_INPUT, WRITTEN_INPUT, AdapterRecord, adapter_file_name
from edgesdk.bundle.stack_record import GATES
from edgesdk.errors import EmitError, MissingExtra
from edgesdk_converters.emit.onnx.resident_state import AdapterInput, ResidentLowering
from edgesdk_converters.graph.graph import Graph, Node
from edgesdk_converters.graph.low_rank_term import INNER, WRITTEN
from edgesdk_converters.graph.ops import Linear, LowRank, Split
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import Array
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights


def check_terms(program: Program, weights: QuantisedWeights) -> None:
    """Refuses terms of low rank that the files cannot hold.

    Raises:
        EmitError: a recipe stores A as integers.
    """
    for node in program.graph.nodes:
        if isinstance(node.op, LowRank):
            inner, _ = _inner(program.graph, node)
            scheme = weights.scheme(inner.inputs[1])
            if scheme is not None:
                raise EmitError(
                    f"recipe {weights.recipe.name} stores {inner.inputs[1]!r} in {scheme.bits} bits, and "
                    "adapter files of the target onnx hold floating point numbers; leave that rule out"
                )


def inner_outputs(graph: Graph) -> frozenset[str]:
    """First outputs of the nodes that only make what terms of low rank are multiplied with."""
    found: set[str] = set()
    inner: set[str] = set()
    for node in reversed(graph.nodes):
        if isinstance(node.op, LowRank):
            inner.update(node.inputs[1:3])
        elif inner.issuperset(node.outputs) and not set(node.outputs) & set(graph.outputs):
            found.add(node.outputs[0])
            inner.update(name for name in node.inputs if name == GATES)
            if isinstance(node.op, Split):
                inner.update(node.inputs)
    return frozenset(found)


def lower_low_rank(state: ResidentLowering, node: Node) -> None:
    """Appends y + (x A) B, whose A and B are inputs."""
    op, out = cast(LowRank, node.op), node.outputs[0]
    inner, row = _inner(state.graph, node)
    x = state.use(inner.inputs[0])
    size = int(state.graph.values[inner.inputs[0]].shape[-1])
    written = iter(node.inputs[3:])
    added = []
    for number, part in enumerate(op.parts):
        product = f"{out}.{number}"
        if part.rank:
            name = next(written)
            product = name.removesuffix(WRITTEN)
            rows, columns = _places(part.ranks, row), _places(part.ranks, 0)
            state.adapter_inputs.append(AdapterInput(product, inner.inputs[1], rows, name, columns))
        row += part.rank
        added.append(_term(state, x, product, size, part.width))
    total = added[0]
    if len(added) > 1:
        total = state.model.node("Concat", added, [f"{out}.added"], {"axis": -1})
    state.model.node("Add", [state.use(node.inputs[0]), total], [out])


def write_adapters(
    inputs: Sequence[AdapterInput],
    weights: QuantisedWeights,
    folder: Path,
    records: Sequence[AdapterRecord],
) -> None:
    """Writes a file for each adapter, with what it changes and no more.

    Raises:
        MissingExtra: onnxruntime is not installed.
    """
    try:
        from onnxruntime import AdapterFormat, OrtValue
    except ImportError as error:
        raise MissingExtra("onnxruntime", "onnx") from error
    for record in records:
        held: dict[str, Array] = {}
        for given in inputs:
            rows, columns = given.rows[record.gate], given.columns[record.gate]
            if rows.start == rows.stop:
                continue
            held[f"{given.product}{INNER_INPUT}"] = weights.load(given.inner)[rows].T
            held[f"{given.product}{WRITTEN_INPUT}"] = weights.load(given.written)[:, columns].T
        file = AdapterFormat()
        file.set_adapter_version(1)
        file.set_model_version(1)
        values = {
            name: OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array, np.float32))
            for name, array in held.items()
        }
        file.set_parameters(values)
        file.export_adapter(str(folder / adapter_file_name(record)))


def _term(state: ResidentLowering, x: str, product: str, size: int, width: int) -> str:
    rank, made = f"{product}.rank", x
    for end, shape, empty in (
        (INNER_INPUT, (size, rank), (size, 0)),
        (WRITTEN_INPUT, (rank, width), (0, width)),
    ):
        name = f"{product}{end}"
        state.model.input(name, "FLOAT", shape)
        state.model.constant(name, "FLOAT", empty, lambda empty=empty: np.empty(empty, np.float32))  # type: ignore[misc]
        made = state.model.node("MatMul", [made, name], [f"{name}.out"])
    return made


def _inner(graph: Graph, node: Node) -> tuple[Node, int]:
    """The product with A that a term is made from, and at which of its rows the term's begin."""
    value, row = node.inputs[1], 0
    while True:
        made = graph.producer(value)
        if made is not None and isinstance(made.op, Linear) and made.inputs[1].endswith(INNER):
            return made, row
        if made is None or not isinstance(made.op, Split):
            raise EmitError(f"the ONNX resident emitter finds no product that makes {value!r}")
        row += sum(made.op.sizes[: made.outputs.index(value)])
        value = made.inputs[0]


def _places(ranks: Sequence[int], first: int) -> tuple[slice, ...]:
    ends = first + np.cumsum(ranks)
    return tuple(slice(int(end) - rank, int(end)) for rank, end in zip(ranks, ends, strict=True))
