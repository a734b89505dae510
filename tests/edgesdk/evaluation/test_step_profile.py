"""Sums and traces of a profile, and the walk that puts XNNPACK's operators beside the graph's."""

import pytest

from edgesdk.backends.litert.graph_operations import GraphOperation
from edgesdk.backends.litert.operator_profiler import OperatorEvent
from edgesdk.evaluation.profile_litert import match_operations
from edgesdk.evaluation.step_profile import (
    OperationTime,
    StepProfile,
    by_layer,
    by_operation,
    layer_of,
    mean_of_faster_half,
    trace_events,
)


def profile_of(*operations, profiled_us=100.0):
    total = sum(op.duration_us for op in operations)
    return StepProfile(
        bundle="m",
        variant="v",
        backend="b",
        threads=1,
        tokens=1,
        cells=8,
        repeat=2,
        step_us=50.0,
        profiled_us=profiled_us,
        unattributed_us=profiled_us - total,
        operations=operations,
        weight_bytes=10,
        cell_bytes=0,
        bandwidth_bytes_per_s=1e9,
        floor_us=1.0,
        roofline_share=0.02,
        notes=(),
    )


PROFILE = profile_of(
    OperationTime("embedded", "Gather", None, 5.0, 2),
    OperationTime("layers.0.q_k_v.out", "FC", 0, 20.0, 4),
    OperationTime("layers.0.o.out", "FC", 0, 10.0, 4),
    OperationTime("layers.1.q_k_v.out", "FC", 1, 30.0, 4),
)


def test_operations_add_up_over_layers():
    shares = by_operation(PROFILE)
    assert [(s.name, s.count, s.duration_us, s.weight_bytes) for s in shares] == [
        ("q_k_v", 2, 50.0, 8),
        ("o", 1, 10.0, 4),
        ("embedded", 1, 5.0, 2),
    ]
    assert shares[0].share == 0.5


def test_layers_stand_in_order_and_the_rest_last():
    assert [(s.name, s.duration_us) for s in by_layer(PROFILE)] == [
        ("0", 30.0),
        ("1", 30.0),
        ("outside", 5.0),
    ]


def test_the_trace_fills_the_profiled_run():
    events = [e for e in trace_events(PROFILE) if e["ph"] == "X"]
    rows = {row: [e for e in events if e["tid"] == row] for row in (1, 2)}
    assert sum(e["dur"] for e in rows[1]) == PROFILE.profiled_us
    assert [(e["name"], e["ts"], e["dur"]) for e in rows[2]] == [
        ("layer 0", 5.0, 30.0),
        ("layer 1", 35.0, 30.0),
    ]


@pytest.mark.parametrize(
    ("name", "layer"), [("layers.11.attended", 11), ("k_new.3", 3), ("logits", None), ("rotary.cos.2", None)]
)
def test_a_name_tells_the_layer(name, layer):
    assert layer_of(name) == layer


def test_disturbed_runs_do_not_count():
    assert mean_of_faster_half([(90.0, [80.0]), (10.0, [8.0]), (12.0, [6.0])]) == (11.0, [7.0])
    with pytest.raises(ValueError, match="argument 2"):
        mean_of_faster_half([(1.0, [1.0]), (1.0, [1.0, 2.0])] * 2)


def graph(*kinds):
    return [GraphOperation(kind, f"n{i}", 0) for i, kind in enumerate(kinds)]


def events(*tags):
    return [OperatorEvent(tag, None, 1) for tag in tags]


def test_fused_operators_are_passed_over():
    found = match_operations(
        events(
            "Mean Squared (ND) Reduce2", "Fully Connected (NC, F32) GEMM", "Copy (NC, X32)", "Multiply (ND)"
        ),
        graph("MUL", "MEAN", "FULLY_CONNECTED", "CONCATENATION", "MUL"),
    )
    assert found == [1, 2, 3, 4]


def test_an_added_operator_meets_none():
    found = match_operations(
        events("Convert (NC, F32, QD8)", "Fully Connected (NC, QD8, F32, QC8W) GEMM"),
        graph("FULLY_CONNECTED"),
    )
    assert found == [None, 0]


def test_a_product_too_few_leaves_no_layers():
    products = graph("FULLY_CONNECTED", "FULLY_CONNECTED")
    assert match_operations(events("Fully Connected (NC, F32) GEMM"), products) is None
