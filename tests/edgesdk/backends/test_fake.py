"""The fake must notice what it is for: every kind of wrong input changes its logits or is refused."""

import numpy as np
import pytest

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.backends.protocol import MASKED, Cells
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk.errors import DeviceError

SHAPE = StepShape(2, 4, 2, "t2_s4")
LAYERS = (LayerSpec(None, None), LayerSpec(2, None))
SPEC = UniformDecoder("llama", 20, 8, 8, 2, 2, 3, 16, LAYERS, 1e-5, "silu", 1.0).spec()


@pytest.fixture
def cells():
    memory = np.zeros(2 * 2 * 2 * 4 * 3 + 16, np.float32)
    start = -memory.ctypes.data % 64 // 4
    return Cells((memory[start : start + 96].reshape(2, 2, 2, 4, 3),))


@pytest.fixture
def backend(cells):
    """Two steps of two tokens: 3, 5 in the cells; 7, 9 in the buffers."""
    backend = FakeStepBackend(SPEC, [SHAPE])
    fill(backend, [3, 5], 0)
    backend.run(SHAPE, cells)
    cells.arrays[0][:, :, :, :2] = backend.buffers(SHAPE).kv_new.arrays[0]
    fill(backend, [7, 9], 2)
    return backend


def fill(backend, tokens, start):
    b = backend.buffers(SHAPE)
    b.tokens[:], b.positions[:], b.rows[:] = tokens, [start, start + 1], [0, 1]
    b.mask[:] = b.window_mask[:] = MASKED
    b.mask[:, :start] = 0
    b.mask[:, 4:] = [[0, MASKED], [0, 0]]
    b.window_mask[:, 4:] = b.mask[:, 4:]
    b.window_mask[0, max(0, start - 1) : start] = 0


def run(backend, cells):
    backend.run(SHAPE, cells)
    return backend.buffers(SHAPE).logits.copy()


def test_the_right_inputs_give_the_reference(backend, cells):
    assert np.array_equal(run(backend, cells), backend.expected_logits([3, 5, 7, 9])[2:])


def spoil_token(b, cells):
    b.tokens[0] = 8


def spoil_position(b, cells):
    b.positions[:] = [1, 2]


def spoil_mask(b, cells):
    b.mask[1, 0] = MASKED


def spoil_mask_of_the_future(b, cells):
    b.mask[0, 5] = 0


def spoil_mask_of_an_empty_cell(b, cells):
    b.mask[:, 3] = 0


def spoil_window_mask(b, cells):
    b.window_mask[0, 0] = 0


def spoil_cell_order_of_one_head(b, cells):
    array = cells.arrays[0]
    array[0, 0, 1, [0, 1]] = array[0, 0, 1, [1, 0]]


def spoil_values(b, cells):
    cells.arrays[0][:, 1, :, 1] = 0


def spoil_layers(b, cells):
    cells.arrays[0][[0, 1]] = cells.arrays[0][[1, 0]]


def spoil_rows(b, cells):
    b.rows[:] = [1, 0]


@pytest.mark.parametrize("spoil", [f for name, f in list(globals().items()) if name.startswith("spoil_")])
def test_every_wrong_input_shows(backend, cells, spoil):
    spoil(backend.buffers(SHAPE), cells)
    assert not np.array_equal(run(backend, cells), backend.expected_logits([3, 5, 7, 9])[2:])


def break_tokens(b):
    b.tokens[0] = 20


def break_positions(b):
    b.positions[0] = -1


def break_rows(b):
    b.rows[0] = 2


def break_mask(b):
    b.mask[0, 0] = np.nan


@pytest.mark.parametrize("break_", [break_tokens, break_positions, break_rows, break_mask])
def test_inputs_outside_the_contract_are_refused(backend, cells, break_):
    break_(backend.buffers(SHAPE))
    with pytest.raises(DeviceError):
        backend.run(SHAPE, cells)


def test_cells_outside_the_contract_are_refused(backend, cells):
    (array,) = cells.arrays
    for wrong in (array[:, :, :, :3], array.astype(np.float64), np.asfortranarray(array)):
        with pytest.raises(DeviceError, match="cells are"):
            backend.run(SHAPE, Cells((wrong,)))
    memory = np.zeros(200, np.float32)
    start = -memory.ctypes.data % 64 // 4 + 1
    with pytest.raises(DeviceError, match="not aligned"):
        backend.run(SHAPE, Cells((memory[start : start + 96].reshape(array.shape),)))


def test_a_script_is_what_greedy_decoding_says(cells):
    backend = FakeStepBackend(SPEC, [SHAPE], script=[3, 5, 11, 2])
    assert backend.expected_logits([3, 5, 11]).argmax(axis=1).tolist() == [5, 11, 2]
    fill(backend, [3, 5], 0)
    assert run(backend, cells).argmax(axis=1).tolist() == [5, 11]
