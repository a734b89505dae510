from edgesdk.backends.registry import BACKENDS


def test_json_has_a_row_for_each_backend(edgesdk):
    result = edgesdk("devices", "--json")
    assert result.code == 0
    assert result.json["processor"]["cores"] >= 1
    rows = {(row["backend"], row["device"]): row for row in result.json["backends"]}
    for backend in BACKENDS:
        for device in backend.device_classes:
            assert rows[backend.name, device]["usable"] == (rows[backend.name, device]["reason"] is None)
    assert rows["onnxruntime", "cpu"]["usable"]
    assert "CPUExecutionProvider" in rows["onnxruntime", "cpu"]["providers"]
    assert {device for _, device in rows} == {"cpu", "gpu", "npu"}


def test_text_is_a_table(edgesdk):
    out = edgesdk("devices").out
    assert "cores for this process" in out
    for backend in BACKENDS:
        assert f" {backend.name} " in out
