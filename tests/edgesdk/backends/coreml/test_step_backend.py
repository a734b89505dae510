"""Buffers, masks and cells between the host's float32 and a package's float16."""

import numpy as np
import pytest

from edgesdk.backends.cell_arrays import all_finite, allocate_cells
from edgesdk.backends.coreml.interpreter import MilInterpreter
from edgesdk.backends.coreml.ml_model import MlModelPredictor
from edgesdk.backends.coreml.step_backend import CoreMLStepBackend
from edgesdk.backends.protocol import MASKED
from edgesdk.bundle.step_contract import main_stack, step_contract
from edgesdk.errors import DeviceError


class Recorder:
    """An interpreter that remembers what it was given."""

    def __init__(self, package):
        self._interpreter = MilInterpreter(package)
        self.given = {}

    def inputs(self, function):
        return self._interpreter.inputs(function)

    def predict(self, function, inputs):
        self.given = dict(inputs)
        return self._interpreter.predict(function, inputs)


@pytest.fixture
def recorder(package):
    return Recorder(package)


@pytest.fixture
def backend(recorder, spec, steps):
    return CoreMLStepBackend(recorder, contracts(spec), steps)


def cells_for(spec, shape):
    cells = allocate_cells(step_contract(spec).groups, shape.cells)
    cells.arrays[0][:] = np.random.default_rng(0).standard_normal(cells.arrays[0].shape)
    return cells


def contracts(spec):
    return main_stack(spec)


def test_masks_become_finite_in_float16(backend, recorder, spec):
    shape = backend.shapes[1]
    arrays = backend.buffers(shape)
    arrays.mask[:] = MASKED
    arrays.mask[:, 0] = 0
    backend.run(shape, cells_for(spec, shape))
    given = recorder.given["mask"].astype(np.float16)
    assert np.isfinite(given).all()
    assert np.isfinite(arrays.logits).all()
    assert (arrays.mask[:, 1:] == MASKED).all()


def test_masked_cells_do_not_count(backend, spec):
    shape = backend.shapes[0]
    arrays, cells = backend.buffers(shape), cells_for(spec, shape)
    arrays.mask[:] = MASKED
    arrays.mask[0, :3] = 0
    backend.run(shape, cells)
    before = arrays.logits.copy()
    cells.arrays[0][..., 3:, :] *= -7
    backend.run(shape, cells)
    np.testing.assert_array_equal(arrays.logits, before)
    cells.arrays[0][..., 2, :] *= -7
    backend.run(shape, cells)
    assert not np.array_equal(arrays.logits, before)


def test_buffers_keep_their_address_and_outputs_land_in_them(backend, spec):
    shape = backend.shapes[1]
    arrays = backend.buffers(shape)
    arrays.kv_new.arrays[0][:] = np.nan
    backend.run(shape, cells_for(spec, shape))
    assert backend.buffers(shape) is arrays
    assert all_finite(arrays.kv_new)


def test_rows_are_absent_where_there_is_one_token(backend, recorder, spec):
    for shape in backend.shapes:
        backend.run(shape, cells_for(spec, shape))
        assert ("rows" in recorder.given) == (shape.tokens > 1)


def test_cells_of_another_shape_are_refused(backend, spec):
    cells = cells_for(spec, backend.shapes[0])
    with pytest.raises(DeviceError, match=r"cells are float32 \(1, 2, 2, 8, 16\), expected contiguous"):
        backend.run(backend.shapes[0], cells.take(slice(8)))


def test_a_package_of_another_model_is_refused(other_mixers, recorder, spec, steps):
    import dataclasses

    other = other_mixers(spec, heads=8, kv_heads=4)
    with pytest.raises(DeviceError, match="its manifest says"):
        CoreMLStepBackend(recorder, contracts(other), steps)
    with pytest.raises(DeviceError, match="no function 'step_7'"):
        CoreMLStepBackend(recorder, contracts(spec), (dataclasses.replace(steps[0], signature="step_7"),))


def test_core_ml_itself_needs_a_mac(package):
    import platform

    if platform.system() == "Darwin":
        pytest.skip("this is one")
    with pytest.raises(DeviceError, match="coreml-interpreter"):
        MlModelPredictor(package, "ALL")
