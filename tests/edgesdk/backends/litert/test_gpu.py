"""A tiny decoder on LiteRT's GPU accelerator; needs a GPU or a software driver for Vulkan (docs/gpu.md)."""

import dataclasses

import numpy as np
import pytest

from edgesdk.backends.litert.open_litert import open_compiled, open_compiled_on_gpu
from edgesdk.backends.onnxruntime_step import OnnxStepBackend
from edgesdk.backends.opened import OpenRequest
from edgesdk.bundle.manifest import WeightRecord
from edgesdk.bundle.reader import open_bundle
from edgesdk.errors import DeviceError
from edgesdk.kv.step_model import StepModel

TOKENS = np.array([5, 17, 211, 40, 99, 3, 121, 64, 8], np.int32)


@pytest.fixture(scope="session")
def step_bundle(tmp_path_factory, short_text, request):
    """A tiny checkpoint for LiteRT in float and int8, and in int8 as ONNX steps."""
    pytest.importorskip("onnx", reason="needs the extra 'convert'")
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")
    from edgesdk_converters.convert import ConvertOptions, convert

    targets = ("litert", "litert-static", "onnx-step")
    options = ConvertOptions(
        targets=targets, recipes=("f32", "w8"), context=256, prove=False, calibration=short_text
    )
    source = request.config.rootpath / "tests/data/tiny/llama"
    return open_bundle(convert(str(source), tmp_path_factory.mktemp("gpu") / "bundle", options))


def open_on_gpu(bundle, name):
    try:
        return open_compiled_on_gpu(OpenRequest(bundle, bundle.variant(name), 1, "gpu"))
    except DeviceError as error:
        pytest.skip(f"needs a GPU or a software driver: {error}")


def greedy(model, bundle, count=6):
    sequence = StepModel(model, bundle.manifest.decoder, 256).new_sequence()
    rows = [sequence.extend(TOKENS).copy()]
    for _ in range(count - 1):
        rows.append(sequence.extend(np.array([rows[-1].argmax()], np.int32)).copy())
    return np.array(rows)


@pytest.mark.gpu
def test_float_tokens_are_the_cpus(step_bundle):
    opened = open_on_gpu(step_bundle, "litert-static-f32")
    assert (opened.provider, opened.accelerated_share) == ("LiteRT GPU", 1.0)
    cpu = open_compiled(OpenRequest(step_bundle, step_bundle.variant("litert-static-f32"), 1))
    expected, found = greedy(cpu.model, step_bundle), greedy(opened.model, step_bundle)
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()
    assert found.argmax(axis=1).tolist() == expected.argmax(axis=1).tolist()


@pytest.mark.gpu
def test_int8_weights_with_float_activations(step_bundle):
    """It is the GPU that computes: activations stay in floating point, which the CPU's kernels round."""
    found = greedy(open_on_gpu(step_bundle, "litert-static-w8").model, step_bundle, 1)
    cpu = open_compiled(OpenRequest(step_bundle, step_bundle.variant("litert-static-w8"), 1))
    exact = OnnxStepBackend(step_bundle, step_bundle.variant("onnx-step-w8"), threads=1)
    expected, rounded = greedy(exact, step_bundle, 1), greedy(cpu.model, step_bundle, 1)
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()
    assert np.abs(rounded - expected).max() > 1e-3 * np.abs(expected).max()


def test_a_file_of_variable_size_is_refused_by_name(step_bundle):
    with pytest.raises(DeviceError, match="convert with --target litert-static"):
        open_compiled_on_gpu(OpenRequest(step_bundle, step_bundle.variant("litert-f32"), 1, "gpu"))


def test_weights_in_blocks_are_refused_before_they_end_the_process(step_bundle):
    block = WeightRecord("layers.0.o", None, "quantised", 4, 32, "round", 0.1)
    variant = dataclasses.replace(step_bundle.variant("litert-static-f32"), weights=(block,))
    with pytest.raises(DeviceError, match="no weights in blocks; convert with a recipe of one scale a row"):
        open_compiled_on_gpu(OpenRequest(step_bundle, variant, 1, "gpu"))
