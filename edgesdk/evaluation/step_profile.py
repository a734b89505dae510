"""What a profile of a step holds, and its sums: by operation, by layer, as a Chrome trace.

Arithmetic only; what runs the step stands in `profile_litert` and `profile_onnx`. Operations are named as
the emitters name them: `layers.3.q_k_v.out` is the operation `q_k_v` of layer 3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

_IN_A_LAYER = re.compile(r"layers\.(\d+)\.([^.]+)|([kv]_new)\.(\d+)")

TraceEvent: TypeAlias = dict[str, str | int | float | dict[str, str | int | float]]


@dataclass(frozen=True)
class OperationTime:
    """One operation of a step.

    Attributes:
        name: of its output in the graph; that of the operation before it for one the backend adds.
        kind: what the backend calls it.
        layer: it belongs to; None before the first and after the last.
        duration_us: mean over the faster half of the profiled runs.
        weight_bytes: of weights that it reads in one run.
    """

    name: str
    kind: str
    layer: int | None
    duration_us: float
    weight_bytes: int

    @property
    def part(self) -> str:
        """Its name without the layer and without steps inside it: `q_k_v`, `attended`, `logits`."""
        found = _IN_A_LAYER.search(self.name)
        if found is not None:
            return found[2] or found[3]
        return self.name.split(".")[0]


@dataclass(frozen=True)
class Share:
    """Operations added up.

    Attributes:
        name: of the group.
        kind: what the backend calls its operations; empty where they differ.
        count: operations in it.
        duration_us: their time in one run.
        share: of the profiled run.
        weight_bytes: of weights that they read in one run.
    """

    name: str
    kind: str
    count: int
    duration_us: float
    share: float
    weight_bytes: int


@dataclass(frozen=True)
class StepProfile:
    """Where the time of a step goes.

    Attributes:
        bundle: name of the model.
        variant: of the bundle.
        backend: that ran it.
        threads: CPU threads.
        tokens: T, new tokens of the step.
        cells: S, tokens before them that attention goes over.
        repeat: runs, both timed and profiled.
        step_us: median of a run without profiling, by the backend as `load` opens it.
        profiled_us: mean of a profiled run, over the same half.
        unattributed_us: what of it no operation accounts for: waiting, rounding, the host.
        operations: in order.
        weight_bytes: of weights that a step reads.
        cell_bytes: of cached keys and values that it reads.
        bandwidth_bytes_per_s: of this machine's memory, measured.
        floor_us: time to read those bytes once at that bandwidth.
        roofline_share: floor over step; above 1 where much of it stays in the processor's cache.
        notes: how to read it, one line each.
    """

    bundle: str
    variant: str
    backend: str
    threads: int
    tokens: int
    cells: int
    repeat: int
    step_us: float
    profiled_us: float
    unattributed_us: float
    operations: tuple[OperationTime, ...]
    weight_bytes: int
    cell_bytes: int
    bandwidth_bytes_per_s: float
    floor_us: float
    roofline_share: float
    notes: tuple[str, ...]


def layer_of(name: str) -> int | None:
    """The layer that an operation of this name belongs to."""
    found = _IN_A_LAYER.search(name)
    return None if found is None else int(found[1] or found[4])


def by_operation(profile: StepProfile) -> list[Share]:
    """Sums over all layers, longest first."""
    return sorted(
        _grouped(profile, lambda op: (op.part, op.kind)), key=lambda share: share.duration_us, reverse=True
    )


def by_layer(profile: StepProfile) -> list[Share]:
    """Sums over all operations of a layer, in order; what belongs to none comes last as `outside`."""
    found = _grouped(profile, lambda op: ("outside" if op.layer is None else str(op.layer), ""))
    return sorted(found, key=lambda share: float("inf") if share.name == "outside" else int(share.name))


def _grouped(profile: StepProfile, key: Callable[[OperationTime], tuple[str, str]]) -> list[Share]:
    groups: dict[tuple[str, str], list[OperationTime]] = {}
    for operation in profile.operations:
        groups.setdefault(key(operation), []).append(operation)
    return [
        Share(
            name,
            kind,
            len(members),
            sum(op.duration_us for op in members),
            sum(op.duration_us for op in members) / profile.profiled_us,
            sum(op.weight_bytes for op in members),
        )
        for (name, kind), members in groups.items()
    ]


def trace_events(profile: StepProfile) -> list[TraceEvent]:
    """The step as complete events of Chrome's trace format, times in microseconds.

    Operations are laid end to end: not every backend tells when one began. A second row holds the layers.
    """
    events: list[TraceEvent] = [
        _named("process_name", 0, f"{profile.bundle} {profile.variant} on {profile.backend}"),
        _named("thread_name", 1, "operations"),
        _named("thread_name", 2, "layers"),
    ]
    start_us, layers = 0.0, _Layers()
    for op in profile.operations:
        details: dict[str, str | int | float] = {"kind": op.kind, "weight_bytes": op.weight_bytes}
        if op.layer is not None:
            details["layer"] = op.layer
        events.append(_complete(op.name, op.part, 1, start_us, op.duration_us, details))
        layers.add(op, start_us)
        start_us += op.duration_us
    events += [_complete(f"layer {n}", "layer", 2, begin, took, {}) for n, begin, took in layers.spans]
    if profile.unattributed_us > 0:
        events.append(_complete("unattributed", "unattributed", 1, start_us, profile.unattributed_us, {}))
    return events


class _Layers:
    """Joins neighbouring operations of one layer."""

    def __init__(self) -> None:
        self.spans: list[tuple[int, float, float]] = []
        self._last: int | None = None

    def add(self, op: OperationTime, start_us: float) -> None:
        if op.layer is not None:
            if op.layer == self._last:
                layer, begin, took = self.spans[-1]
                self.spans[-1] = (layer, begin, took + op.duration_us)
            else:
                self.spans.append((op.layer, start_us, op.duration_us))
        self._last = op.layer


def mean_of_faster_half(runs: Sequence[tuple[float, Sequence[float]]]) -> tuple[float, list[float]]:
    """Means over the faster half of the runs: in the others something else ran, too.

    Args:
        runs: microseconds of each run, and of each of its operations.

    Returns:
        Microseconds of a run, and of each operation.

    Raises:
        ValueError: the runs have different operations.
    """
    kept = sorted(runs, key=lambda run: run[0])[: -(-len(runs) // 2)]
    columns = zip(*(durations for _, durations in kept), strict=True)
    return sum(took for took, _ in kept) / len(kept), [sum(column) / len(kept) for column in columns]


def _complete(
    name: str, category: str, row: int, start_us: float, took_us: float, args: dict[str, str | int | float]
) -> TraceEvent:
    return {
        "name": name,
        "cat": category,
        "ph": "X",
        "pid": 1,
        "tid": row,
        "ts": round(start_us, 3),
        "dur": round(took_us, 3),
        "args": args,
    }


def _named(what: str, row: int, name: str) -> TraceEvent:
    return {"name": what, "ph": "M", "pid": 1, "tid": row, "ts": 0, "dur": 0, "args": {"name": name}}
