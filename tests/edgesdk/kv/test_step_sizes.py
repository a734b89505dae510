import pytest

from edgesdk.errors import CapacityError, DeviceError
from edgesdk.kv.step_sizes import StepSizes


def pick(sizes, tokens, used, held, rows=1):
    shape = sizes.pick(tokens, rows, used, held)
    return shape.tokens, shape.cells, shape.rows


def test_the_smallest_step_and_cells_that_do(shapes):
    sizes = StepSizes(shapes(), 64)
    assert pick(sizes, 1, 0, 0) == (1, 8, 1)
    assert pick(sizes, 3, 8, 8) == (4, 8, 1)
    assert pick(sizes, 5, 9, 8) == (16, 24, 1)
    assert pick(sizes, 16, 25, 24) == (16, 64, 1)


def test_cells_shrink_only_when_they_would_not_soon_grow_again(shapes):
    sizes = StepSizes(shapes(), 64)
    assert pick(sizes, 1, 18, 64) == (1, 24, 1)
    assert pick(sizes, 1, 19, 64) == (1, 64, 1)


def test_the_fewest_rows_that_do_else_the_most_there_are(shapes):
    sizes = StepSizes(shapes(), 64)
    assert pick(sizes, 9, 0, 0, rows=9) == (16, 8, 16)
    assert pick(sizes, 9, 0, 0, rows=0) == (16, 8, 1)
    few = StepSizes(shapes(tokens=(16,), rows=(1, 4)), 64)
    assert pick(few, 9, 0, 0, rows=9) == (16, 8, 4)
    assert pick(few, 9, 0, 0, rows=2) == (16, 8, 4)
    assert (few.most_rows(9, 64), sizes.most_rows(3, 64)) == (4, 4)


def test_what_no_step_can_run_is_refused_in_one_line(shapes):
    sizes = StepSizes([*shapes(tokens=(16,), cells=(8,)), *shapes(tokens=(4,), cells=(64,))], 64)
    assert sizes.token_budgets(64) == (4,)
    assert sizes.token_budgets(8) == (4, 16)
    with pytest.raises(CapacityError, match=r"5 tokens with 9 cells in use .* \(4 tokens\)") as caught:
        sizes.pick(5, 1, 9, 8)
    assert "\n" not in str(caught.value)


def test_pieces_of_one_sequence(shapes):
    sizes = StepSizes(shapes(), 64)
    assert [sizes.piece(n, 0) for n in (1, 5, 16, 500)] == [1, 5, 16, 16]
    # Scoring takes the sizes that give all their rows in one run, if there are any.
    scoring = StepSizes([*shapes(tokens=(16,), rows=(4,)), *shapes(tokens=(8,), rows=(8,))], 64)
    assert (scoring.piece(40, 0), scoring.piece(40, 0, all_rows=True)) == (16, 8)
    few = StepSizes(shapes(tokens=(16,), rows=(4,)), 64)
    assert few.piece(40, 0, all_rows=True) == 16
    short = StepSizes([*shapes(tokens=(16,), cells=(8,)), *shapes(tokens=(1,), cells=(64,))], 64)
    assert [short.piece(40, used) for used in (8, 9)] == [16, 1]


def test_capacities(shapes):
    sizes = StepSizes(shapes(), 64)
    assert [sizes.capacity_for(n) for n in (1, 8, 9, 24, 25, 64)] == [8, 8, 24, 24, 64, 64]
    with pytest.raises(DeviceError, match="its context is 65"):
        StepSizes(shapes(), 65)
    with pytest.raises(DeviceError, match="0 cells"):
        StepSizes([], 1)
