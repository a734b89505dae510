"""The choice of a budget, and how many branches share a step."""

import pytest

from edgesdk.engine.budget import count_seats, pick_budget

STEP_MS = {1: 5.0, 8: 7.0, 32: 15.0, 128: 70.0}


@pytest.mark.parametrize(
    ("target_ms", "budget"), [(1.0, 8), (5.0, 8), (7.0, 8), (14.9, 8), (15.0, 32), (69.0, 32), (1e6, 128)]
)
def test_the_largest_step_within_the_target(target_ms, budget):
    assert pick_budget(STEP_MS, target_ms) == budget


def test_one_size_only():
    assert pick_budget({1: 5.0}, 1.0) == 1


class Sizes:
    def __init__(self, rows):
        self.rows = rows
        self.token_budgets = tuple(rows)

    def most_rows(self, tokens):
        return min((t, r) for t, r in self.rows.items() if t >= tokens)[1]


@pytest.mark.parametrize(
    ("rows", "budget", "seats"),
    [
        ({1: 1, 8: 8, 32: 8, 128: 8}, 32, 8),
        ({1: 1, 8: 8, 32: 8, 128: 8}, 4, 4),
        ({1: 1, 8: 8, 32: 32}, 32, 32),
        ({1: 1, 8: 8, 32: 1}, 32, 1),
        ({1: 1, 16: 1}, 16, 1),
        ({1: 1}, 1, 1),
    ],
)
def test_seats_are_what_every_step_gives_logits_of(rows, budget, seats):
    assert count_seats(Sizes(rows), budget) == seats
