"""An engine's end: forgotten, forked, or closed beside a model that goes on."""

import gc
import os
import sys
import threading
import time
import weakref

import numpy as np
import pytest

from edgesdk.engine.engine import Engine
from edgesdk.engine.loop import EngineLoop
from edgesdk.errors import DeviceError


def test_a_forgotten_engine_ends_its_thread_and_releases_its_model(fake_runtime):
    engine = Engine(fake_runtime(), token_budget=8)
    thread = engine._loop._thread
    model = weakref.ref(engine.model)
    session = engine.session()
    assert engine.generate([5, 6, 7], max_tokens=3, ignore_eos=True).new_tokens == 3
    del engine
    gc.collect()
    assert session.generate([5], max_tokens=1, ignore_eos=True).new_tokens == 1  # a session keeps it
    del session
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()
    gc.collect()
    assert model() is None


def test_whoever_waits_for_an_answer_keeps_the_engine(fake_runtime):
    engine = Engine(fake_runtime(), token_budget=8)
    thread = engine._loop._thread
    generation = engine.submit([5, 6], max_tokens=20, ignore_eos=True)
    del engine
    gc.collect()
    assert generation.result(20).finish_reason == "length"
    del generation
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


def test_forgotten_with_its_answers_it_ends_in_its_own_thread(fake_runtime):
    engine = Engine(fake_runtime(), token_budget=8)
    thread = engine._loop._thread
    engine.submit([5, 6], max_tokens=60, ignore_eos=True)
    del engine
    gc.collect()
    thread.join(20)
    assert not thread.is_alive()


def test_a_model_that_was_handed_in_stays_open(fake_runtime, make_engine, prompts, greedy):
    first = make_engine()
    model = first.model
    first.close()
    assert not first.backend.closed
    (prompt,) = prompts(1, 10)
    assert model.generate(prompt, max_tokens=5, ignore_eos=True).tokens == greedy(prompt, 5)
    with Engine(model, token_budget=8) as second:
        assert second.generate(prompt, max_tokens=5, ignore_eos=True).tokens == greedy(prompt, 5)
    with Engine(fake_runtime(), token_budget=8) as owning:
        backend = owning.model.backend
    assert backend.backend.closed
    owning.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no fork on Windows")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_told_and_hangs_nowhere(make_engine, prompts):
    engine = make_engine()
    engine.backend.gate = gate = threading.Event()
    (prompt,) = prompts(1, 10)
    session = engine.session()
    running = engine.submit(prompt, max_tokens=5, ignore_eos=True)
    with running._condition, engine._loop._condition:  # as if the thread had held them at that moment
        pid = os.fork()
        if pid == 0:
            os._exit(_child(engine, session, running, prompt))
    gate.set()
    assert _exit_code(pid) == 0
    assert running.result(20).new_tokens == 5
    engine.check()


def _child(engine, session, running, prompt):
    """The exit code of a child: 0 if every call was one line."""
    calls = (
        lambda: engine.submit(prompt),
        lambda: engine.generate(prompt),
        lambda: session.append(prompt),
        lambda: running.result(),
        lambda: next(running),
        engine.session,
        engine.check,
        engine.close,
    )
    for place, call in enumerate(calls, start=1):
        try:
            call()
            return place
        except DeviceError as error:
            if "was forked" not in str(error):
                return 50 + place
        except BaseException:  # noqa: BLE001 - it must not get back into the test run
            return 100 + place
    running.cancel()
    session.close()
    with engine:
        pass
    engine._forget()
    return 0


def _exit_code(pid):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return "it hung"


def test_the_loop_is_closed_once(make_engine):
    engine = make_engine()
    released = []
    engine._loop.close(drain=True, release=lambda: released.append(True))
    assert released == [True]
    assert isinstance(engine._loop, EngineLoop)
    assert np.isfinite(engine.metrics.host_s)
