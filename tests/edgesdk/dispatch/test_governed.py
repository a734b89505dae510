from types import SimpleNamespace

import numpy as np
import pytest

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.devices.governor import GovernorLimits
from edgesdk.devices.receipt import Incident, Runner
from edgesdk.dispatch.failover_sequences import FailoverModel
from edgesdk.dispatch.failover_steps import FailoverStepBackend
from edgesdk.dispatch.governed import GovernedMover
from edgesdk.errors import DeviceError
from edgesdk.kv.cell_sequence import CellSequence
from edgesdk.kv.step_model import StepModel

HOME, NPU = Runner("v", "home", "cpu", "P"), Runner("v", "chip", "npu", "P")
CANDIDATES = {runner.key: SimpleNamespace(key=runner.key, device=runner.device) for runner in (HOME, NPU)}


class Setting:
    """A governed backend; tests set `limits`."""

    def __init__(self, spec, shapes, first=None, context=64, refuse=()):
        self.spec, self.shapes, self.refuse = spec(), shapes, refuse
        self.now, self.opens, self.made = GovernorLimits(), [], []
        mover = GovernedMover(self, list(CANDIDATES.values()), 4, self.opener, context)
        self.first = first or FakeStepBackend(self.spec, shapes())
        self.backend = FailoverStepBackend(
            self.first, HOME, [], movers=[mover], reopen=self.opener(CANDIDATES[HOME.key], 4)
        )

    def limits(self):
        return self.now

    def opener(self, candidate, threads):
        def open_it():
            self.opens.append((candidate.key[1], threads))
            if candidate.key[1] in self.refuse:
                raise DeviceError("no driver")
            self.made.append(FakeStepBackend(self.spec, self.shapes()))
            return Runner(*candidate.key, "P"), self.made[-1]

        return open_it


@pytest.fixture
def make(spec, shapes):
    return lambda **options: Setting(spec, shapes, **options)


def test_threads_go_down_and_come_back_and_no_token_is_lost(make, tokens, opened):
    it = make()
    sequence = CellSequence(it.backend, it.spec, 64)
    expected = it.first.expected_logits(tokens.tolist())

    def run(i):
        np.testing.assert_array_equal(sequence.extend(tokens[i : i + 1]), expected[i])

    run(0)
    assert (it.backend.threads, it.opens) == (None, [])
    it.now = GovernorLimits(threads_share=0.5, reason="cpu at 90 C (above 85 C)")
    run(1)  # begins to open
    opened()
    run(2)  # moves
    assert (it.backend.threads, it.first.closed, it.backend.runner) == (2, True, HOME)
    run(3)
    it.now = GovernorLimits(reason="cpu at 70 C (no limit holds any more)")
    run(4)
    opened()
    run(5)
    assert it.backend.threads == 4
    assert it.made[0].closed
    assert it.opens == [("home", 2), ("home", 4)]
    assert it.backend.incidents == (
        Incident(HOME, "cpu at 90 C (above 85 C): 2 threads instead of 4", HOME, "governed"),
        Incident(HOME, "cpu at 70 C (no limit holds any more): 4 threads instead of 2", HOME, "governed"),
    )
    assert str(it.backend.incidents[0]).startswith("governed: v with home on cpu (P): cpu at 90 C")
    for i in range(6, 20):
        run(i)
    assert len(it.opens) == 2
    it.backend.close()
    assert it.made[1].closed


def test_limits_that_come_to_the_same_threads_open_nothing(make, tokens, opened):
    it = make()
    sequence = CellSequence(it.backend, it.spec, 64)
    it.now = GovernorLimits(threads_share=0.99999)
    sequence.extend(tokens[:2])
    opened()
    sequence.extend(tokens[2:4])
    it.now = GovernorLimits(threads_share=0.75)
    sequence.extend(tokens[4:5])
    opened()
    sequence.extend(tokens[5:6])
    assert it.opens == [("home", 3)]


def test_another_device_and_back(make, tokens, opened):
    it = make()
    sequence = CellSequence(it.backend, it.spec, 64)
    expected = it.first.expected_logits(tokens.tolist())
    for i, (limits, runner) in enumerate(
        [
            (GovernorLimits(0.5, "npu", reason="low"), NPU),
            (GovernorLimits(0.5, reason="less low"), HOME),
            (GovernorLimits(), HOME),
        ]
    ):
        it.now = limits
        sequence.extend(tokens[2 * i : 2 * i + 1])
        opened()
        got = sequence.extend(tokens[2 * i + 1 : 2 * i + 2])
        np.testing.assert_array_equal(got, expected[2 * i + 1])
        assert it.backend.runner == runner
    # Threads are of no account to an NPU.
    assert it.opens == [("chip", 4), ("home", 2), ("home", 4)]
    assert [i.reason for i in it.backend.incidents][:2] == ["low: to npu", "less low: to cpu with 2 threads"]


def test_what_cannot_be_opened_is_said_once(make, tokens, opened):
    it = make(refuse=["chip"])
    sequence = CellSequence(it.backend, it.spec, 64)
    it.now = GovernorLimits(device="npu", reason="low")
    for i in range(6):
        sequence.extend(tokens[i : i + 1])
        opened()
    assert it.opens == [("chip", 4)]
    (incident,) = it.backend.incidents
    assert incident == Incident(
        Runner(*NPU.key, ""), "low: to npu, but it could not be opened: no driver", None, "governed"
    )
    assert it.backend.runner == HOME


def test_a_device_that_is_not_there_is_said_once(make, tokens, opened):
    it = make()
    sequence = CellSequence(it.backend, it.spec, 64)
    it.now = GovernorLimits(0.5, "gpu", reason="low")
    for i in range(6):
        sequence.extend(tokens[i : i + 1])
        opened()
    assert [i.reason for i in it.backend.incidents] == [
        "low: nothing on gpu can take over",
        "low: 2 threads instead of 4",
    ]


def test_a_context_is_told(make, tokens):
    it = make()
    sequence = CellSequence(it.backend, it.spec, 64)
    it.now = GovernorLimits(context_tokens=32, reason="hot")
    sequence.extend(tokens[:1])
    it.now = GovernorLimits(reason="cool")
    sequence.extend(tokens[1:2])
    assert [str(i) for i in it.backend.incidents] == [
        f"governed: {HOME}: hot: requests of up to 32 tokens from now on; went on with {HOME}",
        f"governed: {HOME}: cool: requests of up to 64 tokens from now on; went on with {HOME}",
    ]
    assert it.opens == []


def test_what_the_governor_brought_fails_and_is_not_opened_again(make, failing, tokens, opened):
    it = make()
    sequence = CellSequence(it.backend, it.spec, 64)
    expected = it.first.expected_logits(tokens.tolist())
    it.now = GovernorLimits(device="npu", reason="low")
    sequence.extend(tokens[:1])
    opened()
    sequence.extend(tokens[1:2])
    assert it.backend.runner == NPU

    def lost(shape, cells):
        raise DeviceError("device lost")

    it.made[0].run = lost
    for i in range(2, 8):
        np.testing.assert_array_equal(sequence.extend(tokens[i : i + 1]), expected[i])
        opened()
    assert it.backend.runner == HOME
    assert it.opens == [("chip", 4), ("home", 4)]
    assert it.backend.incidents[1] == Incident(NPU, "device lost", HOME)
    assert it.backend.incidents[2].reason == "low: nothing on npu can take over"
    assert len(it.backend.incidents) == 3


def test_closing_drops_what_is_being_opened(make, tokens, opened):
    it = make()
    sequence = CellSequence(it.backend, it.spec, 64)
    it.now = GovernorLimits(threads_share=0.5)
    sequence.extend(tokens[:1])
    it.backend.close()
    opened()
    assert it.first.closed
    assert all(backend.closed for backend in it.made)


def test_what_keeps_its_cache_moves_between_sequences(spec, shapes, tokens, opened):
    limits, made = [GovernorLimits()], []

    def opener(candidate, threads):
        def open_it():
            made.append(FakeStepBackend(spec(), shapes()))
            return HOME, StepModel(made[-1], spec(), 64)

        return open_it

    governor = SimpleNamespace(limits=lambda: limits[0])
    mover = GovernedMover(governor, [CANDIDATES[HOME.key]], 4, opener, 64)
    first = FakeStepBackend(spec(), shapes())
    model = FailoverModel(StepModel(first, spec(), 64), HOME, [], 50, movers=[mover])
    expected = first.expected_logits(tokens.tolist())
    sequence = model.new_sequence()
    limits[0] = GovernorLimits(threads_share=0.5, reason="hot")
    for i in range(5):
        np.testing.assert_array_equal(sequence.extend(tokens[i : i + 1]), expected[i])
        opened()
    # The governor is asked when a sequence begins, so nothing has been opened in its middle.
    assert (len(made), model.threads) == (1, None)
    sequence.truncate(0)
    np.testing.assert_array_equal(sequence.extend(tokens[:9]), expected[8])
    assert (model.threads, first.closed, made[0].closed) == (2, True, False)
    model.close()
    assert made[0].closed
