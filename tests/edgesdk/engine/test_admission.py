"""Branches, the scheduler's entries and cells stay in step, whatever becomes of a request."""

from dataclasses import replace

import numpy as np
import pytest

from edgesdk.errors import CapacityError
from edgesdk.kv.step_runner import StepEntry


def hold(engine, left):
    """Takes all free cells but `left` for good, as somebody outside the engine may; returns their list."""

    def take():
        cells = engine.runner.new_list()
        for _ in range(engine.runner.pool.free - left):
            engine.runner.run([StepEntry(cells, np.array([2], np.int32), "none")])
        return cells

    engine._loop._check_steps = False  # the accounts do not know whose these are
    return engine.call(take)


def test_samples_that_nobody_makes_room_for_end_together(make_engine, prompts, greedy):
    """Both are refused in one plan, the second when its request has failed already; the others go on."""
    engine = make_engine(prefix_cache_mb=0)
    first, second = prompts(2, 10)
    asked = engine.submit(first, n=2, max_tokens=60, ignore_eos=True)
    next(iter(asked))
    held = hold(engine, left=3)
    with pytest.raises(CapacityError, match="need more cells than there are"):
        asked.results(30)
    engine.call(held.close)
    assert engine.generate(second, max_tokens=12, ignore_eos=True).tokens == greedy(second, 12)
    assert (engine.metrics.cells_used, engine.metrics.running, engine.metrics.waiting) == (0, 0, 0)


def test_a_sample_that_is_refused_takes_the_others_along(make_engine, prompts, greedy, monkeypatch):
    """Also those that the same step was to run."""
    engine = make_engine()
    admission = engine._batch._admission
    plan_as_usual = admission.plan

    def plan():
        found = plan_as_usual()
        several = [
            work.branch_id for work in found.work if admission.find([work.branch_id])[0].request.samples > 1
        ]
        return replace(found, refused=tuple(several[:1])) if len(several) > 1 else found

    monkeypatch.setattr(admission, "plan", plan)
    first, second = prompts(2, 10)
    asked = engine.submit(first, n=2, max_tokens=20, ignore_eos=True)
    beside = engine.submit(second, max_tokens=12, ignore_eos=True)
    with pytest.raises(CapacityError, match="need more cells than there are"):
        asked.results(30)
    assert beside.result(30).tokens == greedy(second, 12)
    assert (engine.metrics.running, engine.metrics.waiting) == (0, 0)


def test_what_was_found_for_a_branch_that_waits_on_is_given_back(make_engine, prompts, greedy):
    """Cells of the prefix cache that a queued branch was lent keep nobody from running."""
    engine = make_engine(max_running=2)
    (prompt,) = prompts(1, 30)
    expected = greedy(prompt, 30)
    assert engine.generate(prompt, max_tokens=1, ignore_eos=True).tokens == expected[:1]
    asked = [engine.submit(prompt, max_tokens=30, ignore_eos=True) for _ in range(4)]
    assert [each.result(30).tokens for each in asked] == [expected] * 4
    assert engine.metrics.cache_hits >= 2
    engine.check()


def test_a_preempted_branch_is_counted_and_computed_again(make_engine, prompts, greedy):
    engine = make_engine(prefix_cache_mb=0)
    several = prompts(3, 20)
    asked = [engine.submit(p, max_tokens=40, ignore_eos=True) for p in several]
    assert [each.result(30).tokens for each in asked] == [greedy(p, 40) for p in several]
    assert engine.metrics.preemptions == sum(each.metrics.preemptions for each in asked) > 0
    assert engine.metrics.cells_used == 0
