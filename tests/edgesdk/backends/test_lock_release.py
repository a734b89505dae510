"""Native steps let other Python threads run: counted, with switching by time turned off, and never timed."""

import sys
import threading
import time

import numpy as np
import pytest

import edgesdk
from edgesdk.backends.litert.native_model import NativeModel

MOST_STEPS = 20_000


@pytest.fixture(scope="module")
def bundle(converted_once, request):
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")
    source = request.config.rootpath / "tests/data/tiny/llama"
    return converted_once(source, targets=("litert", "onnx", "onnx-step"), recipes=("f32",), context=64)


class Counter:
    """A thread that counts whenever it is let."""

    def __init__(self):
        self.count, self.stop = 0, False
        self.thread = threading.Thread(target=self._work)

    def __enter__(self):
        self.interval = sys.getswitchinterval()
        self.thread.start()
        while not self.count:
            time.sleep(0)
        sys.setswitchinterval(1000)  # from now on it runs only where the other thread lets go by itself
        return self

    def __exit__(self, *_):
        self.stop = True
        sys.setswitchinterval(self.interval)
        self.thread.join()

    def _work(self):
        while not self.stop:
            self.count += 1
            time.sleep(0)

    def advanced(self, act):
        """Wraps a call; the list tells how far the count came during each."""
        found = []

        def call(*arguments):
            before = self.count
            result = act(*arguments)
            found.append(self.count - before)
            return result

        return call, found


def step_until(sequence, found):
    for _ in range(MOST_STEPS):
        sequence.truncate(0)
        sequence.extend(np.array([5], np.int32))
        if any(found):
            return True
    return False


def test_a_step_of_litert(bundle, monkeypatch):
    with edgesdk.load(bundle, backend="litert", threads=1) as model, Counter() as counter:
        sequence = model.new_sequence()
        sequence.extend(np.array([5], np.int32))
        (native,) = [each for each in _natives(model.backend) if isinstance(each, NativeModel)]
        call, found = counter.advanced(native._run)
        monkeypatch.setattr(native, "_run", call)
        assert step_until(sequence, found)


def test_a_step_of_onnxruntime(bundle):
    with edgesdk.load(bundle, backend="onnxruntime", threads=1) as model, Counter() as counter:
        sequence = model.new_sequence()

        class Session:
            run_with_iobinding, found = counter.advanced(sequence._session.run_with_iobinding)

            def __init__(self):
                self.run_with_iobinding = type(self).__dict__["run_with_iobinding"]

        session = Session()
        sequence._session = session
        assert step_until(sequence, session.found)


def test_the_count_stands_still_where_nothing_lets_go():
    with Counter() as counter:
        call, found = counter.advanced(lambda: sum(range(200_000)))
        for _ in range(20):
            call()
    assert not any(found)


def _natives(backend, depth=4):
    """What a backend holds, and what that holds."""
    held = list(vars(backend).values()) if hasattr(backend, "__dict__") else []
    held += [each for value in held if isinstance(value, list) for each in value]
    for value in held:
        yield value
        if depth:
            yield from _natives(value, depth - 1)
