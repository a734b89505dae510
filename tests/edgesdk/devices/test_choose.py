import pytest

from edgesdk.devices.choose import GOALS, choose, cost
from edgesdk.devices.measurement import Measurement, PhaseFigures


def make(
    backend,
    prefill=100.0,
    decode=10.0,
    *,
    batch=None,
    rss=1000,
    cpu=(1.0, 1.0),
    joules=(None, None),
    cells=True,
):
    return Measurement(
        "v",
        backend,
        "cpu",
        host_cells=cells,
        peak_rss_bytes=rss,
        prefill=PhaseFigures(prefill, cpu[0], joules[0]),
        decode=PhaseFigures(decode, cpu[1], joules[1]),
        batch=None if batch is None else PhaseFigures(batch, 1.0, None),
    )


def names(measured, goal):
    found = choose(measured, goal)
    return found.prefill.backend, found.decode.backend


@pytest.mark.parametrize("goal", GOALS)
def test_the_pick_is_the_cheapest_of_all_or_within_five_percent(goal):
    """Every pair that may be joined, against the choice."""
    measured = [
        make("a", 500, 20, batch=60, rss=900, cpu=(2, 9)),
        make("b", 900, 15, batch=200, rss=500, cpu=(1, 30)),
        make("c", 300, 30, batch=20, rss=700, cpu=(5, 5), cells=False),
        make("d", 520, 21, batch=61, rss=901, cpu=(2, 8)),
    ]
    found = choose(measured, goal)
    pairs = [
        (p, d)
        for p in measured
        for d in measured
        if p is d or (p.host_cells and d.host_cells and goal != "memory")
    ]
    assert found.cost <= min(cost(p, d, goal) for p, d in pairs) * 1.05
    assert found.cost == cost(found.prefill, found.decode, goal)
    singles = [cost(m, m, goal) for m in found.ranking]
    assert singles == sorted(singles)


def test_phases_are_split_where_that_pays():
    npu, cpu = make("npu", 5000, 10), make("cpu", 500, 40)
    assert names([npu, cpu], "latency") == ("npu", "cpu")
    assert names([npu, make("cpu", 4900, 40)], "latency") == ("cpu", "cpu")  # for 1 ms it does not
    assert names([make("npu", 5000, 10, cells=False), cpu], "latency") == ("cpu", "cpu")
    assert names([npu, cpu], "memory") == ("npu", "npu")


def test_goals_look_at_different_figures():
    alone, many = make("alone", batch=20.0, decode=15), make("many", batch=90.0, decode=10)
    assert names([alone, many], "latency") == ("alone", "alone")
    assert names([alone, many], "throughput") == ("many", "many")
    assert names([make("fat", 900, 90, rss=9), make("slim", rss=8)], "memory") == ("slim", "slim")
    assert names([make("busy", 900, 90, cpu=(5, 50)), make("idle", cpu=(1, 1))], "power") == ("idle", "idle")


def test_energy_counts_only_where_all_know_theirs():
    hungry, frugal = make("hungry", cpu=(1, 1), joules=(9, 9)), make("frugal", cpu=(2, 2), joules=(1, 1))
    assert names([hungry, frugal], "power") == ("frugal", "frugal")
    assert names([hungry, make("blind", cpu=(2, 2))], "power") == ("hungry", "hungry")


def test_what_was_not_measured_is_no_choice():
    failed = Measurement("v", "a", "cpu", reason="crashed")
    assert choose([failed], "latency") is None
    assert choose([], "power") is None
    assert choose([make("a", rss=None)], "memory") is None
    assert names([failed, make("b")], "latency") == ("b", "b")


def test_ties_go_to_the_preferred():
    assert names([make("first"), make("second")], "latency") == ("first", "first")
