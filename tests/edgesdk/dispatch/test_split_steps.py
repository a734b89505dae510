import numpy as np
import pytest

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.bundle.step_contract import main_stack
from edgesdk.dispatch.split_steps import SplitStepBackend
from edgesdk.errors import DeviceError
from edgesdk.kv.cell_sequence import CellSequence
from edgesdk.kv.draft_tree import DraftTree
from edgesdk.kv.step_runner import StepEntry, StepRunner


@pytest.mark.parametrize("window", [None, 8])
def test_phases_go_to_their_backends_and_the_results_are_those_of_one(spec, shapes, tokens, window):
    prefill = FakeStepBackend(spec(window), shapes(cells=(24, 64)))
    decode = FakeStepBackend(spec(window), shapes(tokens=(1,)))
    sequence = CellSequence(SplitStepBackend(prefill, decode), spec(window), 64)
    expected = prefill.expected_logits(tokens.tolist())
    np.testing.assert_array_equal(sequence.extend(tokens[:20]), expected[19])
    for i in range(20, 40):
        np.testing.assert_array_equal(sequence.extend(tokens[i : i + 1]), expected[i])
    np.testing.assert_array_equal(sequence.extend(tokens[40:57]), expected[56])
    assert {shape.tokens for shape in decode.runs} == {1}
    assert len(decode.runs) >= 20
    assert 1 not in {shape.tokens for shape in prefill.runs}


@pytest.mark.parametrize("sizes", [(1, 4, 16), (1,)])
def test_a_few_tokens_that_all_have_logits_are_decoding(spec, shapes, tokens, sizes):
    prefill = FakeStepBackend(spec(), shapes())
    decode = FakeStepBackend(spec(), shapes(tokens=sizes))
    runner = StepRunner(SplitStepBackend(prefill, decode), spec(), 64)
    cells = runner.new_list()
    runner.run([StepEntry(cells, tokens[:10])])
    drafts = DraftTree(tokens[11:14], np.arange(-1, 2, dtype=np.int32))
    (rows,) = runner.run([StepEntry(cells, tokens[10:11], "last", drafts)])
    np.testing.assert_array_equal(rows, prefill.expected_logits(tokens[:14].tolist())[10:])
    judge = decode if len(sizes) > 1 else prefill
    assert [(shape.tokens, shape.rows) for shape in judge.runs][-1] == (4, 4)


def test_closing_closes_both(spec, shapes):
    prefill, decode = (FakeStepBackend(spec(), shapes()) for _ in range(2))
    SplitStepBackend(prefill, decode).close()
    assert prefill.closed
    assert decode.closed


def test_what_cannot_share_cells_is_refused(spec, shapes):
    whole = FakeStepBackend(spec(), shapes())
    int8 = FakeStepBackend(spec(), shapes())
    int8.contracts = main_stack(spec(), "int8")
    with pytest.raises(DeviceError, match="prefill has int8 cells, decode float32"):
        SplitStepBackend(int8, whole)
    with pytest.raises(DeviceError, match="prefill has no step of several tokens"):
        SplitStepBackend(FakeStepBackend(spec(), shapes(tokens=(1,))), whole)
    with pytest.raises(DeviceError, match="decode has no step of one token"):
        SplitStepBackend(whole, FakeStepBackend(spec(), shapes(tokens=(4,))))
    with pytest.raises(DeviceError, match="prefill holds 24 cells at most and decode 64"):
        SplitStepBackend(FakeStepBackend(spec(), shapes(cells=(8, 24))), whole)
