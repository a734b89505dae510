"""One model in many threads: as alone, whatever runs it; closing, forking, and an engine beside it."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import edgesdk
from edgesdk.backends.fake import FakeStepBackend
from edgesdk.bundle.reader import open_bundle
from edgesdk.errors import DeviceError
from edgesdk.kv.step_model import StepModel

OPTIONS = {"max_tokens": 12, "temperature": 0.0, "repetition_penalty": 1.0, "ignore_eos": True}
THREADS = 8
FLOAT_TARGETS = ("litert", "onnx", "onnx-step")


@pytest.fixture(scope="session")
def tiny_bundle(converted_once, request):
    """A tiny model in float32, in the formats that run on a CPU."""
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")
    source = request.config.rootpath / "tests/data/tiny/llama"
    return converted_once(source, targets=FLOAT_TARGETS, recipes=("f32",), context=64)


@pytest.fixture(params=["litert", "onnxruntime", "onnxruntime-step", "litert-interpreter", "auto"])
def model(request, tiny_bundle):
    with edgesdk.load(tiny_bundle, backend=request.param, threads=1) as loaded:
        yield loaded


def prompts_of(model, count):
    vocab = model.bundle.manifest.decoder.vocab_size
    rng = np.random.default_rng(5)
    return [rng.integers(3, vocab, 1 + 7 * (i % 5)).tolist() for i in range(count)]


def in_threads(acts):
    """All at once, each in a thread of its own."""
    barrier = threading.Barrier(len(acts))

    def work(act):
        barrier.wait(20)
        return act()

    with ThreadPoolExecutor(len(acts)) as pool:
        return [future.result(60) for future in [pool.submit(work, act) for act in acts]]


def test_threads_give_what_each_gives_alone(model):
    prompts = prompts_of(model, 3 * THREADS)
    alone = [model.generate(prompt, **OPTIONS).tokens for prompt in prompts]

    def act(index):
        mine = range(index, len(prompts), THREADS)
        return lambda: [model.generate(prompts[i], **OPTIONS).tokens for i in mine]

    found = in_threads([act(index) for index in range(THREADS)])
    for index, answers in enumerate(found):
        assert answers == alone[index::THREADS]


def test_every_way_of_asking_may_be_mixed(model):
    prompt, other = prompts_of(model, 4)[2:]
    answer = model.generate(prompt, **OPTIONS).tokens
    scores = model.score(other)

    def own_sequence():
        sequence = model.new_sequence()
        try:
            return sequence.extend(np.array(other, np.int32)).copy()
        finally:
            sequence.close()

    def stream():
        *_, last = model.stream(prompt, **OPTIONS)
        return last.completion.tokens

    for _ in range(3):
        found = in_threads([stream, lambda: model.score(other), own_sequence, stream])
        assert found[0] == found[3] == answer
        np.testing.assert_array_equal(found[1], scores)
        np.testing.assert_allclose(found[2], scores[-1], rtol=0, atol=1e-4)


def test_beams_beside_answers(tiny_bundle):
    with edgesdk.load(tiny_bundle, backend="litert", threads=1) as model:
        prompt = prompts_of(model, 3)[2]
        beams, answer = model.beam_search(prompt, max_tokens=6), model.generate(prompt, **OPTIONS).tokens
        found = in_threads(
            [lambda: model.beam_search(prompt, max_tokens=6)] * 2
            + [lambda: model.generate(prompt, **OPTIONS).tokens] * 2
        )
        assert found == [beams, beams, answer, answer]


@pytest.mark.parametrize("backend", ["litert", "onnxruntime-step"])
def test_two_engines_and_direct_calls_on_one_model(tiny_bundle, backend):
    with edgesdk.load(tiny_bundle, backend=backend, threads=1) as model:
        prompts = prompts_of(model, 9)
        alone = [model.generate(prompt, **OPTIONS).tokens for prompt in prompts]
        budget = {"token_budget": 16}
        with edgesdk.Engine(model, **budget) as first, edgesdk.Engine(model, **budget) as second:
            handed_in = [
                engine.submit(prompt, **OPTIONS)
                for prompt, engine in zip(prompts[:6], (first, second) * 3, strict=True)
            ]
            direct = [model.generate(prompt, **OPTIONS).tokens for prompt in prompts[6:]]
            found = [generation.result(60).tokens for generation in handed_in]
        assert found + direct == alone


def test_closing_while_others_read_gives_each_one_line(model):
    prompts = prompts_of(model, 4)
    reading = threading.Barrier(len(prompts) + 1)

    def read(prompt):
        for index, _ in enumerate(model.stream(prompt, **{**OPTIONS, "max_tokens": 30})):
            if not index:
                reading.wait(20)
                closed.wait(20)

    closed = threading.Event()
    with ThreadPoolExecutor(len(prompts)) as pool:
        readers = [pool.submit(read, prompt) for prompt in prompts]
        reading.wait(20)
        model.close()
        closed.set()
        for reader in readers:
            with pytest.raises(DeviceError, match=r"closed") as caught:
                reader.result(60)
            assert "\n" not in str(caught.value)
    with pytest.raises(DeviceError, match="closed"):
        model.generate(prompts[0], **OPTIONS)
    model.close()


def test_closing_at_any_moment_ends_no_process(tiny_bundle):
    """Runs and closes without any agreement; every outcome is an answer or one line."""
    for backend in ("litert", "onnxruntime"):
        for _ in range(5):
            model = edgesdk.load(tiny_bundle, backend=backend, threads=1)
            prompt = prompts_of(model, 1)[0]
            started = threading.Event()

            def read(model=model, prompt=prompt, started=started):
                while True:
                    try:
                        model.generate(prompt, **OPTIONS)
                    except DeviceError as error:
                        return str(error)
                    started.set()

            with ThreadPoolExecutor(3) as pool:
                readers = [pool.submit(read) for _ in range(3)]
                assert started.wait(20)
                model.close()
                assert {reader.result(60) for reader in readers} <= {"the model is closed; load it again"}


def test_a_model_in_two_threads_keeps_its_figures_apart(tiny_bundle):
    """A stream that is read in turn with another, each in a thread, as two of one thread are."""
    with edgesdk.load(tiny_bundle, backend="litert", threads=1) as model:
        first, second = prompts_of(model, 3)[1:]
        alone = [model.generate(prompt, **OPTIONS).text for prompt in (first, second)]
        streams = [model.stream(prompt, **OPTIONS) for prompt in (first, second)]
        texts = ["", ""]
        with ThreadPoolExecutor(1) as elsewhere:
            for _ in range(OPTIONS["max_tokens"] + 2):
                for index, stream in enumerate(streams):
                    take = (lambda s=stream: next(s, None)) if not index else None
                    chunk = take() if take else elsewhere.submit(next, stream, None).result(20)
                    texts[index] += chunk.text if chunk else ""
        assert texts == alone


class CountingBackend(FakeStepBackend):
    """Notes which thread every step is of."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.threads = []

    def run(self, shape, cells):
        self.threads.append(threading.current_thread().name)
        super().run(shape, cells)


def test_steps_of_threads_alternate(tiny_bundle):
    """Whoever waits comes next: between two steps of a thread, every waiting thread has had one."""
    bundle = open_bundle(tiny_bundle)
    variant = bundle.variant("litert-f32")
    spec = bundle.manifest.decoder_of(variant)
    backend = CountingBackend(spec, variant.steps)
    model = StepModel(backend, spec, variant.context)
    sequences = [model.new_sequence() for _ in range(3)]
    alone = [seq.extend(np.array([5 + i], np.int32)).copy() for i, seq in enumerate(sequences)]
    backend.threads.clear()
    queued = threading.Event()

    def steps(sequence):
        for token in range(20):
            sequence.extend(np.array([token], np.int32))

    threads = [threading.Thread(target=steps, args=(s,), name=str(i)) for i, s in enumerate(sequences)]

    def hold():
        for thread in threads:
            thread.start()
        while len(waiting()) < len(threads):
            pass
        queued.set()

    def waiting():
        """Threads that stand in the queue behind this turn."""
        found, ticket = set(), turns._last
        while ticket is not None and ticket.thread != threading.get_ident():
            found.add(ticket.thread)
            ticket = ticket.before
        return found

    from edgesdk.backends.turns import turns_of

    turns = turns_of(backend)
    turns.take(hold)
    for thread in threads:
        thread.join(60)
    assert queued.is_set()
    assert len(backend.threads) == 60
    assert len(set(backend.threads[:3])) == 3  # all three waited, and each had its turn
    for index, sequence in enumerate(sequences):
        tokens = [5 + index, *range(20)]
        expected = backend.expected_logits(tokens)
        np.testing.assert_array_equal(alone[index], expected[0])
        sequence.truncate(1)
        np.testing.assert_array_equal(sequence.extend(np.array([0], np.int32)), expected[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("backend", ["litert", "onnxruntime", "onnxruntime-step", "litert-interpreter"])
def test_a_forked_child_is_told_to_load_it_itself(tiny_bundle, backend):
    """The child asks, closes, loads for itself, and ends in order; the parent goes on."""
    program = f"""
import os, sys, threading
import edgesdk
model = edgesdk.load({str(tiny_bundle)!r}, backend={backend!r}, threads=2)
options = {OPTIONS!r}
answer = model.generate([5, 6, 7], **options).tokens
stream = model.stream([5, 6, 7], **options)
next(stream)
stop = threading.Event()
def beside():
    while not stop.is_set():
        model.generate([9, 8], **options)
thread = threading.Thread(target=beside)
thread.start()
child = os.fork()
if not child:
    for act in (lambda: model.generate([5], **options), lambda: list(stream), model.new_sequence):
        try:
            act()
            sys.exit(3)
        except edgesdk.DeviceError as error:
            if "load it in the child" not in str(error) or "\\n" in str(error):
                sys.exit(4)
    model.close()
    if {backend!r} == "litert":
        mine = edgesdk.load({str(tiny_bundle)!r}, backend={backend!r}, threads=1)
        if mine.generate([5, 6, 7], **options).tokens != answer:
            sys.exit(5)
    sys.exit(0)
ended = os.waitpid(child, 0)[1]
stop.set()
thread.join()
assert ended == 0, ended
assert model.generate([5, 6, 7], **options).tokens == answer
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("backend", ["litert", "onnxruntime"])
def test_a_process_ends_in_order_while_a_daemon_thread_runs_the_model(tiny_bundle, backend):
    program = f"""
import threading
import edgesdk
model = edgesdk.load({str(tiny_bundle)!r}, backend={backend!r}, threads=1)
running = threading.Event()
def work():
    while True:
        try:
            model.generate([5, 6, 7], max_tokens=20, ignore_eos=True)
        except edgesdk.DeviceError:
            return
        running.set()
threading.Thread(target=work, daemon=True).start()
running.wait(20)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.real
@pytest.mark.parametrize("backend", ["litert", "onnxruntime"])
def test_threads_give_what_each_gives_alone_on_the_real_model(smollm2_float, backend):
    with edgesdk.load(smollm2_float, backend=backend) as model:
        prompts = [model.render_prompt(f"What is {number} plus one?") for number in range(4)]
        few = {**OPTIONS, "max_tokens": 6}
        alone = [model.generate(prompt, **few).tokens for prompt in prompts]
        assert in_threads([lambda p=p: model.generate(p, **few).tokens for p in prompts]) == alone
