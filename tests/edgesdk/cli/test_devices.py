import pytest

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
    assert "CPUExecutionProvider" in {
        device["provider"] for device in result.json["devices"] if device["usable"]
    }


def test_text_is_tables_and_a_bundle_adds_its_variants(edgesdk, tiny_bundle):
    out = edgesdk("devices", tiny_bundle, "--bandwidth").out
    assert "cores for this process" in out
    assert "GB/s read" in out
    for backend in BACKENDS:
        assert f" {backend.name} " in out
    assert "litert-w8" in out
    # Nothing was opened, so nothing is promised.
    assert "offered" in out
    assert "can run" not in out


def test_a_bundle_s_candidates_are_in_the_document(edgesdk, tiny_bundle):
    document = edgesdk("devices", tiny_bundle, "--json").json
    found = {(c["variant"], c["backend"], c["device"]): c["refusal"] for c in document["candidates"]}
    assert found["onnx-f32", "onnxruntime", "cpu"] is None
    assert found["litert-f32", "tflite-runtime", "cpu"] in (
        None,
        "the package tflite-runtime is not installed",
    )


@pytest.mark.parametrize("entry", ["nonsense", "=x", "x="])
def test_a_library_needs_a_name_and_a_file(edgesdk, entry):
    assert "expected NAME=FILE" in edgesdk("devices", "--ep-library", entry).error


def test_a_library_that_is_none_is_a_row(edgesdk, tmp_path):
    junk = tmp_path / "junk.so"
    junk.write_text("junk")
    document = edgesdk("devices", "--ep-library", f"Junk={junk}", "--json").json
    (row,) = [row for row in document["devices"] if row["provider"] == "Junk"]
    assert not row["usable"]
    assert "junk.so" in row["reason"]
