"""A short soak over the fake backend, every greedy answer compared with what it must be."""

import importlib
from pathlib import Path

import pytest

from edgesdk.errors import DeviceError


@pytest.fixture(scope="module")
def soak_module():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
        yield importlib.import_module("soak")


@pytest.mark.parametrize("seed", range(3))
def test_soak(make_engine, soak_module, greedy, seed):
    engine = make_engine(max_queue=8)
    report = soak_module.Soak(engine, seed, longest=40, expected=greedy).run(1.0, least_acts=120)
    assert report.leaked_cells == 0
    assert report.stuck_requests == 0
    assert report.wrong_answers == 0
    assert report.steps > 20
    assert {"length", "cancelled"} <= set(report.outcomes)


@pytest.mark.parametrize("seed", range(3))
def test_soak_with_drafts(make_engine, soak_module, greedy, fake_bundle, seed):
    drafter = soak_module.UnrulyDrafter(fake_bundle.manifest.decoder.vocab_size, seed)
    engine = make_engine(max_queue=8, token_budget=16, rows=16, drafter=drafter)
    report = soak_module.Soak(engine, seed, longest=40, expected=greedy).run(1.0, least_acts=120)
    assert report.leaked_cells == 0
    assert report.stuck_requests == 0
    assert report.wrong_answers == 0
    assert report.draft_notes == ()
    assert report.drafted_tokens > 20
    assert {"length", "cancelled"} <= set(report.outcomes)


def test_a_soak_sees_lost_cells(make_engine, soak_module):
    engine = make_engine()
    engine.call(lambda: engine.runner.pool.allocate(3))
    with pytest.raises(DeviceError, match="the engine stopped: ValueError: 3 cells have other holders"):
        soak_module.Soak(engine, 0, longest=60).run(1.0)
