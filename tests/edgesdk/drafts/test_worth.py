import itertools

import numpy as np
import pytest

from edgesdk.drafts.worth import LEAST_GAIN, best_depth, choose_rows


def linear(slope):
    return lambda tokens: 1 + slope * (tokens - 1)


def test_all_rows_where_they_are_free():
    assert choose_rows([[0.5, 0.25], [0.1]], linear(0.0), most=8) == [[0, 1], [0]]


def test_no_rows_where_they_cost_what_a_step_costs():
    assert choose_rows([[0.9, 0.8]], linear(1.0), most=8) == [[]]
    assert choose_rows([[], []], linear(0.1), most=8) == [[], []]


def test_a_step_that_costs_more_at_once_is_filled_or_left():
    stairs = lambda tokens: 1.0 if tokens == 1 else 1.8  # noqa: E731
    assert choose_rows([[0.7]], stairs, most=8) == [[]]
    assert choose_rows([[0.7, 0.5, 0.3]], stairs, most=8) == [[0, 1, 2]]


def test_no_more_rows_than_there_may_be():
    assert choose_rows([[0.9, 0.8, 0.7], [0.85]], linear(0.0), most=2) == [[0], [0]]
    assert choose_rows([[0.9]], linear(0.0), most=0) == [[]]


@pytest.mark.parametrize("seed", range(30))
def test_no_other_choice_is_faster(seed):
    rng = np.random.default_rng(seed)
    answers = int(rng.integers(1, 4))
    chances, parents = [], []
    for _ in range(answers):
        size = int(rng.integers(0, 5))
        above = [int(rng.integers(-1, row)) if row else -1 for row in range(size)]
        reach = []
        for parent in above:
            reach.append(float(rng.random() * (reach[parent] if parent >= 0 else 1)))
        chances.append(reach)
        parents.append(above)
    steps = np.cumsum(rng.random(20) * rng.random())
    cost = lambda tokens: float(1 + steps[tokens - 1])  # noqa: E731
    chosen = choose_rows(chances, cost, most=16)
    for rows, above in zip(chosen, parents, strict=True):
        assert rows == sorted(rows)
        assert all(above[row] == -1 or above[row] in rows for row in rows)

    def speed(picked):
        gained = sum(chances[answer][row] for answer, row in picked)
        return (answers + gained) / cost(answers + len(picked))

    everything = [(answer, row) for answer, reach in enumerate(chances) for row in range(len(reach))]
    best = max(
        speed(picked)
        for size in range(len(everything) + 1)
        for picked in itertools.combinations(everything, size)
    )
    mine = speed([(answer, row) for answer, rows in enumerate(chosen) for row in rows])
    plain = speed([])
    if best > LEAST_GAIN * plain:
        assert mine == pytest.approx(best)
    else:
        assert mine == plain


def test_a_drafter_that_is_always_right_and_costs_nothing_goes_all_the_way():
    assert best_depth(1.0, linear(0.05), 0.0, answers=1, most=6)[0] == 6


def test_a_drafter_that_costs_what_it_saves_is_left_alone():
    assert best_depth(0.6, linear(0.1), 0.9, answers=1, most=6) == (0, 1.0)
    assert best_depth(0.1, linear(0.2), 0.0, answers=1, most=6) == (0, 1.0)
    assert best_depth(0.9, linear(0.1), 0.1, answers=1, most=0) == (0, 1.0)


def test_break_even_as_the_papers_have_it():
    """Acceptance 0.6, c = 0.09, three tokens: (1 + .6 + .36 + .216) / (v(4) + 3 * .09), here v(4) = 1."""
    depth, gain = best_depth(0.6, linear(0.0), 0.09, answers=1, most=3)
    assert depth == 3
    assert gain == pytest.approx(2.176 / 1.27)


def test_what_runs_in_any_case_is_no_gain_and_no_price():
    # Seven tokens run anyway: the eighth is free where eight cost what seven do.
    stairs = [0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 4.0]
    assert choose_rows([[0.7]], lambda tokens: stairs[tokens], most=8) == [[]]
    assert choose_rows([[0.7, 0.5]], lambda tokens: stairs[tokens], most=8, forced=6) == [[0]]
