"""`edgesdk compile` refuses in one line what it cannot do."""

import importlib.util

import pytest


def test_unknown_soc(edgesdk, npu_bundle):
    result = edgesdk("compile", npu_bundle, "--soc", "a17")
    assert result.code == 1
    assert "SoC 'a17' is unknown; expected sm8550" in result.error


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime_qnn") is not None, reason="the package is here")
def test_missing_package_names_the_extra(edgesdk, npu_bundle):
    result = edgesdk("compile", npu_bundle, "--soc", "sm8750")
    assert result.code == 1
    assert "edgesdk[qnn]" in result.error


def test_inspect_says_what_a_compiled_variant_was_compared_with(edgesdk, npu_bundle, tmp_path, monkeypatch):
    from edgesdk.compile import compile_bundle as module

    def copy(model, out, soc):
        out.write_bytes(model.read_bytes())
        (out.parent / "weights.data").write_bytes((model.parent / "weights.data").read_bytes())

    monkeypatch.setattr(module, "compile_context", copy)
    monkeypatch.setattr(module, "compiler_name", lambda: "compiler 1")
    out = tmp_path / "out"
    result = edgesdk("compile", npu_bundle, "--soc", "sm8750", "--out", out, "--prove-positions", 0)
    assert result.code == 0
    sentence = "it should say what onnx-npu-w8 says, which nothing has verified: no positions were asked for"
    assert f"not proven: {sentence}" in result.out
    shown = edgesdk("inspect", out, "--json").json["variants"]
    assert shown[1]["parity_skipped"] == sentence
    table = " ".join(edgesdk("inspect", out).out.split())
    assert "onnx-npu-w8-sm8750" in table
    assert "not proven" in table
