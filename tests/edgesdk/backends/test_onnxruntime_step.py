"""Buffers of the step backend: stable, aligned, and read and written in place."""

import weakref

import numpy as np
import pytest

from edgesdk.backends.cell_arrays import allocate_cells
from edgesdk.backends.onnxruntime_step import OnnxStepBackend
from edgesdk.backends.protocol import Cells
from edgesdk.errors import DeviceError


@pytest.fixture
def backend(onnx_bundle):
    return OnnxStepBackend(onnx_bundle.bundle, onnx_bundle.bundle.variant("step"), threads=1)


def cells_for(backend, shape):
    cells = allocate_cells(backend.contracts[shape.stack].groups, shape.cells)
    for array in cells.arrays:
        array[:] = np.random.default_rng(0).standard_normal(array.shape)
    return cells


def run(backend, shape, cells):
    backend.run(shape, cells)
    arrays = backend.buffers(shape)
    return arrays.logits.copy(), arrays.kv_new.copy().arrays[0]


def test_buffers_keep_their_address(backend):
    shape = backend.shapes[1]
    first = backend.buffers(shape)
    backend.run(shape, cells_for(backend, shape))
    second = backend.buffers(shape)
    assert second is first
    for name in ("tokens", "mask", "window_mask", "logits"):
        assert first.port(name).ctypes.data % 64 == 0
    assert all(array.ctypes.data % 64 == 0 for array in first.kv_new.arrays)


def test_cells_may_change_in_place_or_be_others(backend):
    shape = backend.shapes[1]
    cells = cells_for(backend, shape)
    before = run(backend, shape, cells)
    same = cells.copy()
    assert all(np.array_equal(a, b) for a, b in zip(before, run(backend, shape, same), strict=True))
    cells.arrays[0][1] *= 2
    changed, _ = run(backend, shape, cells)
    assert not np.array_equal(changed, before[0])
    same.arrays[0][1] *= 2
    assert np.array_equal(run(backend, shape, same)[0], changed)


def test_cells_are_only_read(backend):
    shape = backend.shapes[0]
    cells = cells_for(backend, shape)
    kept = cells.copy()
    cells.arrays[0].flags.writeable = False
    backend.run(shape, cells)
    np.testing.assert_array_equal(cells.arrays[0], kept.arrays[0])


def test_cells_of_another_shape_are_refused(backend):
    shape = backend.shapes[0]
    (cells,) = cells_for(backend, shape).arrays
    for wrong in (cells[:1], cells[..., :8], cells.astype(np.float64), cells.swapaxes(0, 1)[:, ::-1]):
        with pytest.raises(DeviceError, match="cells are"):
            backend.run(shape, Cells((wrong,)))
    with pytest.raises(DeviceError, match="cells are 2 arrays, expected 1"):
        backend.run(shape, Cells((cells, cells)))


def test_cells_are_not_kept_by_what_has_run_them(backend):
    shape = backend.shapes[0]
    cells = cells_for(backend, shape)
    gone = weakref.ref(cells)
    backend.run(shape, cells)
    del cells
    assert gone() is None
    backend.run(shape, cells_for(backend, shape))
