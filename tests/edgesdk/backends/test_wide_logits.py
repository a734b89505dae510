"""Logits of a pruned head, spread over the whole vocabulary."""

import numpy as np
import pytest

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.backends.protocol import MASKED
from edgesdk.backends.wide_logits import WideLogits, widen_rows
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_shape import MAIN
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk.kv.cell_sequence import CellSequence

LAYERS = (LayerSpec(None, None), LayerSpec(2, None))
NARROW = UniformDecoder("llama", 20, 8, 8, 2, 2, 3, 16, LAYERS, 1e-5, "silu", 1.0).spec()
WIDE = UniformDecoder("llama", 50, 8, 8, 2, 2, 3, 16, LAYERS, 1e-5, "silu", 1.0).spec()
SHAPES = [StepShape(1, 16, 1, "t1"), StepShape(4, 16, 2, "t4")]
KEPT = np.arange(3, 43, 2).astype(np.int32)


def sequences():
    narrow = FakeStepBackend(NARROW, SHAPES)
    wide = WideLogits(FakeStepBackend(NARROW, SHAPES), KEPT, WIDE.vocab_size)
    return narrow, CellSequence(wide, WIDE, 16), wide


def test_a_sequence_sees_ids_of_the_whole_vocabulary():
    narrow, sequence, _ = sequences()
    text = [5, 9, 3, 17, 2, 8]
    expected = narrow.expected_logits(text)
    found = sequence.score(np.array(text[:5], np.int32))
    last = sequence.extend(np.array(text[5:], np.int32))
    rows = np.vstack([found, last])
    assert rows.shape == (6, 50)
    np.testing.assert_array_equal(rows[:, KEPT], expected)
    others = np.setdiff1d(np.arange(50), KEPT)
    assert (rows[:, others] == MASKED).all()
    np.testing.assert_array_equal(rows, widen_rows(expected, KEPT.astype(np.int64), 50))


def test_what_cannot_be_written_has_no_probability_at_any_temperature():
    _, sequence, _ = sequences()
    row = sequence.extend(np.array([5, 9], np.int32)).astype(np.float64)
    for temperature in (0.01, 1.0, 100.0):
        x = np.exp((row - row.max()) / temperature)
        others = np.setdiff1d(np.arange(50), KEPT)
        assert (x[others] == 0).all()
        assert np.isfinite(x).all()


def test_buffers_keep_their_address_and_closing_reaches_the_backend():
    _, _, wide = sequences()
    first = wide.buffers(SHAPES[1])
    assert wide.buffers(SHAPES[1]) is first
    assert first.logits.shape == (2, 50)
    assert first.logits.ctypes.data % 64 == 0
    assert wide.shapes == tuple(sorted(SHAPES))
    assert wide.contracts[MAIN].logits.dims == ("R", 50)
    inner = wide._backend
    wide.close()
    assert inner.closed


@pytest.mark.parametrize("rows", [0, 3])
def test_any_number_of_rows_is_spread(rows):
    assert widen_rows(np.ones((rows, 20), np.float32), KEPT.astype(np.int64), 50).shape == (rows, 50)
