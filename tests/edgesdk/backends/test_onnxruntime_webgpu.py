"""A tiny decoder on ONNX Runtime's WebGPU provider; needs onnxruntime-webgpu and a driver (docs/gpu.md)."""

import numpy as np
import onnxruntime
import pytest

from edgesdk.backends.onnxruntime_webgpu import PROVIDER, open_webgpu
from edgesdk.backends.opened import OpenRequest
from edgesdk.errors import DeviceError
from edgesdk.kv.step_model import StepModel

here = PROVIDER.name in onnxruntime.get_available_providers()


@pytest.fixture
def opened(onnx_bundle):
    if not here:
        pytest.skip("needs the package onnxruntime-webgpu")
    try:
        return open_webgpu(OpenRequest(onnx_bundle.bundle, onnx_bundle.bundle.variant("step"), 1, "gpu"))
    except DeviceError as error:
        if "adapter" in str(error):
            pytest.skip(f"needs a GPU or a software driver: {error}")
        raise


@pytest.mark.gpu
def test_the_evaluators_logits_token_by_token(onnx_bundle, opened):
    assert opened.accelerated_share == 1.0
    variant = onnx_bundle.bundle.variant("step")
    sequence = StepModel(opened.model, onnx_bundle.bundle.manifest.decoder, variant.context).new_sequence()
    scale = np.abs(onnx_bundle.logits).max()
    for at, token in enumerate(onnx_bundle.tokens[:20]):
        found = sequence.extend(np.array([token], np.int32))
        assert np.abs(found - onnx_bundle.logits[at]).max() < 1e-3 * scale
        assert found.argmax() == onnx_bundle.logits[at].argmax()


@pytest.mark.gpu
def test_a_prompt_at_once(onnx_bundle, opened):
    variant = onnx_bundle.bundle.variant("step")
    sequence = StepModel(opened.model, onnx_bundle.bundle.manifest.decoder, variant.context).new_sequence()
    found = sequence.extend(onnx_bundle.tokens)
    assert np.abs(found - onnx_bundle.logits[-1]).max() < 1e-3 * np.abs(onnx_bundle.logits).max()


@pytest.mark.skipif(here, reason="the provider is here")
def test_without_the_package(onnx_bundle):
    with pytest.raises(DeviceError, match="has no WebGpuExecutionProvider; it has"):
        open_webgpu(OpenRequest(onnx_bundle.bundle, onnx_bundle.bundle.variant("step"), 1, "gpu"))
