import json

import pytest

SMALL = ("--cells", 64, "--repeat", 2, "--threads", 1)


@pytest.mark.parametrize("backend", ["litert", "onnxruntime"])
def test_json_and_trace_agree(backend, edgesdk, tiny_bundle, tmp_path):
    trace = tmp_path / "trace.json"
    result = edgesdk("profile", tiny_bundle, "--backend", backend, *SMALL, "--trace", trace, "--json")
    assert result.code == 0
    report = result.json
    assert [layer["name"] for layer in report["by_layer"]] == ["0", "1", "outside"]
    attention, products, rest = report["by_work"]
    assert attention["read_bytes"] == report["cell_bytes"] > 0
    assert products["read_bytes"] > 0 == rest["read_bytes"]
    assert sum(work["count"] for work in report["by_work"]) == len(report["operations"])
    assert sum(work["share"] for work in report["by_work"]) == pytest.approx(1)
    events = json.loads(trace.read_text())["traceEvents"]
    assert all({"ph", "ts", "dur", "pid", "tid", "name"} <= set(event) for event in events)
    spans = [e for e in events if e["ph"] == "X" and e["tid"] == 1 and e["name"] != "unattributed"]
    assert len(spans) == len(report["operations"])
    took = sum(op["duration_us"] for op in report["operations"])
    assert sum(e["dur"] for e in spans) == pytest.approx(took, abs=0.001 * len(spans))
    assert sum(part["duration_us"] for part in report["by_operation"]) == pytest.approx(took)


def test_text_has_the_tables(edgesdk, tiny_bundle):
    result = edgesdk("profile", tiny_bundle, *SMALL)
    assert result.code == 0
    for word in ("ms, median of 2", "unattributed", "of the roofline", "By work", "By operation", "By layer"):
        assert word in result.out
    # Operations of so small a model may take less than LiteRT's whole microseconds.
    assert "rounded down" in result.err
    finer = edgesdk("profile", tiny_bundle, "--backend", "onnxruntime", *SMALL)
    assert "gate_up" in finer.out


def test_what_does_not_fit_is_one_line(edgesdk, tiny_bundle):
    result = edgesdk("profile", tiny_bundle, "--backend", "onnxruntime", "--tokens", 500)
    assert result.code == 1
    assert "500 tokens do not fit the context of 128" in result.error
