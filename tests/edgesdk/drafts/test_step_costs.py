import numpy as np
import pytest

from edgesdk.drafts.step_costs import StepCosts


def teach(costs, curve, sizes, rounds=40, scale=0.01, noise=None):
    for turn in range(rounds):
        for size in sizes:
            held_up = 1.0 if noise is None else noise(turn)
            costs.learn(size, scale * curve(size) * held_up)


def stairs(tokens):
    """As files of today: one to eight tokens cost the same."""
    return 1.0 if tokens == 1 else 1.8 if tokens <= 8 else 4.5


def test_nothing_is_known_at_first():
    costs = StepCosts()
    assert not costs.known
    assert costs.stale(1)
    assert costs.ratio(1) == 1.0
    assert 1.0 < costs.ratio(4) < 2.0


@pytest.mark.parametrize("curve", [stairs, lambda T: 0.9 + 0.1 * T, lambda T: float(T)])
def test_the_curve_is_learned(curve):
    costs = StepCosts()
    teach(costs, curve, (1, 2, 8, 16))
    for size in (1, 2, 8, 16):
        assert costs.ratio(size) == pytest.approx(curve(size), rel=0.02)
        assert costs.seconds(size) == pytest.approx(0.01 * curve(size), rel=0.02)


def test_the_first_step_of_a_size_is_not_its_price():
    """It lays out what the others find; taken for the price it would switch drafts off for long."""
    costs = StepCosts()
    costs.learn(1, 0.01)
    guessed = costs.ratio(4)
    costs.learn(4, 0.025)
    assert costs.ratio(4) == guessed
    assert costs.seconds(1) == pytest.approx(0.01)
    assert not costs.stale(4)
    costs.learn(4, 0.011)
    assert costs.ratio(4) == pytest.approx(1.1)


def test_sizes_between_lie_between():
    costs = StepCosts()
    teach(costs, stairs, (1, 2, 8))
    assert costs.ratio(5) == pytest.approx(1.8, rel=0.02)
    costs = StepCosts()
    teach(costs, lambda T: float(T), (1, 2, 8))
    found = [costs.ratio(size) for size in range(1, 24)]
    assert found == sorted(found)
    assert costs.ratio(5) == pytest.approx(5, rel=0.05)


def test_the_whole_machine_may_become_slower():
    costs = StepCosts()
    teach(costs, stairs, (1, 8))
    for _ in range(12):
        costs.learn(8, 0.01 * 1.8 * 2.5)  # longer contexts, or other work
    assert costs.seconds(8) == pytest.approx(0.01 * 1.8 * 2.5, rel=0.1)
    # Steps of eight alone do not tell which it is; that they cost more is believed less and less.
    costs.learn(1, 0.025)
    costs.learn(1, 0.025)
    teach(costs, stairs, (1, 8), scale=0.025)
    assert costs.ratio(8) == pytest.approx(1.8, rel=0.05)


def test_a_step_that_was_held_up_hardly_counts():
    rng = np.random.default_rng(0)
    costs = StepCosts()
    teach(costs, stairs, (1, 8), rounds=100)
    costs.learn(8, 3.0)
    assert costs.ratio(8) < 1.8 * 1.25
    teach(costs, stairs, (1, 8), rounds=60, noise=lambda _: 1 + rng.exponential(0.1))
    assert costs.ratio(8) == pytest.approx(1.8, rel=0.1)


def test_a_size_is_stale_when_it_was_long_ago():
    costs = StepCosts()
    costs.learn(1, 0.01)
    assert not costs.stale(1)
    for _ in range(80):
        costs.learn(8, 0.02)
    assert costs.stale(1)
    assert not costs.stale(8)


@pytest.mark.parametrize(("tokens", "seconds"), [(0, 1.0), (1, 0.0), (4, -1.0), (2, float("nan"))])
def test_what_is_no_step_is_not_learned(tokens, seconds):
    costs = StepCosts()
    costs.learn(tokens, seconds)
    assert not costs.known
