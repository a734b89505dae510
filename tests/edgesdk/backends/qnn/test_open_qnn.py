"""A tiny decoder on Qualcomm's Hexagon simulator: all of it there, the same tokens as the CPU."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from edgesdk.backends.onnxruntime_provider import profiled_share
from edgesdk.backends.onnxruntime_session import open_session
from edgesdk.backends.onnxruntime_step import OnnxStepBackend
from edgesdk.backends.opened import OpenRequest
from edgesdk.backends.qnn.open_qnn import open_qnn, open_qnn_compiled
from edgesdk.backends.qnn.provider import qnn_provider
from edgesdk.bundle.manifest import Compatibility
from edgesdk.bundle.reader import open_bundle
from edgesdk.compile.compile_bundle import compile_bundle
from edgesdk.errors import DeviceError
from edgesdk.evaluation.verify_bundle import verify_bundle
from edgesdk.kv.step_model import StepModel

pytestmark = pytest.mark.qnn
simulator = pytest.mark.usefixtures("_needs_simulator")


@pytest.fixture
def _needs_simulator():
    pytest.importorskip("onnxruntime_qnn", reason="needs the package onnxruntime-qnn")


def request_for(bundle, name="onnx-npu-w8"):
    return OpenRequest(bundle, bundle.variant(name), 1, "npu")


@simulator
def test_greedy_tokens_are_the_cpus(bundle, greedy, cpu_greedy, check_equal):
    opened = open_qnn(request_for(bundle))
    assert (opened.provider, opened.accelerated_share) == ("QNNExecutionProvider", 1.0)
    assert any("simulator" in note for note in opened.notes)
    variant = bundle.variant("onnx-npu-w8")
    found = greedy(opened.model, variant, bundle.manifest.decoder, 16)
    assert check_equal(cpu_greedy, found) >= 3


@simulator
def test_the_profile_says_the_same(bundle, tmp_path):
    """Nothing runs elsewhere: ONNX Runtime's own profile of a step names no other provider."""
    path = bundle.file("variants/onnx-npu-w8/step_1_64.onnx")
    session = open_session(path, 1, qnn_provider(), profile=tmp_path / "run")
    inputs = {
        value.name: np.zeros(value.shape, np.int32 if "int32" in value.type else np.float32)
        for value in session.get_inputs()
    }
    session.run(None, inputs)
    profile = Path(session.end_profiling())
    assert profiled_share(profile, qnn_provider()) == 1.0
    names = {
        e["args"]["provider"] for e in json.loads(profile.read_text()) if "provider" in e.get("args", {})
    }
    assert names == {"QNNExecutionProvider"}


@simulator
def test_many_tokens_in_one_step(bundle):
    """A prompt at once, T = 128, gives what it gives token by token on the CPU."""
    variant, spec = bundle.variant("onnx-npu-w8"), bundle.manifest.decoder
    cpu = StepModel(OnnxStepBackend(bundle, variant, threads=1), spec, variant.context).new_sequence()
    npu = StepModel(open_qnn(request_for(bundle)).model, spec, variant.context).new_sequence()
    tokens = np.arange(3, 40, dtype=np.int32)
    for token in tokens:
        expected = cpu.extend(np.array([token], np.int32))
    assert np.abs(npu.extend(tokens) - expected).max() < 0.02 * np.abs(expected).max()


@simulator
def test_what_does_not_run_whole_is_refused(onnx_bundle):
    """The general step form in float runs there; with a size that the file lacks, nothing does."""
    variant = onnx_bundle.bundle.variant("step")
    wrong = dataclasses.replace(variant, steps=(dataclasses.replace(variant.steps[0], cells=99),))
    with pytest.raises(DeviceError, match="expected"):
        open_qnn(OpenRequest(onnx_bundle.bundle, wrong, 1, "npu"))


@simulator
def test_compiled_ahead_of_time(npu_bundle, tmp_path, bundle, greedy, cpu_greedy, check_equal):
    done = compile_bundle(npu_bundle, "sm8650", out=tmp_path / "compiled")
    assert done.variant == "onnx-npu-w8-sm8650"
    compiled = open_bundle(tmp_path / "compiled")
    variant = compiled.variant(done.variant)
    assert variant.format == "onnx-context"
    assert variant.compatibility == Compatibility(
        "QNNExecutionProvider", "sm8650", done.compiler, "onnx-npu-w8"
    )
    # It was run on a few tokens before it was kept, and `verify` leaves the simulator alone.
    assert variant.parity.positions == 4
    assert variant.parity.top1_agreement == 1.0
    assert variant.parity.perplexity_ratio == pytest.approx(1, abs=0.01)
    checks = {check.variant: check for check in verify_bundle(tmp_path / "compiled").variants}
    assert checks[done.variant].status == "not checked"
    opened = open_qnn_compiled(request_for(compiled, done.variant))
    assert opened.accelerated_share == 1.0
    found = greedy(opened.model, variant, compiled.manifest.decoder, 16)
    assert check_equal(cpu_greedy, found) >= 3
    # Neither the models nor their weights are read again: the compiled files stand alone.
    names = [name for name in compiled.manifest.files if name.startswith(f"variants/{done.variant}/")]
    assert not any(name.endswith(".data") for name in names)
    assert len([name for name in names if name.endswith(".bin")]) == len(variant.steps)


def test_compiled_for_something_else(bundle):
    variant = dataclasses.replace(
        bundle.variant("onnx-npu-w8"), compatibility=Compatibility("Other", "x1", "c 1", "v")
    )
    with pytest.raises(DeviceError, match="was compiled for Other, expected QNNExecutionProvider"):
        open_qnn_compiled(OpenRequest(bundle, variant, 1, "npu"))
