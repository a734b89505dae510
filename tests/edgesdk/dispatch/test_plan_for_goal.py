import json
from dataclasses import replace

import pytest

from edgesdk.bundle.integrity import cache_folder
from edgesdk.devices import measurement_cache
from edgesdk.devices.measurement import Measurement, PhaseFigures
from edgesdk.dispatch import plan_for_goal as module
from edgesdk.dispatch.measuring import Measuring
from edgesdk.dispatch.plan import plan_in_order
from edgesdk.dispatch.plan_for_goal import known_measurements, plan_for_goal

SPEEDS = {"litert": (100, 30), "onnxruntime-step": (900, 20), "onnxruntime": (500, 5)}


@pytest.fixture
def measured(monkeypatch):
    """Replaces measuring by figures of `SPEEDS`; says what was measured."""
    asked = []

    def measure_all(bundle, candidates, threads, *, budget_s, cancelled, say):
        rows = []
        for candidate in candidates:
            asked.append(candidate.backend.name)
            if cancelled() or candidate.backend.name not in SPEEDS:
                rows.append(Measurement(*candidate.key, reason="no figures"))
                continue
            prefill, decode = SPEEDS[candidate.backend.name]
            rows.append(
                Measurement(
                    *candidate.key,
                    host_cells=candidate.backend.name != "onnxruntime",
                    prefill=PhaseFigures(prefill, 1.0, None),
                    decode=PhaseFigures(decode, 1.0, None),
                )
            )
        return tuple(rows)

    monkeypatch.setattr(module, "measure_all", measure_all)
    return asked


def names(plan):
    return [(prefill.backend.name, decode.backend.name) for prefill, decode in plan.attempts]


def test_the_fixed_order_is_the_registry_s(candidates):
    plan = plan_in_order(candidates)
    assert names(plan)[:2] == [("litert", "litert"), ("onnxruntime", "onnxruntime")]
    assert plan.choice == "fixed order"


def test_a_goal_measures_once_and_then_looks_it_up(bundle, candidates, measured):
    first = plan_for_goal(bundle, candidates, "latency", 2)
    assert names(first)[:2] == [("onnxruntime-step", "litert"), ("onnxruntime-step", "onnxruntime-step")]
    assert first.choice == "measured now"
    # What has no figures stands at the end; what is not installed is no attempt.
    assert names(first)[-1] == ("litert-interpreter", "litert-interpreter")
    count = len(measured)
    second = plan_for_goal(bundle, candidates, "throughput", 2)
    assert (second.choice, len(measured)) == ("measured before", count)
    assert second.measured == first.measured
    assert len(known_measurements(bundle, 2)) == len(candidates)


def test_measuring_anew_or_never(bundle, candidates, measured):
    never = plan_for_goal(bundle, candidates, "latency", 2, Measuring(measure=False))
    assert not measured
    assert names(never) == names(plan_in_order(candidates))
    assert "nothing was measured for the goal 'latency'" in never.notes[0]
    plan_for_goal(bundle, candidates, "latency", 2)
    count = len(measured)
    assert plan_for_goal(bundle, candidates, "latency", 2, Measuring(measure=True)).choice == "measured now"
    assert len(measured) == 2 * count


def test_other_threads_versions_or_drivers_are_measured_again(bundle, candidates, measured, monkeypatch):
    plan_for_goal(bundle, candidates, "latency", 2)
    for change in (
        lambda: None,
        lambda: monkeypatch.setattr(module, "driver_versions", lambda: {"card": "2.0"}),
        lambda: monkeypatch.setattr(module, "installed_version", lambda package: "99"),
    ):
        change()
        before = len(measured)
        plan_for_goal(bundle, candidates, "latency", 1)
        assert len(measured) > before


def test_a_cancelled_measurement_is_used_but_not_kept(bundle, candidates, measured):
    plan = plan_for_goal(bundle, candidates, "latency", 2, Measuring(cancelled=lambda: True))
    assert names(plan) == names(plan_in_order(candidates))
    assert known_measurements(bundle, 2) == ()


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: "",
        lambda whole: "{",
        lambda whole: '{"depends_on": {}, "measured_at": 1, "measurements": []}',
        lambda whole: whole.replace('"load_ms": 1', '"load_ms": 2', 1).replace(
            "tokens_per_s", "tokens_per_S"
        ),
        lambda whole: whole[:-20],
    ],
    ids=["empty", "half", "other", "changed", "cut"],
)
def test_a_damaged_file_costs_one_measurement(bundle, candidates, measured, damage):
    plan_for_goal(bundle, candidates, "latency", 2)
    (path,) = (cache_folder() / "measurements").glob("*.json")
    whole = path.read_text()
    assert "package onnxruntime" in json.loads(whole.partition("\n")[2])["depends_on"]
    assert damage(whole) != whole
    path.write_text(damage(whole))
    count = len(measured)
    assert plan_for_goal(bundle, candidates, "latency", 2).choice == "measured now"
    assert len(measured) == 2 * count
    assert plan_for_goal(bundle, candidates, "latency", 2).choice == "measured before"


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "file"))
    assert not measurement_cache.write_measurements({"a": "b"}, [])
    assert measurement_cache.read_measurements({"a": "b"}) is None


def test_a_measurement_without_any_figures_is_not_kept(bundle, candidates, measured, monkeypatch):
    with monkeypatch.context() as patch:
        for backend in tuple(SPEEDS):
            patch.delitem(SPEEDS, backend)
        plan = plan_for_goal(bundle, candidates, "latency", 2)
    assert "nothing was measured" in plan.notes[0]
    assert known_measurements(bundle, 2) == ()
    assert plan_for_goal(bundle, candidates, "latency", 2).choice == "measured now"


def test_a_goal_never_changes_the_numbers(bundle, candidates, measured):
    other = [
        replace(c, variant=replace(c.variant, numbers="1" * 64)) if c.backend.format == "onnx-step" else c
        for c in candidates
    ]
    plan = plan_for_goal(bundle, other, "latency", 2)
    assert "onnxruntime-step" not in measured
    assert names(plan)[0] == ("litert", "litert")
