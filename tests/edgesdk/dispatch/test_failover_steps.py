import numpy as np
import pytest

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.bundle.step_contract import main_stack
from edgesdk.devices.receipt import Incident, Runner
from edgesdk.dispatch.failover_steps import FailoverStepBackend
from edgesdk.errors import DeviceError
from edgesdk.kv.cell_sequence import CellSequence

A, B, C = (Runner("v", name, "cpu", "P") for name in "abc")


def opener(runner, backend):
    return runner, lambda: (runner, backend)


def refuses(runner, reason):
    def fail():
        raise DeviceError(reason)

    return runner, fail


@pytest.mark.parametrize("steps", range(12))
def test_no_token_is_lost_or_doubled_wherever_it_fails(spec, shapes, failing, tokens, steps):
    first = failing(spec(8), shapes(), steps)
    second = FakeStepBackend(spec(8), shapes(tokens=(1, 16), cells=(64,)))
    backend = FailoverStepBackend(first, A, [opener(B, second)])
    sequence = CellSequence(backend, spec(8), 64)
    expected = second.expected_logits(tokens.tolist())
    np.testing.assert_array_equal(sequence.extend(tokens[:30]), expected[29])
    for i in range(30, 45):
        np.testing.assert_array_equal(sequence.extend(tokens[i : i + 1]), expected[i])
    assert sequence.length == 45
    sequence.truncate(33)
    np.testing.assert_array_equal(sequence.extend(tokens[33:50]), expected[49])
    np.testing.assert_array_equal(sequence.score(tokens[50:60]), expected[50:60])
    assert backend.incidents == (Incident(A, "device lost", B),)
    assert backend.runner == B
    assert first.closed


def test_nothing_is_said_and_nothing_opened_while_it_works(spec, shapes, tokens):
    first = FakeStepBackend(spec(), shapes())
    backend = FailoverStepBackend(first, A, [refuses(B, "must not be asked")])
    sequence = CellSequence(backend, spec(), 64)
    sequence.extend(tokens[:20])
    assert (backend.incidents, backend.runner) == ((), A)
    assert backend.buffers(backend.shapes[0]) is first.buffers(first.shapes[0])
    backend.close()
    assert first.closed


def test_successors_are_tried_in_turn(spec, shapes, failing, tokens):
    third = FakeStepBackend(spec(), shapes())
    waiting = [refuses(B, "no driver\nmore"), opener(C, third)]
    backend = FailoverStepBackend(failing(spec(), shapes(), 1, MemoryError()), A, waiting)
    sequence = CellSequence(backend, spec(), 64)
    expected = third.expected_logits(tokens.tolist())
    for i in range(5):
        np.testing.assert_array_equal(sequence.extend(tokens[i : i + 1]), expected[i])
    assert backend.incidents == (
        Incident(B, "could not take over: no driver", None),
        Incident(A, "MemoryError", C),
    )


def test_a_successor_may_fail_too(spec, shapes, failing, tokens):
    third = FakeStepBackend(spec(), shapes())
    waiting = [opener(B, failing(spec(), shapes(), 2)), opener(C, third)]
    backend = FailoverStepBackend(failing(spec(), shapes(), 2), A, waiting)
    sequence = CellSequence(backend, spec(), 64)
    expected = third.expected_logits(tokens.tolist())
    for i in range(9):
        np.testing.assert_array_equal(sequence.extend(tokens[i : i + 1]), expected[i])
    assert [(i.before, i.successor) for i in backend.incidents] == [(A, B), (B, C)]


def test_when_all_fail_nothing_has_changed(spec, shapes, failing, tokens):
    first = failing(spec(), shapes(), 3)
    backend = FailoverStepBackend(first, A, [refuses(B, "no")])
    sequence = CellSequence(backend, spec(), 64)
    for i in range(3):
        sequence.extend(tokens[i : i + 1])
    with pytest.raises(
        DeviceError, match=r"v with a on cpu \(P\) failed and nothing is left to take over: device lost"
    ):
        sequence.extend(tokens[3:4])
    assert sequence.length == 3
    first.left = 99  # it could run again, but is closed, and must not be asked
    raised = []
    for _ in range(3):
        with pytest.raises(DeviceError, match="nothing is left") as caught:
            sequence.extend(tokens[3:4])
        raised.append(caught.value)
    assert len(set(map(id, raised))) == 3  # one for each caller, whose frames it holds


def test_cells_of_another_type_do_not_take_over(spec, shapes, failing, tokens):
    second = FakeStepBackend(spec(), shapes())
    second.contracts = main_stack(spec(), "int8")
    backend = FailoverStepBackend(failing(spec(), shapes(), 0), A, [opener(B, second)])
    with pytest.raises(DeviceError, match="nothing is left"):
        CellSequence(backend, spec(), 64).extend(tokens[:1])
    assert "it has int8 cells, not float32" in backend.incidents[0].reason
    assert second.closed
