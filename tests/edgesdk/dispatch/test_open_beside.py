import threading

import pytest

from edgesdk.devices.receipt import Runner
from edgesdk.dispatch.open_beside import OpenBeside
from edgesdk.errors import DeviceError

A, B, C = (Runner("v", name, "npu", "") for name in "abc")


class Thing:
    def __init__(self):
        self.closed = threading.Event()

    def close(self):
        self.closed.set()


@pytest.fixture
def slow():
    """Something that opens when told to."""
    go, thing = threading.Event(), Thing()

    def opener():
        assert go.wait(20)
        return A, thing

    yield opener, go, thing
    go.set()


def refuse():
    raise DeviceError("no driver\nmore")


def crash():
    raise ZeroDivisionError


def test_the_first_that_opens_is_taken_once(slow, opened):
    opener, go, thing = slow
    beside = OpenBeside([(B, refuse), (C, crash), (A, opener), (B, refuse)])
    assert beside.take() is None
    go.set()
    opened()
    ended = beside.take()
    assert ended.found == (A, thing, opener)
    assert ended.refused == ((B, "no driver"), (C, "ZeroDivisionError"))
    assert beside.take() is None
    beside.close()
    assert not thing.closed.is_set()  # it belongs to who took it


def test_nothing_opens(opened):
    beside = OpenBeside([(B, refuse)])
    opened()
    assert (ended := beside.take()).found is None
    assert ended.refused == ((B, "no driver"),)


@pytest.mark.parametrize("first", ["open", "close"])
def test_what_nobody_takes_is_closed(slow, opened, first):
    opener, go, thing = slow
    beside = OpenBeside([(A, opener)])
    if first == "open":
        go.set()
        opened()
    beside.close()  # does not wait
    go.set()
    opened()
    assert thing.closed.is_set()
    assert beside.take() is None
