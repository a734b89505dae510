"""Lists that share cells are as independent as lists that do not."""

import gc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgesdk.errors import CapacityError
from edgesdk.kv.cell_list import CellList

RELAXED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def grow(cells, tokens):
    pool = cells.pool
    pool.begin()
    cells.append(np.array(tokens, np.int32), pool.allocate(len(tokens)))
    pool.end()


@RELAXED
@given(data=st.data())
def test_any_history_is_that_of_independent_copies(build_pool, data):
    pool = build_pool(cells=(8, 400))
    lists, contents = [CellList(pool)], [[]]  # contents: (token, cell) pairs
    for step in range(data.draw(st.integers(1, 30))):
        at = data.draw(st.integers(0, len(lists) - 1))
        chosen, content = lists[at], contents[at]
        action = data.draw(st.sampled_from(["grow", "fork", "truncate", "adopt", "close"]))
        if action == "grow":
            new = [100 * step + i for i in range(data.draw(st.integers(1, 10)))]
            if len(new) > pool.free:
                continue
            grow(chosen, new)
            contents[at] = content + list(zip(new, chosen.cells[len(content) :].tolist(), strict=True))
        elif action == "fork":
            lists.append(chosen.fork())
            contents.append(list(content))
        elif action == "truncate":
            length = data.draw(st.integers(0, len(content)))
            chosen.truncate(length)
            contents[at] = content[:length]
        elif action == "adopt":
            lists.append(CellList(pool))
            pairs = content[: data.draw(st.integers(0, len(content)))]
            lists[-1].adopt(chosen.tokens[: len(pairs)], chosen.cells[: len(pairs)])
            contents.append(pairs)
        elif len(lists) > 1:
            chosen.close()
            del lists[at], contents[at]
        for each, pairs in zip(lists, contents, strict=True):
            assert list(zip(each.tokens.tolist(), each.cells.tolist(), strict=True)) == pairs
        assert pool.used == len({cell for pairs in contents for _, cell in pairs})
        pool.check(lists)


def test_a_fork_copies_no_cells_and_grows_apart(build_pool):
    pool = build_pool()
    one = CellList(pool)
    grow(one, [5, 6, 7])
    other = one.fork()
    assert pool.used == 3
    assert other.serial != one.serial
    grow(one, [8])
    grow(other, [9])
    assert (one.cells.tolist(), other.cells.tolist()) == ([0, 1, 2, 3], [0, 1, 2, 4])
    one.close()
    assert pool.used == 4
    assert other.tokens.tolist() == [5, 6, 7, 9]


def test_edits_tell_replaced_cells_from_added_ones(build_pool):
    cells = CellList(build_pool())
    grow(cells, range(10))
    edits = cells.edits
    grow(cells, range(10))
    assert cells.edits == edits
    cells.truncate(20)
    assert cells.edits == edits
    cells.truncate(19)
    assert cells.edits != edits


def test_impossible_lengths_and_adoptions_are_refused(build_pool):
    cells = CellList(build_pool())
    grow(cells, [1, 2])
    for length in (-1, 3):
        with pytest.raises(CapacityError, match=f"cannot shorten 2 tokens to {length}"):
            cells.truncate(length)
    with pytest.raises(ValueError, match="2 tokens cannot have 1 cells"):
        cells.adopt(cells.tokens, cells.cells[:1])
    with pytest.raises(ValueError, match="free cell"):
        CellList(cells.pool).adopt(np.array([3], np.int32), np.array([9], np.int32))
    cells.pool.check([cells])


def test_closing_twice_is_closing_once(build_pool):
    cells = CellList(build_pool())
    grow(cells, [1, 2])
    cells.close()
    cells.close()
    assert cells.closed
    assert cells.pool.used == 0


def test_cells_out_of_reach_are_freed_and_positions_stay(build_pool):
    pool = build_pool()
    cells = CellList(pool, reach=3)
    grow(cells, range(8))
    pool.begin()
    cells.release_unreachable()
    pool.end()
    assert (cells.length, cells.first, pool.used) == (8, 5, 3)
    assert cells.tokens.tolist() == list(range(8))
    assert cells.cells.tolist() == [5, 6, 7]
    fork = cells.fork()
    assert (fork.first, fork.length) == (5, 8)
    with pytest.raises(CapacityError, match="cells before position 5 are freed; run the tokens again"):
        cells.truncate(7)
    cells.truncate(0)
    assert (cells.first, cells.length) == (0, 0)
    grow(cells, [1])
    assert cells.cells.tolist() == [0]
    pool.check([cells, fork])


def test_a_token_may_be_taken_back_while_its_reach_is_held(build_pool):
    pool = build_pool()
    cells = CellList(pool, reach=3)
    grow(cells, range(5))
    pool.begin()
    cells.release_unreachable()
    pool.end()
    grow(cells, range(2))
    cells.truncate(5)
    assert (cells.length, cells.first, pool.used) == (5, 2, 3)


def test_restore_takes_back_an_append(build_pool):
    pool = build_pool()
    cells = CellList(pool)
    grow(cells, [1, 2])
    before = (cells.length, cells.first)
    pool.begin()
    cells.append(np.array([3], np.int32), pool.allocate(1))
    cells.restore(*before)
    pool.begin()
    pool.end()
    assert cells.tokens.tolist() == [1, 2]
    pool.check([cells])


def test_a_forgotten_list_gives_its_cells_back(build_pool):
    pool = build_pool()
    kept, forgotten = CellList(pool), CellList(pool)
    grow(kept, [1, 2])
    grow(forgotten, [3, 4, 5])
    shared = forgotten.fork()
    shared.truncate(1)
    del forgotten
    assert pool.used == 3
    pool.check([kept, shared])


def test_a_list_that_a_finaliser_brings_back_is_empty_and_sound(build_pool):
    pool = build_pool()
    saved = []

    class Owner:
        def __init__(self):
            self.cells, self.itself = CellList(pool), self
            grow(self.cells, [1, 2, 3])

        def __del__(self):
            self.cells.truncate(0)
            saved.append(self.cells)

    Owner()
    gc.collect()
    (cells,) = saved
    assert pool.used == 0
    grow(cells, [4, 5])
    forgotten = CellList(pool)
    grow(forgotten, [6])
    del forgotten
    assert pool.used == 2
    assert cells.tokens.tolist() == [4, 5]
    pool.check([cells])
