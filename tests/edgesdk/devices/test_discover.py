import sys
import time
from dataclasses import dataclass

import pytest

from edgesdk.backends.registry import BACKENDS
from edgesdk.devices import discover as module
from edgesdk.devices.device import Device
from edgesdk.devices.discover import Library, backend_rows, discover, installed_probes
from edgesdk.devices.system_devices import Adapter


@dataclass(frozen=True)
class Backend:
    name: str
    package: str
    device_classes: tuple = ("cpu",)
    provider: str | None = None


def device(kind, provider, package="numpy", reason=None):
    return Device(kind, "", "", provider, package, "1", None, None, reason is None, reason)


def test_this_machine_without_accelerators_gives_a_full_list(processor):
    found = discover(processor, time_limit_s=60)
    cpus = {d.provider: d for d in found if d.usable}
    assert cpus["CPUExecutionProvider"].name == "A fine CPU"
    assert cpus["CPUExecutionProvider"].memory_bytes == 1 << 30
    assert all((d.reason is None) == d.usable for d in found)
    rows = {(row.backend, row.device): row for row in backend_rows(BACKENDS, found)}
    assert rows["onnxruntime", "cpu"].usable
    for backend in BACKENDS:
        for kind in backend.device_classes:
            row = rows[backend.name, kind]
            assert row.usable == (row.reason is None)


def test_a_corrupt_vendor_library_is_a_row_with_the_loader_s_reason(processor, tmp_path):
    library = tmp_path / "libvendor_ep.so"
    library.write_bytes(b"\x7fELF" + bytes(range(256)) * 8)
    probes = installed_probes([Library("VendorExecutionProvider", str(library))])
    found = discover(processor, probes=probes[-1:], time_limit_s=60)
    (row,) = found
    assert (row.usable, row.provider, row.package) == (False, "VendorExecutionProvider", "-")
    assert "libvendor_ep.so" in row.reason


def test_libraries_that_hang_crash_or_talk_nonsense_leave_a_full_list_in_bounded_time(processor, make_probe):
    probes = (
        make_probe("import time; time.sleep(60)", provider="hangs"),
        make_probe("import os; os.abort()", provider="aborts"),
        make_probe("print('edgesdk-answer: {')", provider="garbage"),
        make_probe("import no_such_library", provider="missing"),
        *[p for p in installed_probes() if p.package == "onnxruntime"],
    )
    started = time.monotonic()
    found = {d.provider: d for d in discover(processor, probes=probes, time_limit_s=3.0)}
    assert time.monotonic() - started <= 5.0  # the limit and the ending of what hangs, not a benchmark
    assert found["hangs"].reason == "it did not end within 3.0 s"
    assert "signal 6" in found["aborts"].reason or sys.platform == "win32"
    assert found["garbage"].reason == "it gave no answer that can be read"
    assert "no_such_library" in found["missing"].reason
    assert found["CPUExecutionProvider"].usable or "did not end" in found["CPUExecutionProvider"].reason


def test_a_provider_that_a_wheel_claims_is_tried(processor, make_probe):
    answer = (
        "from edgesdk.devices.probes.answer import write_answer; write_answer([], ['CUDAExecutionProvider'])"
    )
    (row,) = discover(processor, probes=[make_probe(answer, "onnxruntime", "cpu")], time_limit_s=60)
    # This wheel has no CUDA, so what it says is that it used the CPU instead.
    assert (row.device, row.provider, row.usable) == ("gpu", "CUDAExecutionProvider", False)
    assert "CPU" in row.reason


def test_a_plugin_without_devices_is_a_row(processor, make_probe):
    answer = "from edgesdk.devices.probes.answer import write_answer; write_answer([])"
    (row,) = discover(processor, probes=[make_probe(answer)], time_limit_s=60)
    assert row.reason == "it answered, but found no device of its own here"


def test_adapters_that_nothing_reaches_are_listed(processor):
    adapters = [
        Adapter("gpu", "amdgpu 0x1", "AMD", "amdgpu 6.1", 8),
        Adapter("npu", "ivpu", "Intel", None, None),
    ]
    rows = discover(processor, probes=[], adapters=adapters)
    assert [(row.device, row.vendor, row.usable) for row in rows] == [
        ("gpu", "AMD", False),
        ("npu", "Intel", False),
    ]
    assert rows[0].reason == "no provider that is installed reaches it"


def test_rows_for_backends_and_for_classes_that_nobody_serves():
    devices = [device("cpu", "A"), device("gpu", "B", reason="no driver")]
    candidates = [
        Backend("one", "numpy", ("cpu", "gpu")),
        Backend("two", "no-such-package"),
        Backend("three", "numpy", ("gpu",), "B"),
        Backend("four", "numpy", ("gpu",), "C"),
    ]
    rows = backend_rows(candidates, devices)
    assert [(row.backend, row.device, row.providers, row.reason) for row in rows] == [
        ("one", "cpu", ("A",), None),
        ("one", "gpu", (), "no driver"),
        ("two", "cpu", (), "the package no-such-package is not installed"),
        ("three", "gpu", (), "no driver"),
        ("four", "gpu", (), "C found no gpu"),
        ("-", "npu", (), "no backend runs on npu in this version"),
    ]


def test_core_ml_is_not_there_because_coremltools_is(monkeypatch):
    monkeypatch.setattr(module, "installed_version", lambda package: "9")
    candidates = [Backend("coreml", "coremltools", ("npu",)), Backend("coreml-interpreter", "coremltools")]
    devices = [device("npu", "CoreML", "coremltools"), device("cpu", "CoreML", "coremltools")]
    for system, usable in (("Linux", False), ("Darwin", True)):
        monkeypatch.setattr(module.platform, "system", lambda system=system: system)
        core_ml, interpreter = backend_rows(candidates, devices)[:2]
        assert (core_ml.usable, bool(core_ml.providers), interpreter.usable) == (usable, usable, True)


@pytest.mark.parametrize("name", ["onnxruntime-qnn", "onnxruntime-ep-openvino", "onnxruntime-ep-webgpu"])
def test_plugin_packages_are_known_by_their_names(name):
    assert module._PLUGIN.fullmatch(name)
    assert not module._PLUGIN.fullmatch("onnxruntime-genai")
