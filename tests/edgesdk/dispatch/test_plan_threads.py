"""Threads for a goal: the numbers that a processor suggests, compared by measurement."""

import pytest

from edgesdk.devices.cpu import CoreGroup, Processor
from edgesdk.devices.measurement import Measurement, PhaseFigures
from edgesdk.dispatch import plan_for_goal as module_of_goals
from edgesdk.dispatch import plan_threads as module
from edgesdk.dispatch.measuring import Measuring
from edgesdk.dispatch.plan_threads import plan_threads, thread_counts

LAPTOP = Processor(
    "laptop", "x86_64", 12, (), (CoreGroup(4, 1.0, None), CoreGroup(8, 0.6, None)), {}, None, 8
)


@pytest.fixture
def asked(monkeypatch):
    """Replaces the processor by a laptop's and measuring by figures; says what was measured, how long."""
    asked = []
    speeds = {12: 80, 8: 90, 4: 100, 6: 95}

    def measure_all(bundle, candidates, threads, *, budget_s, cancelled, say):
        rows = []
        for candidate in candidates:
            able = candidate.backend.name in ("litert", "onnxruntime")
            if candidate.refusal is None:
                asked.append((candidate.backend.name, threads, round(budget_s, 2)))
            speed = PhaseFigures(
                speeds[threads] * (1 if candidate.backend.name == "litert" else 0.5), threads * 1.0, None
            )
            rows.append(
                Measurement(*candidate.key, host_cells=True, prefill=speed, decode=speed)
                if able
                else Measurement(*candidate.key, reason="no figures")
            )
        return tuple(rows)

    monkeypatch.setattr(module_of_goals, "measure_all", measure_all)
    monkeypatch.setattr(module, "read_processor", lambda: LAPTOP)
    return asked


def test_numbers_come_from_the_processor():
    assert thread_counts(LAPTOP) == (12, 8, 4, 6)
    assert thread_counts(Processor("alike", "x86_64", 2, ())) == (2, 1)
    assert thread_counts(Processor("single", "x86_64", 1, ())) == (1,)


def test_the_best_number_wins_and_only_the_chosen_candidate_is_measured_again(bundle, candidates, asked):
    plan, threads = plan_threads(bundle, candidates, "latency", Measuring(budget_s=10))
    assert threads == 4
    assert plan.attempts[0][0].backend.name == "litert"
    assert {name for name, count, _ in asked if count != 12} == {"litert"}
    assert [spent for _, count, spent in asked if count == 8] == [1.33], "the others share what is left"
    assert "threads by measurement: 4" in plan.notes[-1]
    assert len(plan.attempts) > 1, "what could take over still stands behind"
    before = len(asked)
    again, same = plan_threads(bundle, candidates, "latency", Measuring(budget_s=10))
    assert (same, len(asked)) == (4, before)
    assert again.choice == "measured before"


def test_power_counts_the_work_of_all_threads(bundle, candidates, asked):
    _, threads = plan_threads(bundle, candidates, "power")
    assert threads == 4


def test_memory_takes_every_core(bundle, candidates, asked):
    _, threads = plan_threads(bundle, candidates, "memory")
    assert threads == 12
    assert {count for _, count, _ in asked} == {12}


def test_a_small_gain_is_noise(bundle, candidates, asked, monkeypatch):
    monkeypatch.setattr(module, "_GAIN", 0.5)
    _, threads = plan_threads(bundle, candidates, "latency")
    assert threads == 12


def test_nothing_measured_is_every_core(bundle, candidates, asked):
    plan, threads = plan_threads(bundle, candidates, "latency", Measuring(measure=False))
    assert (threads, asked) == (12, [])
    assert plan.choice == "fixed order"
