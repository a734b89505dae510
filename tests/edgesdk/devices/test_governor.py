from itertools import pairwise

import pytest

from edgesdk.devices.governor import Governor, GovernorLimits, GovernorRule, GovernorSettings
from edgesdk.devices.power_readings import PowerReadings
from edgesdk.errors import UnsupportedOption


class Machine:
    """Readings and a clock that a test sets."""

    def __init__(self, settings=None):
        self.now, self.asked, self.found = 0.0, 0, PowerReadings()
        self.governor = Governor(settings, readings=self.read, clock=lambda: self.now)

    def read(self):
        self.asked += 1
        return self.found

    def after(self, seconds, *, c=None, percent=None, on_battery=None):
        """The limits when the machine is as given from now on, so many seconds from now."""
        self.now += seconds
        self.found = PowerReadings(percent, on_battery, c, "cpu")
        return self.governor.limits()


HOT = GovernorSettings((GovernorRule(hotter_than_c=80, threads_share=0.5),), every_s=1, clear_s=10)


def test_a_rule_counts_at_once_and_is_let_go_late():
    machine = Machine(HOT)
    assert machine.after(0, c=80) == GovernorLimits()
    limits = machine.after(1, c=81)
    assert (limits.threads(4), limits.reason) == (2, "cpu at 81 C (above 80 C)")
    # Clear means 5 degrees below the limit, for 10 seconds without a break.
    for c in (79, 76):
        assert machine.after(100, c=c).threads(4) == 2
    assert machine.after(1, c=74).threads(4) == 2
    assert machine.after(9, c=74).threads(4) == 2
    assert machine.after(0.5, c=74).threads(4) == 2  # not read yet
    assert machine.after(0.5, c=74).threads(4) == 4
    assert machine.governor.limits().reason == "cpu at 74 C (no limit holds any more)"


def test_a_break_starts_the_wait_anew():
    machine = Machine(HOT)
    machine.after(0, c=85)
    for _ in range(5):
        assert machine.after(6, c=70).threads(4) == 2
        assert machine.after(2, c=78).threads(4) == 2
    machine.after(1, c=70)
    assert machine.after(10, c=70).threads(4) == 4


@pytest.mark.parametrize("around", [(79.5, 80.5), (70, 90)])
def test_a_reading_that_swings_around_a_limit_changes_nothing_twice(around):
    machine = Machine(HOT)
    seen = [machine.after(3, c=around[i % 2]).threads(4) for i in range(200)]
    assert sum(a != b for a, b in pairwise(seen)) == 1


def test_readings_are_not_taken_more_often_than_asked_for():
    machine = Machine(HOT)
    for _ in range(50):
        machine.after(0.1, c=50)
    assert machine.asked == 5
    assert machine.governor.readings.temperature_c == 50


def test_the_defaults():
    machine = Machine()
    assert machine.after(0, c=60, percent=50, on_battery=True) == GovernorLimits()
    assert machine.after(10, c=86, percent=50, on_battery=True).threads(8) == 4
    assert machine.after(10, c=96, percent=50, on_battery=True).threads(8) == 2
    machine = Machine()
    assert machine.after(0, percent=19, on_battery=False) == GovernorLimits()  # it is being charged
    assert machine.after(10, percent=19, on_battery=True).threads(8) == 4
    low = machine.after(10, percent=9, on_battery=True)
    assert (low.threads(8), low.threads(1)) == (2, 1)
    assert low.reason == "battery at 9%, discharging (battery below 20%; battery below 10%)"
    machine.after(10, percent=10, on_battery=False)
    assert machine.after(60, percent=12, on_battery=False) == GovernorLimits()


def test_rules_are_combined():
    rules = (
        GovernorRule(hotter_than_c=80, threads_share=0.75, context_tokens=512),
        GovernorRule(on_battery=True, device="npu", context_tokens=900),
        GovernorRule(hotter_than_c=80, on_battery=True, threads_share=0.5, device="cpu"),
    )
    machine = Machine(GovernorSettings(rules, every_s=0))
    assert machine.after(0, c=85, on_battery=False) == GovernorLimits(0.75, None, 512)
    assert machine.after(0, c=85, on_battery=True) == GovernorLimits(0.5, "npu", 512)
    assert "above 80 C; on battery; above 80 C and on battery" in machine.governor.limits().reason


def test_a_sensor_that_vanishes_limits_nothing_for_ever():
    machine = Machine(HOT)
    machine.after(0, c=85)
    assert machine.after(1).threads(4) == 2
    assert machine.after(10).threads(4) == 4


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: GovernorRule(threads_share=0.5), "no condition"),
        (lambda: GovernorRule(hotter_than_c=80), "lowers nothing"),
        (lambda: GovernorRule(hotter_than_c=80, threads_share=0), "threads_share is 0"),
        (lambda: GovernorRule(hotter_than_c=80, threads_share=float("nan")), "threads_share is nan"),
        (lambda: GovernorRule(on_battery=True, context_tokens=0), "context_tokens is 0"),
        (lambda: GovernorSettings(every_s=-1), "every_s is -1"),
        (lambda: GovernorSettings(clear_s=float("nan")), "clear_s is nan"),
    ],
)
def test_what_has_no_meaning_is_refused(make, what):
    with pytest.raises(UnsupportedOption, match=what):
        make()
