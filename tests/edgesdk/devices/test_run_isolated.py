"""A process that goes on after its last word is ended as promptly as any."""

import time

from edgesdk.devices.run_isolated import run_isolated

SILENT = "import os, time; os.close(1); os.close(2); time.sleep(60)"
LOUD = """
import os, time
try:
    while True:
        os.write(1, bytes(1 << 16))
except OSError:
    time.sleep(60)
"""


def test_one_that_prints_too_much_is_ended_at_once():
    started = time.monotonic()
    ended = run_isolated(("-c", LOUD), 60)
    assert (ended.stopped, ended.reason) == (True, "it printed more than 1 MiB")
    assert time.monotonic() - started < 20


def test_one_whose_streams_are_closed_is_cancelled():
    asked_from = time.monotonic() + 2  # they are closed by then
    ended = run_isolated(("-c", SILENT), 60, cancelled=lambda: time.monotonic() > asked_from)
    assert (ended.stopped, ended.reason) == (True, "it was cancelled")
    assert time.monotonic() < asked_from + 20


def test_one_whose_streams_are_closed_is_waited_for():
    ended = run_isolated(("-c", SILENT.replace("60", "0.3")), 60)
    assert (ended.stopped, ended.reason) == (False, None)
