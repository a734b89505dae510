"""Cells in float16 and int8: how far rounding takes a number, and what a pool of them costs."""

import numpy as np
import pytest

from edgesdk.backends.aligned_array import ALIGNMENT_BYTES
from edgesdk.bundle.decoder_spec import DecoderSpec, LayerSpec
from edgesdk.bundle.manifest import StepShape
from edgesdk.kv.cell_memory import dequantise_cells, new_memory, quantise_cells
from edgesdk.kv.cell_pool import CellPool
from edgesdk.kv.step_sizes import StepSizes

SPEC = DecoderSpec(
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
)


def random_kv(count, seed=0):
    rng = np.random.default_rng(seed)
    kv = rng.standard_normal((2, 2, 3, count, 64)) * 10 ** rng.uniform(-3, 3, (2, 2, 3, count, 1))
    return kv.astype(np.float32)


def pool_of(cell_type):
    shapes = [StepShape(1, cells, 1, f"s{cells}") for cells in (16, 128)]
    return CellPool(SPEC, StepSizes(shapes, 128), None, cell_type)


def test_no_number_is_off_by_more_than_half_a_scale():
    kv = random_kv(40)
    cells = quantise_cells(kv)
    assert (cells.values.dtype, cells.scales.dtype) == (np.int8, np.float32)
    assert cells.scales.shape == kv.shape[:-1]
    largest = np.abs(kv).max(axis=-1)
    np.testing.assert_allclose(cells.scales, largest / 127, rtol=1e-6)
    assert (np.abs(dequantise_cells(cells) - kv) <= 0.5001 * cells.scales[..., None]).all()
    assert (np.abs(cells.values).max(axis=-1) == 127).all()
    assert cells.values.min() == -127


@pytest.mark.parametrize("number", [0.0, 1e-45, 1e-38, 3e38])
def test_the_smallest_and_the_largest_numbers_stay_numbers(number):
    kv = np.zeros((1, 2, 1, 1, 8), np.float32)
    kv[..., 3] = number
    cells = quantise_cells(kv)
    assert np.isfinite(cells.scales).all()
    np.testing.assert_allclose(dequantise_cells(cells), kv, rtol=1e-6, atol=1e-30)


def test_a_second_rounding_changes_nothing():
    once = quantise_cells(random_kv(5))
    again = quantise_cells(dequantise_cells(once))
    assert np.array_equal(once.values, again.values)
    np.testing.assert_allclose(once.scales, again.scales, rtol=1e-6)


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
    for array in (pool.cells.values, pool.cells.scales):
        assert array.flags.c_contiguous
        assert array.ctypes.data % ALIGNMENT_BYTES == 0
        assert not array.any()
    assert pool.cells.values.shape == (2, 2, 3, 16, 64)
    assert pool.cells.scales.shape == (2, 2, 3, 16)


def test_a_pool_keeps_what_quantising_gives_through_growth_gaps_and_compaction():
    pool = pool_of("int8")
    kv = random_kv(20)
    expected = quantise_cells(kv)

    def check(cells, columns):
        found = pool.read(cells)
        assert np.array_equal(found.values, expected.values[:, :, :, columns])
        assert np.array_equal(found.scales, expected.scales[:, :, :, columns])

    cells = pool.allocate(15)
    pool.write(cells, kv)
    check(cells, np.arange(15))
    assert pool.store_next(kv[:, :, :, 15:]) == 15
    assert pool.size == 16
    assert pool.store_next(kv[:, :, :, 16:]) == 16
    assert pool.size == 128
    check(np.arange(17), np.arange(17))
    pool.release(np.array([2, 5, 6], np.int32))
    pool.write(pool.allocate(3), kv, np.array([17, 18, 19], np.int32))
    check(np.array([2, 5, 6]), np.array([17, 18, 19]))
    pool.write(pool.allocate(2), pool.read(np.array([2, 16])))
    check(np.array([17, 18]), np.array([17, 16]))


def test_moving_takes_the_scales_along():
    memory = new_memory(SPEC, "int8", 128)
    memory.lay_out(16, 0)
    memory.write(slice(4, 8), random_kv(4))
    before = memory.read(np.array([6, 7]))
    memory.move(np.array([0, 1]), np.array([6, 7]))
    after = memory.read(np.array([0, 1]))
    assert np.array_equal(before.values, after.values)
    assert np.array_equal(before.scales, after.scales)


def test_float16_cells_take_half_and_keep_float16_numbers_through_growth_and_moves():
    wide, narrow = pool_of("float32"), pool_of("float16")
    for pool in (wide, narrow):
        pool.resize(16)
        assert pool.nbytes == 16 * pool.bytes_per_cell
    assert narrow.bytes_per_cell * 2 == wide.bytes_per_cell
    assert narrow.cells.ctypes.data % ALIGNMENT_BYTES == 0
    kv = random_kv(20).astype(np.float16)
    narrow.write(narrow.allocate(16), kv)
    assert [narrow.store_next(kv[:, :, :, 16 + i :]) for i in range(4)] == [16, 17, 18, 19]
    assert narrow.size == 128
    assert narrow.read(np.arange(20)).dtype == np.float16
    assert np.array_equal(narrow.read(np.arange(20)), kv)
    memory = new_memory(SPEC, "float16", 128)
    memory.lay_out(16, 0)
    memory.write(slice(0, 8), kv[:, :, :, :8])
    memory.move(np.array([8, 9]), np.array([6, 7]))
    assert np.array_equal(memory.read(np.array([8, 9])), kv[:, :, :, 6:8])


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_int8_cells_do_not_fit_into_float_ones(kind):
    pool = pool_of(kind)
    with pytest.raises(ValueError, match=f"int8 cells cannot be put into a pool of {kind} cells"):
        pool.write(pool.allocate(2), quantise_cells(random_kv(2)))
