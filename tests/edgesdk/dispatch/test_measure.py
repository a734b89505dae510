import json
import sys
import time
from dataclasses import replace

import pytest

from edgesdk.backends import registry
from edgesdk.bundle.records import to_json
from edgesdk.devices.measurement import Measurement
from edgesdk.devices.probes.answer import MARK
from edgesdk.dispatch import measure as module
from edgesdk.dispatch.candidates import list_candidates
from edgesdk.dispatch.measure import measure_all, measure_isolated
from edgesdk.dispatch.measure_candidate import main, measure_candidate
from edgesdk.errors import DeviceError


def pick(candidates, backend):
    return next(c for c in candidates if c.backend.name == backend)


@pytest.mark.parametrize("backend", ["onnxruntime", "onnxruntime-step"])
def test_one_in_a_process_of_its_own(bundle, candidates, backend):
    found = measure_isolated(bundle, pick(candidates, backend), 1, 0.0, 120, None)
    assert found.reason is None
    assert found.key == pick(candidates, backend).key
    assert found.provider == "CPUExecutionProvider"
    assert found.host_cells == (backend == "onnxruntime-step")
    assert (found.batch is not None) == found.host_cells
    assert found.prefill.tokens_per_s > 0
    assert found.decode.cpu_ms_per_token > 0
    assert found.load_ms > 0
    assert sys.platform == "win32" or 1e7 < found.peak_rss_bytes < 1e10


def test_figures_are_told_after_every_round_and_the_best_is_kept(bundle, candidates):
    told = []
    last = measure_candidate(bundle, pick(candidates, "onnxruntime-step"), 1, 1.0, told.append)
    speeds = [found.decode.tokens_per_s for found in told]
    assert speeds == sorted(speeds)
    assert told[-1] == last
    # The first round is told twice: with memory, which takes a step of its own, once that is known.
    assert 2 <= len(told) <= 9
    assert told[0] == replace(told[1], peak_rss_bytes=None)
    assert {found.peak_rss_bytes for found in told[1:]} == {last.peak_rss_bytes} != {None}


def test_the_start_of_the_process_is_part_of_its_budget(bundle, candidates, capsys):
    names = pick(candidates, "onnxruntime-step").key
    for late_s, expected in ((0.0, range(3, 10)), (100.0, range(2, 3))):
        main([str(bundle.path), *names, "1", "50", f"{time.time() - late_s:.3f}"])
        assert capsys.readouterr().out.count(MARK) in expected


def test_one_that_cannot_be_opened_is_a_reason(bundle, candidates, tmp_path):
    wrong = replace(pick(candidates, "onnxruntime"), variant=bundle.variant("onnx-step-f32"))
    found = measure_isolated(bundle, wrong, 1, 0.0, 120, None)
    assert found.reason.startswith("measuring failed: it ended with status 1")


def test_one_that_takes_too_long_is_ended(bundle, candidates):
    started = time.monotonic()
    found = measure_isolated(bundle, candidates[0], 1, 0.0, 0.05, None)
    assert found.reason == "measuring failed: it did not end within 0.1 s"
    assert time.monotonic() - started < 20


def test_one_that_was_cut_short_keeps_what_it_told(bundle, candidates, monkeypatch):
    """The process tells figures, then hangs."""
    answer = json.dumps(to_json(Measurement("onnx-f32", "onnxruntime", "cpu", load_ms=1.0)))
    code = f"import time; print({MARK + answer!r}, flush=True); time.sleep(60)"
    run = module.run_isolated
    monkeypatch.setattr(module, "run_isolated", lambda _, limit, cancelled: run(("-c", code), limit))
    candidate = pick(candidates, "onnxruntime")
    assert measure_isolated(bundle, candidate, 1, 0.0, 5.0, None) == Measurement(*candidate.key, load_ms=1.0)
    other = pick(candidates, "litert")
    assert "answered for another" in measure_isolated(bundle, other, 1, 0.0, 5.0, None).reason


def test_the_budget_is_shared_and_ends(bundle, candidates, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    seen = []

    def one(_, candidate, threads, aim_s, limit_s, cancelled):
        seen.append((candidate.backend.name, aim_s, limit_s))
        clock[0] += 4.0 if len(seen) == 1 else 5.8
        return Measurement(*candidate.key, load_ms=1.0)

    usable = [replace(c, refusal=None) for c in candidates[:4]]
    usable[1] = replace(usable[1], refusal="no driver")
    rows = measure_all(bundle, usable, 1, budget_s=10.0, one=one)
    assert [row.reason for row in rows] == [
        None,
        "no driver",
        None,
        "not measured: the budget of 10 s was spent",
    ]
    assert [round(aim, 2) for _, aim, _ in seen] == [3.33, 3.0]
    assert [round(limit, 2) for _, _, limit in seen] == [6.67, 4.5]


def test_cancelling_ends_what_runs_and_skips_the_rest(bundle, candidates):
    asked = []

    def cancelled():
        asked.append(1)
        return len(asked) > 3

    started = time.monotonic()
    rows = measure_all(bundle, candidates, 1, budget_s=60.0, cancelled=cancelled)
    assert time.monotonic() - started < 20
    assert rows[0].reason == "measuring failed: it was cancelled"
    assert {row.reason for row in rows[1:]} <= {
        "not measured: it was cancelled",
        "the package tflite-runtime is not installed",
    }


def test_a_failing_backend_is_a_reason(bundle, monkeypatch):
    def refuse(request):
        raise DeviceError("it never opens")

    backend = registry.Backend("refusing", "litert", ("cpu",), "numpy", True, refuse)
    (candidate,) = list_candidates(bundle, [backend])
    with pytest.raises(DeviceError, match="it never opens"):
        measure_candidate(bundle, candidate, 1, 1.0)
