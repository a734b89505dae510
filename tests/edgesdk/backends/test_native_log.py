"""What native libraries print is caught; what other threads print meanwhile is not lost."""

import os
import threading

import pytest

from edgesdk.backends.native_log import caught_native_log


def test_what_a_library_prints_is_caught(capfd):
    with caught_native_log() as lines:
        os.write(2, b"INFO: a library\nand more\n")
    assert lines == ["INFO: a library", "and more"]
    assert capfd.readouterr().err == ""


def test_lines_of_others_are_passed_on(capfd):
    with caught_native_log(known=("INFO:", "WARNING:")) as lines:
        os.write(2, b"INFO: a library\n2026-11-28 a server's line\nWARNING: it\nmore of the server\n")
    assert lines == ["INFO: a library", "WARNING: it"]
    assert capfd.readouterr().err == "2026-11-28 a server's line\nmore of the server\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_is_forked_meanwhile_does_not_wait_for_ever():
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with caught_native_log():
            inside.set()
            leave.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(20)
    child = os.fork()
    if not child:
        with caught_native_log():
            pass
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    leave.set()
    thread.join(20)


def test_a_model_that_is_freed_meanwhile_is_caught_too(capfd):
    """The collector may run in the thread that catches, and its finalizers catch as well."""
    inner = []

    def catch_twice():
        with caught_native_log(known=("INFO:",)) as outer:
            os.write(2, b"INFO: before\n")
            with caught_native_log(known=("INFO:",)) as found:
                os.write(2, b"INFO: a library's end\nof another thread\n")
            inner.extend(found)
        inner.extend(outer)

    thread = threading.Thread(target=catch_twice, daemon=True)
    thread.start()
    thread.join(30)
    assert inner == ["INFO: a library's end", "INFO: before"]
    assert capfd.readouterr().err == "of another thread\n"
