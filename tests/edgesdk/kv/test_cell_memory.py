"""Cells in float16 and int8: how far rounding takes a number, and what a pool of them costs."""

import numpy as np
import pytest

from edgesdk.backends.aligned_array import ALIGNMENT_BYTES
from edgesdk.backends.protocol import Cells
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_contract import step_contract
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk.kv.cell_memory import CellMemory, dequantise_cells, quantise_cells
from edgesdk.kv.cell_pool import CellPool
from edgesdk.kv.step_sizes import StepSizes

SPEC = UniformDecoder(
    architecture="llama",
    vocab_size=50,
    hidden_size=8,
    ffn_size=8,
    heads=3,
    kv_heads=3,
    head_size=64,
    context=128,
    layers=(LayerSpec(None, None),) * 2,
    norm_eps=1e-5,
    activation="silu",
    attention_scale=1.0,
).spec()


def random_kv(count, seed=0):
    rng = np.random.default_rng(seed)
    kv = rng.standard_normal((2, 2, 3, count, 64)) * 10 ** rng.uniform(-3, 3, (2, 2, 3, count, 1))
    return Cells((kv.astype(np.float32),))


def pool_of(cell_type):
    shapes = [StepShape(1, cells, 1, f"s{cells}") for cells in (16, 128)]
    return CellPool(step_contract(SPEC, cell_type), StepSizes(shapes, 128))


def test_no_number_is_off_by_more_than_half_a_scale():
    (kv,) = random_kv(40).arrays
    cells = quantise_cells(Cells((kv,)))
    values, scales = cells.arrays
    assert (values.dtype, scales.dtype) == (np.int8, np.float32)
    assert scales.shape == kv.shape[:-1]
    largest = np.abs(kv).max(axis=-1)
    np.testing.assert_allclose(scales, largest / 127, rtol=1e-6)
    assert (np.abs(dequantise_cells(cells).arrays[0] - kv) <= 0.5001 * scales[..., None]).all()
    assert (np.abs(values).max(axis=-1) == 127).all()
    assert values.min() == -127


@pytest.mark.parametrize("number", [0.0, 1e-45, 1e-38, 3e38])
def test_the_smallest_and_the_largest_numbers_stay_numbers(number):
    kv = np.zeros((1, 2, 1, 1, 8), np.float32)
    kv[..., 3] = number
    cells = quantise_cells(Cells((kv,)))
    assert np.isfinite(cells.arrays[1]).all()
    np.testing.assert_allclose(dequantise_cells(cells).arrays[0], kv, rtol=1e-6, atol=1e-30)


def test_a_second_rounding_changes_nothing():
    once = quantise_cells(random_kv(5))
    again = quantise_cells(dequantise_cells(once))
    assert np.array_equal(once.arrays[0], again.arrays[0])
    np.testing.assert_allclose(once.arrays[1], again.arrays[1], rtol=1e-6)


def test_int8_cells_take_a_quarter_and_their_scales():
    wide, narrow = pool_of("float32"), pool_of("int8")
    for pool in (wide, narrow):
        pool.resize(128)
        assert pool.nbytes == 128 * pool.bytes_per_cell
    assert narrow.bytes_per_cell == wide.bytes_per_cell // 4 + 2 * 2 * 3 * 4
    assert narrow.nbytes < 0.27 * wide.nbytes


def test_arrays_are_aligned_contiguous_zeros():
    pool = pool_of("int8")
    pool.resize(16)
    for array in pool.cells.arrays:
        assert array.flags.c_contiguous
        assert array.ctypes.data % ALIGNMENT_BYTES == 0
        assert not array.any()
    assert [array.shape for array in pool.cells.arrays] == [(2, 2, 3, 16, 64), (2, 2, 3, 16)]


def test_a_pool_keeps_what_quantising_gives_through_growth_gaps_and_compaction():
    pool = pool_of("int8")
    kv = random_kv(20)
    expected = quantise_cells(kv)

    def check(cells, columns):
        found = pool.read(cells)
        for array, wanted in zip(found.arrays, expected.take(columns).arrays, strict=True):
            assert np.array_equal(array, wanted)

    cells = pool.allocate(15)
    pool.write(cells, kv)
    check(cells, np.arange(15))
    assert pool.store_next(kv.take(15)) == 15
    assert pool.size == 16
    assert pool.store_next(kv.take(16)) == 16
    assert pool.size == 128
    check(np.arange(17), np.arange(17))
    pool.release(np.array([2, 5, 6], np.int32))
    pool.write(pool.allocate(3), kv, np.array([17, 18, 19], np.int32))
    check(np.array([2, 5, 6]), np.array([17, 18, 19]))
    pool.write(pool.allocate(2), pool.read(np.array([2, 16])))
    check(np.array([17, 18]), np.array([17, 16]))


def test_moving_takes_the_scales_along():
    memory = CellMemory(step_contract(SPEC, "int8"), 128)
    memory.lay_out(16, 0)
    memory.write(slice(4, 8), random_kv(4))
    before = memory.read(np.array([6, 7]))
    memory.move(np.array([0, 1]), np.array([6, 7]))
    after = memory.read(np.array([0, 1]))
    for old, new in zip(before.arrays, after.arrays, strict=True):
        assert np.array_equal(old, new)


def test_float16_cells_take_half_and_keep_float16_numbers_through_growth_and_moves():
    wide, narrow = pool_of("float32"), pool_of("float16")
    for pool in (wide, narrow):
        pool.resize(16)
        assert pool.nbytes == 16 * pool.bytes_per_cell
    assert narrow.bytes_per_cell * 2 == wide.bytes_per_cell
    assert narrow.cells.arrays[0].ctypes.data % ALIGNMENT_BYTES == 0
    halves = random_kv(20).arrays[0].astype(np.float16)
    kv = Cells((halves,))
    narrow.write(narrow.allocate(16), kv)
    assert [narrow.store_next(kv.take(16 + i)) for i in range(4)] == [16, 17, 18, 19]
    assert narrow.size == 128
    assert narrow.read(np.arange(20)).cell_type == "float16"
    assert np.array_equal(narrow.read(np.arange(20)).arrays[0], halves)
    memory = CellMemory(step_contract(SPEC, "float16"), 128)
    memory.lay_out(16, 0)
    memory.write(slice(0, 8), kv.take(slice(8)))
    memory.move(np.array([8, 9]), np.array([6, 7]))
    assert np.array_equal(memory.read(np.array([8, 9])).arrays[0], halves[:, :, :, 6:8])


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_int8_cells_do_not_fit_into_float_ones(kind):
    pool = pool_of(kind)
    with pytest.raises(ValueError, match=f"int8 cells cannot be put into a pool of {kind} cells"):
        pool.write(pool.allocate(2), quantise_cells(random_kv(2)))
