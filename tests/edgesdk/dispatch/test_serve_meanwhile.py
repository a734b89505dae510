import threading

import numpy as np
import pytest

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.devices.receipt import Incident, Runner
from edgesdk.dispatch.failover_steps import FailoverStepBackend
from edgesdk.dispatch.serve_meanwhile import MeanwhileMover
from edgesdk.errors import DeviceError
from edgesdk.kv.cell_sequence import CellSequence

CPU, NPU, GPU = (Runner("v", "b", device, "P") for device in ("cpu", "npu", "gpu"))


@pytest.fixture
def slow(spec, shapes):
    """A backend that opens when told to, with other sizes than the one that serves."""
    go = threading.Event()
    better = FakeStepBackend(spec(8), shapes(tokens=(1, 16), cells=(64,)))

    def opener():
        assert go.wait(20)
        return NPU, better

    yield opener, go, better
    go.set()


def refuse():
    raise DeviceError("no driver")


def serve(spec, shapes, waiting, first=None):
    first = first or FakeStepBackend(spec(8), shapes())
    again = FakeStepBackend(spec(8), shapes())
    backend = FailoverStepBackend(
        first, CPU, [], movers=[MeanwhileMover(waiting, 2)], reopen=lambda: (CPU, again)
    )
    return first, again, backend


@pytest.mark.parametrize("at", [0, 1, 7, 25])
def test_it_moves_between_two_tokens(spec, shapes, tokens, slow, opened, at):
    opener, go, better = slow
    first, _, backend = serve(spec, shapes, [(GPU, refuse), (NPU, opener)])
    sequence = CellSequence(backend, spec(8), 64)
    expected = first.expected_logits(tokens.tolist())
    for i in range(30):
        if i == at:
            go.set()
            opened()
        np.testing.assert_array_equal(sequence.extend(tokens[i : i + 1]), expected[i])
        assert backend.runner == (NPU if i >= at else CPU)
    assert (len(first.runs), first.closed) == (at, True)
    assert backend.incidents == (
        Incident(GPU, "could not take over: no driver", None, "ready"),
        Incident(CPU, "served until b on npu was open", NPU, "ready"),
    )
    backend.close()
    assert better.closed


def test_an_open_that_fails_leaves_what_serves(spec, shapes, tokens, opened):
    first, _, backend = serve(spec, shapes, [(NPU, refuse)])
    sequence = CellSequence(backend, spec(8), 64)
    opened()
    for i in range(5):
        sequence.extend(tokens[i : i + 1])
    assert (backend.runner, len(first.runs)) == (CPU, 5)
    assert backend.incidents == (Incident(NPU, "could not take over: no driver", None, "ready"),)


def test_what_does_not_fit_leaves_what_serves(spec, shapes, tokens, opened):
    small = FakeStepBackend(spec(8), shapes(cells=(8,)))
    first, _, backend = serve(spec, shapes, [(NPU, lambda: (NPU, small))])
    sequence = CellSequence(backend, spec(8), 64)
    opened()
    for i in range(5):
        sequence.extend(tokens[i : i + 1])
    assert (backend.runner, len(first.runs), small.closed) == (CPU, 5, True)
    (incident,) = backend.incidents
    assert incident.reason.startswith("could not take over: it has no step for 1 tokens over 24 cells")


def test_what_served_takes_over_again(spec, shapes, tokens, slow, opened):
    opener, go, better = slow
    first, again, backend = serve(spec, shapes, [(NPU, opener)])
    sequence = CellSequence(backend, spec(8), 64)
    expected = first.expected_logits(tokens.tolist())
    go.set()
    opened()
    sequence.extend(tokens[:3])

    def lost(shape, cells):
        raise DeviceError("device lost")

    better.run = lost
    for i in range(3, 9):
        np.testing.assert_array_equal(sequence.extend(tokens[i : i + 1]), expected[i])
    assert (backend.runner, len(again.runs)) == (CPU, 6)
    assert backend.incidents[-1] == Incident(NPU, "device lost", CPU)


def test_closing_does_not_wait(spec, shapes, tokens, slow, opened):
    opener, go, better = slow
    first, _, backend = serve(spec, shapes, [(NPU, opener)])
    CellSequence(backend, spec(8), 64).extend(tokens[:3])
    backend.close()
    assert first.closed
    go.set()
    opened()
    assert better.closed
