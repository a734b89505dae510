import pytest

from edgesdk.errors import DeviceError
from edgesdk.kv.step_sizes import StepSizes


def pick(sizes, *arguments, **options):
    shape = sizes.pick(*arguments, **options)
    return shape.tokens, shape.cells, shape.rows


def test_the_smallest_piece_and_cells_that_do(shapes):
    sizes = StepSizes(shapes(), 64)
    assert pick(sizes, 1, 0, 0) == (1, 8, 1)
    assert pick(sizes, 3, 8, 8) == (4, 8, 1)
    assert pick(sizes, 5, 9, 8) == (16, 24, 1)
    assert pick(sizes, 500, 25, 24) == (16, 64, 1)


def test_cells_shrink_only_when_they_would_not_soon_grow_again(shapes):
    sizes = StepSizes(shapes(), 64)
    assert pick(sizes, 1, 18, 64) == (1, 24, 1)
    assert pick(sizes, 1, 19, 64) == (1, 64, 1)


def test_rows_for_scoring(shapes):
    sizes = StepSizes(shapes(), 64)
    assert pick(sizes, 9, 0, 0, all_rows=True) == (16, 8, 16)
    assert pick(sizes, 9, 0, 0) == (16, 8, 1)
    few = StepSizes(shapes(tokens=(16,), rows=(1, 4)), 64)
    assert pick(few, 9, 0, 0, all_rows=True) == (16, 8, 4)


def test_a_piece_size_without_enough_cells_gives_way(shapes):
    sizes = StepSizes([*shapes(tokens=(16,), cells=(8,)), *shapes(tokens=(1,), cells=(64,))], 64)
    assert pick(sizes, 40, 8, 8) == (16, 8, 1)
    assert pick(sizes, 40, 9, 8) == (1, 64, 1)


def test_capacities(shapes):
    sizes = StepSizes(shapes(), 64)
    assert [sizes.capacity_for(n) for n in (1, 8, 9, 24, 25, 64)] == [8, 8, 24, 24, 64, 64]
    with pytest.raises(DeviceError, match="its context is 65"):
        StepSizes(shapes(), 65)
    with pytest.raises(DeviceError, match="0 cells"):
        StepSizes([], 1)
