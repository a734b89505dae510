"""Whatever was shown before: the mask that a plain loop over positions writes."""

import gc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.backends.protocol import MASKED
from edgesdk.bundle.manifest import StepShape
from edgesdk.kv import step_mask
from edgesdk.kv.cell_list import CellList
from edgesdk.kv.step_mask import MaskBlock, StepMask, mask_of

CELLS = 64


def expected(blocks, T, window):
    """Row by row and column by column, from positions and ancestors."""
    mask = np.full((T, CELLS + T), MASKED, np.float32)
    first = 0
    for block in blocks:
        parents = range(-1, block.rows - 1) if block.parents is None else block.parents.tolist()
        depths = []
        for row, parent in enumerate(parents):
            depths.append(depths[parent] + 1 if parent >= 0 else 0)
            position = block.cells.length + depths[row]
            for at, cell in enumerate(block.cells.cells.tolist(), block.cells.first):
                if window is None or position - at < window:
                    mask[first + row, cell] = 0
            ancestor = row
            while ancestor >= 0:
                if window is None or depths[row] - depths[ancestor] < window:
                    mask[first + row, CELLS + first + ancestor] = 0
                ancestor = parents[ancestor]
        first += block.rows
    for row in range(first, T):
        mask[row, CELLS + row] = 0
    return mask


def block_of(data, cells, rows):
    if not data.draw(st.booleans()):
        return MaskBlock(cells, rows)
    parents = np.array([data.draw(st.integers(-1, row - 1)) for row in range(rows)], np.int32)
    depths = np.zeros(rows, np.int32)
    for row, parent in enumerate(parents):
        depths[row] = depths[parent] + 1 if parent >= 0 else 0
    return MaskBlock(cells, rows, parents, depths)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(
    data=st.data(),
    T=st.sampled_from([1, 2, 5, 16]),
    window=st.sampled_from([1, 2, 4, 11, 50]),
    reach=st.booleans(),
)
def test_any_order_of_blocks_gives_the_mask_written_from_scratch(build_pool, spec, data, T, window, reach):
    shape = StepShape(T, CELLS, 1, "x")
    buffers = FakeStepBackend(spec(window), [shape]).buffers(shape)
    mask, pool = StepMask(shape, window), build_pool()
    pool.resize(CELLS)
    lists = [CellList(pool, window - 1 if reach else None) for _ in range(3)]
    for _ in range(data.draw(st.integers(1, 12))):
        for cells in lists:
            action = data.draw(st.sampled_from(["stay", "one", "some", "truncate", "fork", "compact"]))
            count = min(pool.free, {"one": 1, "some": data.draw(st.integers(1, 9))}.get(action, 0))
            pool.begin()
            cells.append(np.zeros(count, np.int32), pool.allocate(count))
            cells.release_unreachable()
            pool.end()
            if action == "truncate" and not (reach and cells.first):
                cells.truncate(data.draw(st.integers(0, cells.length)))
            elif action == "fork":
                cells.close()
                lists[lists.index(cells)] = data.draw(st.sampled_from(lists)).fork()
            elif action == "compact":
                pool.compact()
        order = data.draw(st.permutations(lists))[: min(T, data.draw(st.integers(1, 3)))]
        left = T - len(order)
        blocks = []
        for cells in order:
            rows = 1 + data.draw(st.integers(0, left))
            left -= rows - 1
            blocks.append(block_of(data, cells, rows))
        alone = len(blocks) == 1 and blocks[0].rows == 1 and blocks[0].parents is None
        if not (alone and mask.show_next(buffers, blocks[0].cells)):
            mask.show(buffers, blocks)
        if not reach:  # no layer reads the mask without window where every layer has one
            assert np.array_equal(buffers.mask, expected(blocks, T, None))
        assert np.array_equal(buffers.window_mask, expected(blocks, T, window))


def test_one_more_token_writes_one_column(build_pool, spec):
    shape = StepShape(1, CELLS, 1, "x")
    buffers = FakeStepBackend(spec(5), [shape]).buffers(shape)
    mask, pool = StepMask(shape, 5), build_pool()
    cells = CellList(pool)
    cells.append(np.zeros(9, np.int32), pool.allocate(9))
    assert not mask.show_next(buffers, cells)
    mask.show(buffers, [MaskBlock(cells, 1)])
    buffers.mask[:], buffers.window_mask[:] = 7, 7
    cells.append(np.zeros(1, np.int32), pool.allocate(1))
    assert mask.show_next(buffers, cells)
    assert np.flatnonzero(buffers.mask != 7).tolist() == [9]
    assert np.flatnonzero(buffers.window_mask != 7).tolist() == [5, 9]


def test_an_interrupt_leaves_no_half_right_mask_believed(build_pool, spec, monkeypatch):
    shape = StepShape(4, CELLS, 1, "x")
    buffers = FakeStepBackend(spec(3), [shape]).buffers(shape)
    mask, pool = StepMask(shape, 3), build_pool()
    cells = CellList(pool)
    cells.append(np.zeros(9, np.int32), pool.allocate(9))
    block = MaskBlock(cells, 3)
    for name in ("_write_new_tokens", "_write_window", "_add"):
        mask.show(buffers, [block])
        cells.append(np.zeros(2, np.int32), pool.allocate(2))
        blocks = [MaskBlock(cells, 2)] if name == "_write_new_tokens" else [block]
        with monkeypatch.context() as patch:
            patch.setattr(mask, name, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                mask.show(buffers, blocks)
        buffers.mask[:, :CELLS], buffers.window_mask[:, :CELLS] = 7, 7
        mask.show(buffers, [MaskBlock(cells, 2)])
        assert np.array_equal(buffers.mask, expected([MaskBlock(cells, 2)], 4, None))
        assert np.array_equal(buffers.window_mask, expected([MaskBlock(cells, 2)], 4, 3))


def test_masks_are_shared_on_a_backend_and_go_with_it(spec):
    alone, several = StepShape(1, CELLS, 1, "x"), StepShape(4, CELLS, 4, "y")
    last = StepShape(4, CELLS, 1, "z")
    backend = FakeStepBackend(spec(), [alone, several, last])

    def mask(backend, shape):
        return mask_of(backend, backend.buffers(shape), shape, None)

    assert mask(backend, alone) is mask(backend, alone)
    # These two are one array.
    assert mask(backend, several) is mask(backend, last) is not mask(backend, alone)
    count = len(step_mask._masks)
    del backend
    gc.collect()
    assert len(step_mask._masks) == count - 1
