"""Planes keep their first cells wherever another S puts them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.backends.aligned_array import ALIGNMENT_BYTES
from edgesdk.kv.plane_array import PlaneArray, call_uninterrupted


def lay_out(planes, size, kept):
    call_uninterrupted(planes.calls_to_lay_out(size, kept))


@pytest.mark.parametrize("number", [np.float32, np.float16, np.int8])
@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_kept_cells_are_where_they_belong_after_any_history(number, sizes, seed):
    rng = np.random.default_rng(seed)
    planes = PlaneArray(number, (3, 2), (5,), most=25)  # 40 goes beyond it: new memory
    expected = np.zeros((3, 2, 0, 5), number)
    for size in sizes:
        kept = int(rng.integers(0, min(size, expected.shape[2]) + 1))
        lay_out(planes, size, kept)
        assert planes.array.shape == (3, 2, size, 5)
        assert planes.array.dtype == number
        assert planes.array.flags.c_contiguous
        assert planes.array.ctypes.data % ALIGNMENT_BYTES == 0 or not size
        assert np.array_equal(planes.array[:, :, :kept], expected[:, :, :kept])
        planes.array[:] = rng.integers(-100, 100, planes.array.shape)
        expected = planes.array.copy()


def test_memory_stays_where_it_is_until_nothing_is_left():
    planes = PlaneArray(np.float32, (2,), (16,), most=64)
    lay_out(planes, 8, 0)
    place = planes.array.ctypes.data
    for size in (16, 64, 8):
        lay_out(planes, size, 8)
        assert planes.array.ctypes.data == place
    lay_out(planes, 0, 0)
    assert planes.array.nbytes == 0
    assert planes.array.base is None or planes.array.base.nbytes <= ALIGNMENT_BYTES


def test_the_new_planes_hold_numbers_only():
    planes = PlaneArray(np.float32, (4,), (3,), most=10)
    lay_out(planes, 4, 0)
    planes.array[:] = 7
    lay_out(planes, 10, 4)
    assert set(np.unique(planes.array)) <= {0.0, 7.0}
