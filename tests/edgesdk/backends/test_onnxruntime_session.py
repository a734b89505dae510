"""Files that are not what their manifest says are refused in one line."""

import dataclasses

import pytest

from edgesdk.backends.onnxruntime_genai import GenaiModel
from edgesdk.backends.onnxruntime_resident import ResidentModel
from edgesdk.backends.onnxruntime_session import onnxruntime_errors, open_session
from edgesdk.backends.onnxruntime_step import OnnxStepBackend
from edgesdk.bundle.manifest import StackRecord
from edgesdk.bundle.port import Port
from edgesdk.bundle.step_shape import MAIN
from edgesdk.errors import DeviceError


def test_other_shapes_than_the_manifest_says(other_mixers, onnx_bundle):
    bundle = onnx_bundle.bundle
    spec, path = bundle.manifest.decoder, bundle.file("variants/resident/model.onnx")
    with pytest.raises(DeviceError, match=r"'past_key_values.0.key' as .* expected"):
        ResidentModel(path, other_mixers(spec, kv_heads=1), 48, threads=1)
    with pytest.raises(DeviceError, match=r"'past_key_values.1.key' differs"):
        ResidentModel(path, dataclasses.replace(spec, blocks=spec.blocks[:1]), 48, threads=1)


def test_step_file_of_another_size(onnx_bundle):
    bundle = onnx_bundle.bundle
    variant = bundle.variant("step")
    wrong = dataclasses.replace(variant.steps[0], cells=99)
    backend = OnnxStepBackend(bundle, dataclasses.replace(variant, steps=(wrong,)), threads=1)
    with pytest.raises(
        DeviceError, match=r"t1_s48.onnx has the input 'mask' as \(1, 49\), expected \(1, 100\)"
    ):
        backend.buffers(wrong)
    with pytest.raises(DeviceError, match="no step sizes"):
        OnnxStepBackend(bundle, dataclasses.replace(variant, steps=()), threads=1)


def test_step_file_with_other_outputs(onnx_bundle):
    """Seen before memory is made for them, or bound."""
    variant = onnx_bundle.bundle.variant("step")
    stack = StackRecord(MAIN, outputs=(Port("score", ("R", 2)),))
    backend = OnnxStepBackend(onnx_bundle.bundle, dataclasses.replace(variant, stacks=(stack,)), threads=1)
    with pytest.raises(DeviceError, match="outputs of its manifest: 'score' differs"):
        backend.buffers(backend.shapes[0])
    decoder = dataclasses.replace(onnx_bundle.bundle.manifest.decoder, vocab_size=65)
    backend = OnnxStepBackend(onnx_bundle.bundle, dataclasses.replace(variant, decoder=decoder), threads=1)
    with pytest.raises(DeviceError, match=r"the output 'logits' as \(1, 64\), expected \(1, 65\)"):
        backend.buffers(backend.shapes[0])


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x0a" * 50])
def test_damaged_files(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(DeviceError, match=r"cannot load model\.onnx") as caught:
        open_session(path, 1)
    assert "\n" not in str(caught.value)


def test_missing_and_cut_data(onnx_bundle, tmp_path):
    source = onnx_bundle.bundle.file("variants/resident/model.onnx")
    copy = tmp_path / "model.onnx"
    copy.write_bytes(source.read_bytes())
    with pytest.raises(DeviceError, match=r"cannot load model\.onnx"):
        open_session(copy, 1)
    data = source.with_name("model.onnx.data").read_bytes()
    (tmp_path / "model.onnx.data").write_bytes(data[: len(data) // 2])
    with pytest.raises(DeviceError, match=r"cannot load model\.onnx"):
        open_session(copy, 1)


def test_genai_folder_without_configuration(tmp_path):
    pytest.importorskip("onnxruntime_genai", reason="needs the extra 'genai'")
    with pytest.raises(DeviceError, match="onnxruntime-genai cannot load"):
        GenaiModel(tmp_path, 64, 48, threads=1)


def test_errors_are_one_line():
    with pytest.raises(DeviceError, match=r"^onnxruntime failed: first$"), onnxruntime_errors("failed"):
        raise RuntimeError("first\nsecond")
