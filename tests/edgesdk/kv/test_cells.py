import numpy as np
import pytest

from edgesdk.backends.aligned_array import ALIGNMENT_BYTES
from edgesdk.kv.cells import Cells


@pytest.mark.parametrize("size", [1, 5, 24, 513])
def test_cells_are_aligned_contiguous_zeros(spec, size):
    cells = Cells(spec())
    cells.resize(size, 0)
    assert cells.array.shape == (3, 2, 2, size, 3)
    assert cells.size == size
    assert cells.array.flags.c_contiguous
    assert cells.array.ctypes.data % ALIGNMENT_BYTES == 0
    assert not cells.array.any()


def test_resizing_keeps_the_used_cells_and_clears_the_rest(spec):
    cells = Cells(spec())
    cells.resize(8, 0)
    new = np.random.default_rng(0).random((3, 2, 2, 6, 3)).astype(np.float32)
    cells.write(1, new, 5)
    assert np.array_equal(cells.array[:, :, :, 1:6], new[:, :, :, :5])
    cells.resize(16, 4)
    assert np.array_equal(cells.array[:, :, :, 1:4], new[:, :, :, :3])
    assert not cells.array[:, :, :, 4:].any()
    cells.resize(4, 4)
    assert np.array_equal(cells.array[:, :, :, 1:], new[:, :, :, :3])
