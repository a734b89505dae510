"""Profiles a LiteRT step: operators as LiteRT and XNNPACK report them, put beside the file's own.

XNNPACK gives its operators names of kinds only (`Fully Connected (NC, QD8, ...)`), in the order of the graph,
and fuses some. So both lists are walked together: an operator goes with the next one of the graph, not far
ahead, whose kind can have become it. Where the matrix products, which are never fused, do not all meet their
own, layers are not told at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgesdk.backends.aligned_array import aligned_array
from edgesdk.backends.cell_arrays import cell_views
from edgesdk.backends.litert.cell_inputs import turn_mask
from edgesdk.backends.litert.forms import forms_here
from edgesdk.backends.litert.graph_operations import GraphOperation, read_signature
from edgesdk.backends.litert.host_memory import Bindable
from edgesdk.backends.litert.keep_signatures import signature_names
from edgesdk.backends.litert.operator_profiler import OperatorEvent, OperatorProfiler
from edgesdk.backends.litert.weight_cache import find_packed
from edgesdk.backends.opened import OpenRequest
from edgesdk.backends.protocol import Cells, StepBuffers
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_contract import step_contracts
from edgesdk.bundle.step_names import has_few_columns, litert_tensors
from edgesdk.errors import DeviceError
from edgesdk.evaluation.step_profile import OperationTime, layer_of, mean_of_faster_half

# First words of XNNPACK's names, by what they come from. Longer names stand before their beginnings.
_KINDS = (
    ("fully connected", ("FULLY_CONNECTED",)),
    ("batch matrix multiply", ("BATCH_MATMUL",)),
    ("mean", ("MEAN",)),
    ("reciprocal square root", ("RSQRT",)),
    ("square", ("SQUARE", "MUL")),
    ("multiply", ("MUL",)),
    ("add", ("ADD",)),
    ("subtract", ("SUB",)),
    ("softmax", ("SOFTMAX",)),
    ("sigmoid", ("LOGISTIC",)),
    ("tanh", ("TANH",)),
    ("gelu", ("GELU",)),
    ("slice", ("SLICE", "STRIDED_SLICE")),
    ("static reshape", ("RESHAPE",)),
    ("copy", ("CONCATENATION", "RESHAPE")),
    ("concatenate", ("CONCATENATION",)),
    ("transpose", ("TRANSPOSE",)),
    ("convert", ("DEQUANTIZE", "QUANTIZE", "CAST")),
)
_PRODUCTS = ("FULLY_CONNECTED", "BATCH_MATMUL")
_AHEAD = 6
"""Operators of the graph that may have been fused away between two that XNNPACK reports."""


@dataclass(frozen=True)
class Profiled:
    """What profiling gave: operations in order, and microseconds of a run, means over the faster half."""

    operations: tuple[OperationTime, ...]
    run_us: float
    notes: tuple[str, ...]


def profile_litert(
    request: OpenRequest, shape: StepShape, arrays: StepBuffers, cells: Cells, repeat: int
) -> Profiled:
    """Profiles one size of a LiteRT variant on the CPU.

    Args:
        request: what to open.
        shape: the size.
        arrays: its inputs, filled; outputs are overwritten.
        cells: for S cells, aligned.
        repeat: profiled runs.

    Raises:
        DeviceError: LiteRT's profiler cannot be used here, or LiteRT failed.
    """
    bundle, variant = request.bundle, request.variant
    path = bundle.file(variant.entry)
    named = set(signature_names(path))
    graph = read_signature(path, forms_here().name(shape, named.__contains__))
    contract = step_contracts(bundle.manifest, variant)[shape.stack]
    tensors = litert_tensors(contract, few=has_few_columns(graph.inputs))
    bound: dict[str, Bindable] = {}
    for tensor in (*tensors.inputs_of(shape), *tensors.ports_out):
        bound[tensor.name] = array = arrays.port(tensor.port.name)
        if tensor.new_first:
            bound[tensor.name] = turned = aligned_array(tensor.dtype, *tensor.shape(shape))
            turn_mask(array, turned)
    for parts, held in ((tensors.cells, cells), (tensors.new, arrays.kv_new)):
        for part, view in zip(parts, cell_views(parts, held), strict=True):
            bound[part.name] = view
    packed = find_packed(bundle.manifest.files[variant.entry].sha256)
    profiler = OperatorProfiler(path, graph, bound, threads=request.threads, weight_cache=packed)
    try:
        runs = [profiler.profile() for _ in range(repeat)]
    finally:
        profiler.close()
    events = runs[0][1]
    try:
        run_us, means = mean_of_faster_half([(took, [e.elapsed_us for e in found]) for took, found in runs])
    except ValueError as error:
        raise DeviceError("LiteRT reported other operators from run to run") from error
    places = match_operations(events, graph.operations)
    notes = ["XNNPACK reports whole microseconds, rounded down: what is missing counts as unattributed"]
    if places is None:
        notes.append("XNNPACK's operators could not be matched with the graph's: no layers, no bytes")
    operations = _operations(events, means, graph.operations, places)
    return Profiled(operations, run_us, tuple(notes))


def match_operations(
    events: Sequence[OperatorEvent], graph: Sequence[GraphOperation]
) -> list[int | None] | None:
    """For each event the index of the operator of the graph that it is; None for one that XNNPACK added.

    Returns:
        None as a whole where the matrix products do not all meet their own.
    """
    places: list[int | None] = []
    by_node = {event.node for event in events if event.node is not None}
    following = 0
    for event in events:
        if event.node is not None:
            places.append(event.node if event.node < len(graph) else None)
            continue
        kinds = next((kinds for begin, kinds in _KINDS if event.tag.lower().startswith(begin)), ())
        # A product must meet the next product however far it is; all else may have been fused away.
        reach = len(graph) if kinds and kinds[0] in _PRODUCTS else following + _AHEAD + len(by_node)
        found = next(
            (
                i
                for i in range(following, min(reach, len(graph)))
                if graph[i].kind in kinds and i not in by_node
            ),
            None,
        )
        places.append(found)
        if found is not None:
            following = found + 1
    met = [place for place in places if place is not None and graph[place].kind in _PRODUCTS]
    return places if met == [i for i, op in enumerate(graph) if op.kind in _PRODUCTS] else None


def _operations(
    events: Sequence[OperatorEvent],
    means: Sequence[float],
    graph: Sequence[GraphOperation],
    places: Sequence[int | None] | None,
) -> tuple[OperationTime, ...]:
    found, name = [], ""
    for i, (event, mean) in enumerate(zip(events, means, strict=True)):
        place = None if places is None else places[i]
        # What XNNPACK adds serves its neighbour.
        name = graph[place].name if place is not None else name or event.tag
        weights = graph[place].weight_bytes if place is not None else 0
        found.append(OperationTime(name, event.tag, layer_of(name), mean, weights))
    return tuple(found)
