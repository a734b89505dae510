from dataclasses import replace

import numpy as np
import pytest

from edgesdk.backends.cell_arrays import allocate_cells
from edgesdk.backends.fake import FakeStepBackend
from edgesdk.backends.protocol import MASKED, NO_CELLS
from edgesdk.backends.step_buffers import StepArrays
from edgesdk.bundle.step_contract import main_stack
from edgesdk.bundle.step_shape import MAIN, StepShape
from edgesdk.devices.receipt import Runner
from edgesdk.dispatch.adapt_step import StepAdapter
from edgesdk.dispatch.failover_steps import FailoverStepBackend
from edgesdk.errors import DeviceError
from edgesdk.kv.step_runner import DraftTree, StepEntry, StepRunner

FIRST, SECOND = Runner("v", "first", "npu", "P"), Runner("v", "second", "cpu", "Q")


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"cells": (64,)},
        {"tokens": (1, 16)},
        {"tokens": (16,), "cells": (64,)},
        {"tokens": (1, 32), "cells": (40, 64), "rows": (2,)},
    ],
    ids=["equal", "more cells", "other tokens", "one size", "few rows"],
)
@pytest.mark.parametrize("window", [None, 8])
def test_any_larger_size_gives_the_same(spec, shapes, failing, tokens, sizes, window):
    """Batches, drafts and rows of every token, all run by a backend with other sizes."""
    second = FakeStepBackend(spec(window), shapes(**sizes))
    first = failing(spec(window), shapes(), 0)
    backend = FailoverStepBackend(first, FIRST, [(SECOND, lambda: (SECOND, second))])
    runner = StepRunner(backend, spec(window), 64)
    one, other = runner.new_list(), runner.new_list()
    expected = second.expected_logits(tokens[:12].tolist())
    found = runner.run([StepEntry(one, tokens[:9], "all"), StepEntry(other, tokens[:3], "last")])
    np.testing.assert_array_equal(found[0], expected[:9])
    np.testing.assert_array_equal(found[1], expected[2])
    np.testing.assert_array_equal(runner.run_next(other, tokens[3:4]), expected[3])
    tree = DraftTree(np.array([tokens[10], 5], np.int32), np.array([-1, -1], np.int32))
    (logits,) = runner.run([StepEntry(one, tokens[9:10], "last", tree)])
    np.testing.assert_array_equal(logits[:2], expected[9:11])
    runner.keep(one, [0])
    np.testing.assert_array_equal(runner.run_next(one, tokens[11:12]), expected[11])


def test_a_backend_without_a_size_that_is_large_enough_cannot_take_over(spec, shapes, failing):
    second = FakeStepBackend(spec(), shapes(tokens=(1,)))
    first = failing(spec(), shapes(), 0)
    backend = FailoverStepBackend(first, FIRST, [(SECOND, lambda: (SECOND, second))])
    runner = StepRunner(backend, spec(), 64)
    with pytest.raises(DeviceError, match="nothing is left to take over: device lost"):
        runner.run([StepEntry(runner.new_list(), np.arange(5, dtype=np.int32))])
    assert "it has no step for 4 tokens over 8 cells" in backend.incidents[0].reason
    assert second.closed


def test_float16_cells_are_widened_as_they_are(spec, shapes):
    """The cells go to the larger size without another rounding."""

    class Reader(FakeStepBackend):
        def run(self, shape, cells):
            self.seen = cells.copy()

    contracts = main_stack(spec(), "float16")
    reader = Reader(spec(), shapes(cells=(64,)), contracts=contracts)
    (offered, *_) = shapes(cells=(16,))
    given = StepArrays(contracts).buffers(offered)
    cells = allocate_cells(contracts[MAIN].groups, 16)
    cells.arrays[0][:] = np.random.default_rng(0).standard_normal(cells.arrays[0].shape)
    StepAdapter(reader, (offered,)).run(offered, given, cells)
    (seen,) = reader.seen.arrays
    assert seen.dtype == np.float16
    assert np.array_equal(seen[:, :, :, :16], cells.arrays[0])
    assert not seen[:, :, :, 16:].any()


class WholeTexts:
    """A step without cells: every state is the number of tokens that its row sees."""

    def __init__(self, spec, shapes):
        self.contracts, self.shapes = main_stack(spec), tuple(shapes)
        self._arrays = StepArrays(self.contracts)
        self.buffers = self._arrays.buffers

    def run(self, shape, cells):
        assert cells is NO_CELLS
        arrays = self.buffers(shape)
        arrays.port("states")[:] = (arrays.mask == 0).sum(axis=1, keepdims=True)


def test_masks_of_whole_texts_hide_what_a_larger_size_has_beyond_them(spec):
    whole = replace(spec(8), is_causal=False)
    small, large = (StepShape(T, 1, 1, "step_text") for T in (4, 6))
    own, other = WholeTexts(whole, [small]), WholeTexts(whole, [large])
    arrays = own.buffers(small)
    arrays.mask[:] = MASKED
    arrays.mask[:3, :3], arrays.mask[3, 3] = 0, 0
    StepAdapter(other, (small,)).run(small, arrays, NO_CELLS)
    assert arrays.port("states")[:, 0].tolist() == [3, 3, 3, 1]
    assert other.buffers(large).port("states")[:, 0].tolist() == [3, 3, 3, 1, 1, 1]
