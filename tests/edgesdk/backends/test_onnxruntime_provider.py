"""Providers that are not there are refused, and shares come from what ONNX Runtime recorded."""

import json

import numpy as np
import onnxruntime
import pytest

from edgesdk.backends.onnxruntime_provider import Provider, profiled_share
from edgesdk.backends.onnxruntime_session import open_session
from edgesdk.backends.onnxruntime_step import OnnxStepBackend
from edgesdk.errors import DeviceError


def step_file(onnx_bundle):
    return onnx_bundle.bundle.file("variants/step/t1_s48.onnx")


def test_a_provider_that_the_package_lacks(onnx_bundle):
    missing = Provider("NoSuchExecutionProvider")
    with pytest.raises(DeviceError, match=r"has no NoSuchExecutionProvider; it has .*CPUExecutionProvider"):
        open_session(step_file(onnx_bundle), 1, missing)
    variant = onnx_bundle.bundle.variant("step")
    backend = OnnxStepBackend(onnx_bundle.bundle, variant, threads=1, provider=missing)
    with pytest.raises(DeviceError, match="has no NoSuchExecutionProvider"):
        backend.buffers(backend.shapes[0])


def test_a_plugin_that_is_not_installed(onnx_bundle):
    with pytest.raises(DeviceError, match="no_such_plugin cannot be imported"):
        open_session(step_file(onnx_bundle), 1, Provider("X", plugin="no_such_plugin"))


def test_a_plugin_whose_library_is_junk(onnx_bundle, tmp_path, monkeypatch):
    library = tmp_path / "libjunk.so"
    library.write_bytes(b"not a library" * 100)
    (tmp_path / "junk_plugin.py").write_text(
        "def get_ep_name(): return 'JunkExecutionProvider'\n"
        f"def get_library_path(): return {str(library)!r}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DeviceError, match=r"on JunkExecutionProvider: .*Failed to load library") as caught:
        open_session(step_file(onnx_bundle), 1, Provider("JunkExecutionProvider", plugin="junk_plugin"))
    assert "\n" not in str(caught.value)


def test_a_profile_says_where_nodes_ran(onnx_bundle, tmp_path):
    cpu = Provider("CPUExecutionProvider")
    session = open_session(step_file(onnx_bundle), 1, profile=tmp_path / "run")
    inputs = {
        value.name: np.zeros(value.shape, np.int32 if "int32" in value.type else np.float32)
        for value in session.get_inputs()
    }
    session.run(None, inputs)
    path = tmp_path / "profile.json"
    path.write_bytes((tmp_path / session.end_profiling()).read_bytes())
    assert profiled_share(path, cpu) == 1.0
    assert profiled_share(path, Provider("Other")) == 0.0


def test_nodes_count_once_however_often_they_ran(tmp_path):
    def event(name, provider):
        return {"cat": "Node", "name": name, "args": {"provider": provider}}

    events = [event("a", "P"), event("a", "P"), event("b", "Q"), {"cat": "Session", "name": "load"}]
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(events))
    assert profiled_share(path, Provider("P")) == 0.5
    path.write_text("[]")
    assert profiled_share(path, Provider("P")) is None


def test_nothing_falls_back_to_the_cpu(onnx_bundle):
    """The Python constructor of ONNX Runtime would try again on the CPU when a provider fails."""
    session = open_session(step_file(onnx_bundle), 1)
    assert session._enable_fallback is False
    assert session.get_providers() == ["CPUExecutionProvider"]
    assert "CPUExecutionProvider" in onnxruntime.get_available_providers()
