"""Versions that no test has run with are tried in another process, once, and refused by what they lack."""

import numpy as np
import pytest

import edgesdk
from edgesdk.backends.litert import host_memory, open_litert, prove_library
from edgesdk.backends.litert.open_litert import open_compiled
from edgesdk.backends.opened import OpenRequest
from edgesdk.devices import run_isolated
from edgesdk.devices.run_isolated import Ended
from edgesdk.errors import DeviceError
from edgesdk.kv.step_model import StepModel


@pytest.fixture
def request_(float_bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))
    return OpenRequest(float_bundle, float_bundle.variant("litert-f32"), 1)


@pytest.fixture
def untested(monkeypatch):
    for module in (prove_library, open_litert):
        monkeypatch.setattr(module, "TESTED", ("0.",))


def test_a_version_that_was_not_tested_is_tried_and_keeps_the_fast_path(request_, untested, monkeypatch):
    opened = open_compiled(request_)
    assert any("a trial run found it right" in note for note in opened.notes)
    model = StepModel(opened.model, request_.bundle.manifest.decoder, request_.variant.context)
    assert np.isfinite(model.new_sequence().extend(np.array([5], np.int32))).all()
    model.close()
    # The answer is kept: nothing is started the second time.
    monkeypatch.setattr(run_isolated, "run_isolated", lambda *_: pytest.fail("it was tried again"))
    open_compiled(request_).model.close()


def test_one_that_ends_the_process_is_refused_by_name_and_something_else_runs(
    request_, untested, monkeypatch
):
    def crashed(*_):
        return Ended("", False, "it was ended by signal 11")

    monkeypatch.setattr(run_isolated, "run_isolated", crashed)
    with pytest.raises(DeviceError, match=r"ai-edge-litert .* was tried and cannot run it: .*signal 11"):
        open_compiled(request_)
    with edgesdk.load(request_.bundle.path, threads=1) as model:
        assert model.receipt.backend == "litert-interpreter"
        assert any("was tried" in refusal.reason for refusal in model.receipt.refusals)


def test_a_trial_that_took_too_long_is_made_again(request_, untested, monkeypatch):
    def slow(*_):
        return Ended("", True, "it did not end within 300.0 s")

    with monkeypatch.context() as patch:
        patch.setattr(run_isolated, "run_isolated", slow)
        with pytest.raises(DeviceError, match="did not end"):
            open_compiled(request_)
    open_compiled(request_).model.close()


def test_a_user_without_a_cache_folder_has_it_tried_each_time(request_, untested, monkeypatch):
    def nowhere():
        raise FileNotFoundError(2, "this user has no home folder")

    monkeypatch.setattr(prove_library, "cache_folder", nowhere)
    monkeypatch.setattr(run_isolated, "run_isolated", lambda *_: Ended("proved: yes", False, None))
    assert prove_library.refusal_of_library(request_) is None


def test_what_the_trial_finds_is_one_line(float_bundle, capsys):
    prove_library.main([str(float_bundle.path), "no-such-variant", "1"])
    said = capsys.readouterr().out.strip()
    assert said.startswith("proved: ")
    assert "no-such-variant" in said
    assert "\n" not in said


def test_steps_that_contradict_one_another_are_found(float_bundle, monkeypatch):
    from edgesdk.backends.litert.compiled import CompiledStepBackend

    run = CompiledStepBackend.run
    steps = []

    def wrong(self, shape, cells):
        run(self, shape, cells)
        steps.append(shape)
        self.buffers(shape).logits[:] += len(steps)

    monkeypatch.setattr(CompiledStepBackend, "run", wrong)
    with pytest.raises(DeviceError, match="contradict"):
        prove_library.prove(float_bundle.path, "litert-f32", 1)


def test_results_that_are_left_unwritten_are_found(float_bundle, monkeypatch):
    from edgesdk.backends.litert.compiled import CompiledStepBackend

    monkeypatch.setattr(CompiledStepBackend, "run", lambda *_: None)
    with pytest.raises(DeviceError, match="unwritten"):
        prove_library.prove(float_bundle.path, "litert-f32", 1)


def test_what_a_library_lacks_is_named(monkeypatch):
    monkeypatch.setattr(host_memory, "_NEEDED", (*host_memory._NEEDED, "LiteRtDoesNotHaveThis"))
    host_memory.supported.cache_clear()
    try:
        assert "has no LiteRtDoesNotHaveThis" in host_memory.supported()
    finally:
        host_memory.supported.cache_clear()


def test_a_wrapper_without_environments_is_named(monkeypatch):
    monkeypatch.setattr(host_memory, "_ENVIRONMENTS", "ai_edge_litert.no_such_module")
    host_memory.supported.cache_clear()
    try:
        assert "has no ai_edge_litert.no_such_module; upgrade it" in host_memory.supported()
    finally:
        host_memory.supported.cache_clear()


def test_another_layout_is_refused(request_, monkeypatch):
    from edgesdk.backends.litert.native_model import NativeModel

    monkeypatch.setattr(NativeModel, "input_shape", lambda *_: (1, 2, 3))
    with pytest.raises(DeviceError, match="its C API changed"):
        open_compiled(request_)
