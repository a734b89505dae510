import gc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.backends.protocol import MASKED
from edgesdk.bundle.manifest import StepShape
from edgesdk.kv import chunk_mask
from edgesdk.kv.chunk_mask import ChunkMask, masks_of

CELLS = 12


def expected(start, T, window):
    mask = np.full((T, CELLS + T), MASKED, np.float32)
    for row in range(T):
        position = start + row
        for column in range(CELLS + T):
            at = column if column < CELLS else start + column - CELLS
            exists = column < start if column < CELLS else True
            if exists and at <= position and (window is None or position - at < window):
                mask[row, column] = 0
    return mask


@settings(deadline=None)
@given(
    T=st.sampled_from([1, 2, 5, 20]),
    window=st.sampled_from([1, 2, 4, 11, 12, 50]),
    starts=st.lists(st.integers(0, CELLS), min_size=1, max_size=12),
)
def test_any_order_of_pieces_gives_the_mask_written_from_scratch(T, window, starts):
    from edgesdk.bundle.decoder_spec import DecoderSpec, LayerSpec

    layers = (LayerSpec(None, None), LayerSpec(window, None))
    spec = DecoderSpec("llama", 9, 8, 8, 1, 1, 2, 64, layers, 1e-5, "silu", 1.0)
    shape = StepShape(T, CELLS, 1, "x")
    buffers = FakeStepBackend(spec, [shape]).buffers(shape)
    mask = ChunkMask(shape, window)
    for start in starts:
        mask.show(buffers, start)
        assert np.array_equal(buffers.mask, expected(start, T, None))
        assert np.array_equal(buffers.window_mask, expected(start, T, window))


def test_what_others_wrote_is_repaired_after_forget(spec):
    shape = StepShape(4, CELLS, 1, "x")
    buffers = FakeStepBackend(spec(), [shape]).buffers(shape)
    mask = ChunkMask(shape, None)
    mask.show(buffers, 3)
    buffers.mask[:] = 7
    mask.forget()
    mask.show(buffers, 3)
    assert np.array_equal(buffers.mask, expected(3, 4, None))


def test_masks_are_shared_on_a_backend_and_go_with_it(spec):
    backend = FakeStepBackend(spec(), [StepShape(1, CELLS, 1, "x")])
    assert masks_of(backend) is masks_of(backend)
    count = len(chunk_mask._masks)
    del backend
    gc.collect()
    assert len(chunk_mask._masks) == count - 1


@pytest.mark.parametrize("start", [0, CELLS])
def test_the_ends(spec, start):
    shape = StepShape(1, CELLS, 1, "x")
    buffers = FakeStepBackend(spec(), [shape]).buffers(shape)
    ChunkMask(shape, None).show(buffers, start)
    assert np.array_equal(buffers.mask, expected(start, 1, None))
