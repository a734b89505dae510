"""What is said of the rest; the clock is the test's own."""

import pytest

from edgesdk_converters import progress
from edgesdk_converters.convert_options import ConvertOptions, check_options
from edgesdk_converters.plan_stages import plan_stages
from edgesdk_converters.progress import ProgressMeter


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_what_is_left_follows_from_the_pace_after_reading(clock):
    said = []
    meter = ProgressMeter(said.append, [("reading", 1), ("writing", 4), ("proving", 5)])
    meter.enter("reading", "reading x")
    clock[0] += 500  # a download, which says nothing about the rest
    meter.enter("writing", "writing y")
    clock[0] += 8
    meter.enter("proving", "proving y")
    assert [(p.stage, p.what, p.step, p.steps) for p in said] == [
        ("reading", "reading x", 1, 3),
        ("writing", "writing y", 2, 3),
        ("proving", "proving y", 3, 3),
    ]
    assert [p.share for p in said] == [0, 0.1, 0.5]
    assert [p.remaining_s for p in said] == [None, None, 10]
    assert said[-1].seconds == 508
    assert str(said[-1]) == "proving y"


def test_lines_within_a_stage_move_it_forward_but_never_to_its_end(clock):
    said = []
    meter = ProgressMeter(said.append, [("quantising", 8), ("writing", 2)])
    meter.enter("quantising", "quantising")
    meter.expect(4)
    for index in range(9):  # more than were expected
        clock[0] += 1
        meter.say(f"matrix {index}")
    shares = [p.share for p in said]
    assert shares == sorted(shares)
    assert shares[2] == pytest.approx(0.2)
    assert shares[-1] < 0.8
    assert {p.step for p in said} == {1}


def test_a_stage_that_was_not_foreseen_takes_nothing_from_the_others(clock):
    said = []
    meter = ProgressMeter(said.append, [("writing", 1), ("proving", 1)])
    for stage in ("writing", "reshaping", "proving"):
        meter.enter(stage, stage)
        clock[0] += 1
    assert [p.share for p in said] == [0, 0.5, 0.5]


def test_nobody_need_listen():
    meter = ProgressMeter(None, [])
    meter.enter("reading", "x")
    meter.say("y")


@pytest.mark.parametrize(
    ("options", "stages"),
    [
        (ConvertOptions(recipes=("w8-round",), prove=False), "reading quantising writing writing"),
        (
            ConvertOptions(targets=("litert",), recipes=("f32", "w8")),
            "reading quantising writing quantising writing scoring proving proving comparing",
        ),
        (
            ConvertOptions(recipes=("source",), prove=False),
            "reading quantising writing quantising writing",
        ),
        (
            ConvertOptions(targets=("litert",), shallow="1", prove=True),
            "reading quantising writing scoring proving comparing scoring proving comparing",
        ),
    ],
)
def test_the_plan_has_every_stage(options, stages):
    checked = check_options(options)
    assert " ".join(stage for stage, _ in plan_stages(options, checked.targets, checked.recipes)) == stages
