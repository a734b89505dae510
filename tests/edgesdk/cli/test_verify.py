import json
import shutil

import pytest


@pytest.fixture
def copy(tiny_bundle, tmp_path):
    return shutil.copytree(tiny_bundle, tmp_path / "copy")


def test_a_sound_bundle_passes(edgesdk, tiny_bundle):
    result = edgesdk("verify", tiny_bundle, "--json")
    assert result.code == 0
    assert result.json["passed"]
    assert len(result.json["variants"]) == 4
    for check in result.json["variants"]:
        assert check["status"] == "passed"
        # The same texts, backend and arithmetic as at conversion.
        assert check["measured"]["perplexity_ratio"] == pytest.approx(
            check["recorded"]["perplexity_ratio"], rel=1e-5
        )
        assert check["measured"]["top1_agreement"] == pytest.approx(
            check["recorded"]["top1_agreement"], abs=0.01
        )
        assert check["measured"]["chats"] == check["recorded"]["chats"]


def test_text_has_a_row_for_each_variant(edgesdk, tiny_bundle):
    result = edgesdk("verify", tiny_bundle)
    assert result.code == 0
    assert "every sha256 is right" in result.out
    assert result.out.count("passed") == 4


def test_one_flipped_byte_fails(edgesdk, copy):
    path = next((copy / "variants" / "litert-w8").glob("*.tflite"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    result = edgesdk("verify", copy)
    assert (result.code, result.out) == (1, "")
    assert "model.tflite" in result.error
    assert "damaged" in result.error


def test_a_backend_that_suits_some_variants(edgesdk, tiny_bundle):
    result = edgesdk("verify", tiny_bundle, "--backend", "onnxruntime", "--json")
    assert result.code == 0
    found = {check["variant"]: check["status"] for check in result.json["variants"]}
    assert found == {
        "litert-f32": "not checked",
        "litert-w8": "not checked",
        "onnx-f32": "passed",
        "onnx-w8": "passed",
    }


def test_nothing_to_check_is_no_success(edgesdk, fake_runtime):
    result = edgesdk("verify", fake_runtime())
    assert result.code == 1
    assert "not checked: not proven" in " ".join(result.out.split())


def test_files_that_a_working_backend_refuses_are_a_failure(edgesdk, copy):
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    for variant in manifest["variants"]:
        if variant["name"] == "litert-w8":
            variant["cell_type"] = "int8"
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    result = edgesdk("verify", copy, "--json")
    assert result.code == 1
    found = {check["variant"]: check["status"] for check in result.json["variants"]}
    assert found == {
        "litert-f32": "passed",
        "litert-w8": "failed",
        "onnx-f32": "passed",
        "onnx-w8": "passed",
    }
    reasons = [check["reason"] for check in result.json["variants"] if check["status"] == "failed"]
    assert "convert the bundle again" in reasons[0]


def test_a_backend_that_is_none_is_refused_before_hashing(edgesdk, tiny_bundle):
    result = edgesdk("verify", tiny_bundle, "--backend", "nosuch")
    assert result.code == 1
    assert result.err.startswith("error: backend 'nosuch' is unknown; expected auto, litert, ")
