"""Buffers of the step backend: stable, aligned, and read and written in place."""

import numpy as np
import pytest

from edgesdk.backends.aligned_array import aligned_floats
from edgesdk.backends.onnxruntime_step import OnnxStepBackend
from edgesdk.errors import DeviceError


@pytest.fixture
def backend(onnx_bundle):
    return OnnxStepBackend(onnx_bundle.bundle, onnx_bundle.bundle.variant("step"), threads=1)


def cells_for(backend, shape):
    spec = backend._spec
    cells = aligned_floats(len(spec.layers), 2, spec.kv_heads, shape.cells, spec.head_size)
    cells[:] = np.random.default_rng(0).standard_normal(cells.shape)
    return cells


def run(backend, shape, cells):
    backend.run(shape, cells)
    arrays = backend.buffers(shape)
    return arrays.logits.copy(), arrays.kv_new.copy()


def test_buffers_keep_their_address(backend):
    shape = backend.shapes[1]
    first = backend.buffers(shape)
    backend.run(shape, cells_for(backend, shape))
    second = backend.buffers(shape)
    for name in ("tokens", "mask", "window_mask", "logits", "kv_new"):
        array = getattr(first, name)
        assert getattr(second, name) is array
        assert array.ctypes.data % 64 == 0


def test_cells_may_change_in_place_or_be_others(backend):
    shape = backend.shapes[1]
    cells = cells_for(backend, shape)
    before = run(backend, shape, cells)
    same = cells.copy()
    assert all(np.array_equal(a, b) for a, b in zip(before, run(backend, shape, same), strict=True))
    cells[1] *= 2
    changed, _ = run(backend, shape, cells)
    assert not np.array_equal(changed, before[0])
    same[1] *= 2
    assert np.array_equal(run(backend, shape, same)[0], changed)


def test_cells_are_only_read(backend):
    shape = backend.shapes[0]
    cells = cells_for(backend, shape)
    kept = cells.copy()
    cells.flags.writeable = False
    backend.run(shape, cells)
    np.testing.assert_array_equal(cells, kept)


def test_cells_of_another_shape_are_refused(backend):
    shape = backend.shapes[0]
    cells = cells_for(backend, shape)
    for wrong in (cells[:1], cells[..., :8], cells.astype(np.float64), cells.swapaxes(0, 1)[:, ::-1]):
        with pytest.raises(DeviceError, match="cells are"):
            backend.run(shape, wrong)
