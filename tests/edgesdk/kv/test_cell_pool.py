"""Accounts, lowest index first, growth, and moving cells together."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgesdk.backends.aligned_array import ALIGNMENT_BYTES
from edgesdk.backends.cell_arrays import all_finite
from edgesdk.backends.protocol import Cells
from edgesdk.errors import CapacityError, DeviceError

RELAXED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


class Holder:
    """Holds a list of cells, and nothing else."""

    def __init__(self, pool, cells=()):
        self.cells = np.array(cells, np.int32)
        pool.register(self)

    def held_cells(self):
        return self.cells

    def renumber(self, moved):
        self.cells = moved[self.cells]


def new_kv(count, seed=0):
    return Cells((np.random.default_rng(seed).random((3, 2, 2, count, 3)).astype(np.float32),))


def same(found, expected):
    return all(map(np.array_equal, found.arrays, expected.arrays))


@RELAXED
@given(data=st.data(), capacity=st.integers(1, 64))
def test_accounts_are_those_of_a_plain_list(build_pool, data, capacity):
    pool = build_pool(capacity)
    counts = [0] * capacity
    holders = []
    for _ in range(data.draw(st.integers(1, 25))):
        action = data.draw(st.sampled_from(["allocate", "share", "release"]))
        free = [i for i, n in enumerate(counts) if not n]
        if action == "allocate":
            count = data.draw(st.integers(0, capacity + 1))
            if count > len(free):
                with pytest.raises(CapacityError, match=f"{count} cells are needed, {len(free)} of"):
                    pool.allocate(count)
            else:
                found = pool.allocate(count)
                assert found.tolist() == free[:count]
                assert found.dtype == np.int32
                holders.append(Holder(pool, found))
                for cell in free[:count]:
                    counts[cell] = 1
        elif holders and action == "share":
            holders.append(Holder(pool, data.draw(st.sampled_from(holders)).cells))
            pool.share(holders[-1].cells)
            for cell in holders[-1].cells:
                counts[cell] += 1
        elif holders:
            holder = holders.pop(data.draw(st.integers(0, len(holders) - 1)))
            pool.release(holder.cells)
            for cell in holder.cells:
                counts[cell] -= 1
        in_use = [i for i, n in enumerate(counts) if n]
        assert (pool.used, pool.free) == (len(in_use), capacity - len(in_use))
        assert pool.frontier == max(in_use, default=-1) + 1
        pool.check(holders)


def test_a_double_release_changes_nothing(build_pool):
    pool = build_pool()
    cells = pool.allocate(3)
    pool.release(cells[1:2])
    with pytest.raises(ValueError, match="free cell cannot be released"):
        pool.release(cells)
    with pytest.raises(ValueError, match="free cell cannot be shared"):
        pool.share(cells)
    assert pool.used == 2


def test_a_pool_beyond_the_step_graph_is_refused(build_pool):
    for capacity in (0, 65):
        with pytest.raises(DeviceError, match=f"holds 64 cells at most, found a pool of {capacity}"):
            build_pool(capacity)


@pytest.mark.parametrize("size", [1, 5, 24, 513])
def test_cells_are_aligned_contiguous_zeros(build_pool, size):
    pool = build_pool()
    assert pool.nbytes == pool.size == 0
    pool.resize(size)
    (array,) = pool.cells.arrays
    assert array.shape == (3, 2, 2, size, 3)
    assert pool.size == size
    assert pool.nbytes == size * pool.bytes_per_cell
    assert array.flags.c_contiguous
    assert array.ctypes.data % ALIGNMENT_BYTES == 0
    assert not array.any()
    assert pool.cells is pool.cells


def test_writing_grows_to_the_next_size_and_keeps_what_is_there(build_pool):
    pool = build_pool()
    new = new_kv(6)
    pool.write(pool.allocate(5), new)
    assert pool.size == 8
    assert same(pool.cells.take(slice(5)), new.take(slice(5)))
    later = new_kv(9, 1)
    pool.write(pool.allocate(4), later, np.array([8, 0, 3, 1], np.int32))
    assert pool.size == 24
    assert same(pool.read(np.arange(5)), new.take(slice(5)))
    assert same(pool.read(np.arange(5, 9)), later.take(np.array([8, 0, 3, 1])))
    assert all_finite(pool.cells)


def test_writing_into_gaps(build_pool):
    pool = build_pool()
    cells = pool.allocate(8)
    pool.write(cells, new_kv(8))
    pool.release(cells[[1, 2, 6]])
    new = new_kv(5, 1)
    found = pool.allocate(5)
    assert found.tolist() == [1, 2, 6, 8, 9]
    pool.write(found, new)
    assert same(pool.read(found), new)
    assert same(pool.read(cells[3:6]), new_kv(8).take(slice(3, 6)))


def test_store_next_is_allocate_and_write(build_pool):
    pool = build_pool()
    new = new_kv(4).take(0)
    for expected in range(10):
        assert pool.store_next(new) == expected
    pool.release(np.array([3], np.int32))
    other = new_kv(1, 1)
    assert pool.store_next(other.take(0)) == 3
    assert same(pool.read(np.array([3])), other)
    assert same(pool.read(np.array([9])).take(0), new)
    full = build_pool(1)
    full.store_next(new)
    with pytest.raises(CapacityError):
        full.store_next(new)


@RELAXED
@given(data=st.data())
def test_compacting_moves_contents_and_tells_every_holder(build_pool, data):
    pool = build_pool()
    holders = [Holder(pool, pool.allocate(data.draw(st.integers(1, 9)))) for _ in range(6)]
    for seed, holder in enumerate(holders):
        pool.write(holder.cells, new_kv(len(holder.cells), seed))
    holders.append(Holder(pool, np.concatenate([holders[0].cells[:1], holders[3].cells])))
    pool.share(holders[-1].cells)
    for index in sorted(data.draw(st.sets(st.integers(0, 6))), reverse=True):
        pool.release(holders.pop(index).cells)
    before = [pool.read(holder.cells) for holder in holders]
    expected = pool.moves_to_compact()
    assert pool.compact() == expected
    assert pool.frontier == pool.used
    assert pool.compact() == pool.moves_to_compact() == 0
    for holder, contents in zip(holders, before, strict=True):
        assert same(pool.read(holder.cells), contents)
    pool.check(holders)


def test_check_finds_what_is_wrong(build_pool):
    pool = build_pool()
    held = Holder(pool, pool.allocate(4))
    pool.check([held])
    with pytest.raises(ValueError, match="4 cells have other holders than counted"):
        pool.check([])
    with pytest.raises(ValueError, match="cell 0 is held 2 times, counted 1"):
        pool.check([held, held])
    with pytest.raises(ValueError, match="cell 2 is held twice by one holder"):
        pool.check([Holder(pool, [0, 1, 2, 2, 3])])


def test_what_an_interrupt_leaves_unfinished_is_counted_anew(build_pool):
    pool = build_pool()
    held = Holder(pool, pool.allocate(3))
    pool.begin()
    pool.allocate(5)  # and no holder comes to be
    assert pool.used == 3
    pool.check([held])
    pool.begin()
    pool.release(held.cells)  # and the holder is not told
    pool.begin()
    pool.end()
    assert pool.used == pool.frontier == 3
