import numpy as np
import pytest

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.devices.receipt import Incident, Runner
from edgesdk.dispatch.failover_sequences import FailoverModel
from edgesdk.errors import CapacityError, DeviceError
from edgesdk.kv.step_model import StepModel

A, B = Runner("v", "a", "gpu", "P"), Runner("v", "b", "cpu", "P")


@pytest.fixture
def make(spec, shapes, failing):
    """A model whose first backend fails after so many steps, and the one behind it."""

    def make_model(steps, seconds=10**9):
        first, second = failing(spec(), shapes(), steps), failing(spec(), shapes(), seconds)
        waiting = [(B, lambda: (B, StepModel(second, spec(), 64)))]
        return FailoverModel(StepModel(first, spec(), 64), A, waiting, 50), first, second

    return make_model


@pytest.mark.parametrize("steps", range(9))
def test_no_token_is_lost_or_doubled_wherever_it_fails(make, spec, shapes, tokens, steps):
    model, first, _ = make(steps)
    expected = FakeStepBackend(spec(), shapes()).expected_logits(tokens.tolist())
    one, other = model.new_sequence(), model.new_sequence()
    np.testing.assert_array_equal(one.extend(tokens[:20]), expected[19])
    np.testing.assert_array_equal(other.extend(tokens[:5]), expected[4])
    for i in range(20, 26):
        np.testing.assert_array_equal(one.extend(tokens[i : i + 1]), expected[i])
    # The other sequence was not asked when the device failed; it follows when it is.
    np.testing.assert_array_equal(other.score(tokens[5:9]), expected[5:9])
    one.truncate(22)
    np.testing.assert_array_equal(one.extend(tokens[22:30]), expected[29])
    assert (one.length, other.length) == (30, 9)
    assert model.incidents == (Incident(A, "device lost", B),)
    assert first.closed


def test_nothing_is_said_while_it_works(make, tokens):
    model, _, second = make(99)
    sequence = model.new_sequence()
    sequence.extend(tokens[:20])
    assert (sequence.context, model.incidents, model.runner, second.runs) == (64, (), A, [])
    sequence.close()
    model.close()


def test_when_all_fail_nothing_has_changed(make, tokens):
    model, first, second = make(3, 2)
    sequence = model.new_sequence()
    for i in range(4):
        sequence.extend(tokens[i : i + 1])
    with pytest.raises(DeviceError, match="nothing is left to take over: device lost"):
        sequence.extend(tokens[4:5])
    assert sequence.length == 4
    first.left = second.left = 99
    raised = []
    for _ in range(2):
        with pytest.raises(DeviceError, match="nothing is left") as caught:
            sequence.extend(tokens[:1])
        raised.append(caught.value)
    assert raised[0] is not raised[1]
    sequence.close()


def test_what_the_caller_did_wrong_changes_no_device(make, tokens):
    model, _, _ = make(99)
    sequence = model.new_sequence()
    with pytest.raises(DeviceError, match="outside the vocabulary of 50"):
        sequence.extend(np.array([50], np.int32))
    with pytest.raises(CapacityError):
        sequence.extend(np.resize(tokens, 65))
    assert (model.incidents, sequence.length) == ((), 0)


def test_a_sequence_with_tokens_keeps_its_adapter_on_the_next_device(make, spec, shapes, tokens):
    model, *_ = make(1)
    expected = FakeStepBackend(spec(), shapes()).expected_logits(tokens.tolist())
    sequence = model.new_sequence()
    sequence.extend(tokens[:1])
    with pytest.raises(CapacityError, match="holds tokens of another adapter"):
        sequence.use_gates((1.0,))
    np.testing.assert_array_equal(sequence.extend(tokens[1:2]), expected[1])
    assert model.runner == B


def test_a_prompt_can_be_left_between_two_pieces(make, spec, shapes, tokens):
    model, _, _ = make(10**9)
    expected = FakeStepBackend(spec(), shapes()).expected_logits(tokens.tolist())
    sequence = model.new_sequence()
    sequence.extend(tokens[:2])

    def stop():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        sequence.extend(tokens[2:30], stop)
    assert sequence.length == 2
    sequence.truncate(2)
    np.testing.assert_array_equal(sequence.extend(tokens[2:30]), expected[29])
    assert not model.incidents


def test_forgetting_runs_nothing_even_after_a_change(make, spec, shapes, tokens):
    model, _, second = make(2)
    one, other = model.new_sequence(), model.new_sequence()
    one.extend(tokens[:1])
    other.extend(tokens[:1])
    one.extend(tokens[1:2])  # the first fails here
    before = len(second.runs)
    other.truncate(0)
    assert len(second.runs) == before
    expected = FakeStepBackend(spec(), shapes()).expected_logits(tokens.tolist())
    np.testing.assert_array_equal(other.extend(tokens[:3]), expected[2])
    with pytest.raises(CapacityError, match="cannot shorten 3 tokens to 4"):
        other.truncate(4)


def test_numbers_of_one_request_change_no_device(make, tokens, monkeypatch):
    model, first, _ = make(99)
    sequence = model.new_sequence()
    sequence.extend(tokens[:4])
    run = first.run

    def run_to_nan(shape, cells):
        run(shape, cells)
        first.buffers(shape).kv_new.arrays[0][:] = np.nan

    monkeypatch.setattr(first, "run", run_to_nan)
    with pytest.raises(DeviceError, match="NaN"):
        sequence.extend(tokens[4:5])
    monkeypatch.undo()
    assert (model.incidents, sequence.length) == ((), 4)
    sequence.extend(tokens[4:5])
    assert sequence.length == 5
