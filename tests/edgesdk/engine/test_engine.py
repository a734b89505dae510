"""The engine over the fake backend: whatever runs beside a request, it gets the answer it gets alone."""

import asyncio
import contextlib
import gc
import threading
import time

import numpy as np
import pytest

from edgesdk.errors import CapacityError, DeviceError, QueueFull, UnsupportedOption


def figures(engine):
    """The engine's figures after everything that was handed in until now."""
    engine.check()
    return engine.metrics


def wait_until(holds, seconds=10):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.001)


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("hybrid", [True, False])
def test_together_is_alone(make_engine, prompts, greedy, chunked, hybrid):
    engine = make_engine(chunked=chunked, hybrid=hybrid)
    asked = [p[: 5 + 3 * i] for i, p in enumerate(prompts(8, 30))]
    running = [engine.submit(p, max_tokens=10, ignore_eos=True) for p in asked]
    for prompt, generation in zip(asked, running, strict=True):
        assert generation.result(20).tokens == greedy(prompt, 10)
    shares = figures(engine)
    assert shares.steps < sum(10 + len(p) // 8 for p in asked), "nothing shared a step"
    assert shares.finished == 8
    assert shares.running == shares.waiting == 0


@pytest.mark.parametrize("budget", [4, 5, 8, 16])
def test_any_budget_gives_the_same(make_engine, prompts, greedy, budget):
    engine = make_engine(token_budget=budget, prefix_cache_mb=0)
    asked = prompts(5, 40)
    running = [engine.submit(p, max_tokens=6, ignore_eos=True) for p in asked[:2]]
    next(running[0])
    running += [engine.submit(p, max_tokens=6, ignore_eos=True) for p in asked[2:]]
    assert [g.result(20).tokens for g in running] == [greedy(p, 6) for p in asked]
    assert figures(engine).cells_used == 0


def test_preempted_and_recomputed_is_uninterrupted(make_engine, prompts, greedy):
    engine = make_engine()
    asked = prompts(4, 20)
    running = [engine.submit(p, max_tokens=50, ignore_eos=True) for p in asked]
    assert [g.result(30).tokens for g in running] == [greedy(p, 50) for p in asked]
    assert figures(engine).preemptions > 0
    assert sum(g.metrics.preemptions for g in running) == figures(engine).preemptions


def test_a_prompt_that_begins_like_an_earlier_one_reuses_its_cells(make_engine, prompts, greedy):
    engine = make_engine()
    (prompt,) = prompts(1, 40)
    first = engine.submit(prompt, max_tokens=8, ignore_eos=True)
    assert first.result(20).tokens == greedy(prompt, 8)
    assert first.metrics.cached_tokens == 0
    again = engine.submit(prompt, max_tokens=8, ignore_eos=True)
    assert again.result(20).tokens == greedy(prompt, 8)
    assert again.metrics.cached_tokens == 39
    longer = [*prompt, *greedy(prompt, 5), 7, 7]
    follow = engine.submit(longer, max_tokens=8, ignore_eos=True)
    assert follow.result(20).tokens == greedy(longer, 8)
    assert follow.metrics.cached_tokens == 45
    assert figures(engine).cache_hits == 2
    assert figures(engine).cached_tokens == 84


def test_the_prefix_cache_gives_way_before_anybody_is_preempted(make_engine, prompts, greedy):
    engine = make_engine()
    for prompt in prompts(6, 60):
        assert engine.generate(prompt, max_tokens=20, ignore_eos=True).tokens == greedy(prompt, 20)
    assert figures(engine).preemptions == 0
    assert figures(engine).cached_cells > 0


def test_samples_share_the_prompt_and_draw_for_themselves(make_engine, prompts):
    engine = make_engine()
    (prompt,) = prompts(1, 30)
    options = {"max_tokens": 8, "temperature": 1.0, "seed": 3, "ignore_eos": True}
    several = engine.submit(prompt, n=4, **options)
    pieces = dict.fromkeys(range(4), "")
    for chunk in several:
        pieces[chunk.index] += chunk.text
    answers = several.results()
    assert [a.text for a in answers] == list(pieces.values())
    assert len({a.tokens for a in answers}) == 4
    assert figures(engine).tokens < 30 + 4 * 8
    # The first sample is the one that is drawn without the others, and all are repeatable.
    assert engine.generate(prompt, **options).tokens == answers[0].tokens
    assert engine.submit(prompt, n=4, **options).results(20) != ()
    assert [a.tokens for a in engine.submit(prompt, n=4, **options).results(20)] == [
        a.tokens for a in answers
    ]


def test_greedy_samples_are_the_answer(make_engine, prompts, greedy):
    engine = make_engine()
    (prompt,) = prompts(1, 30)
    found = engine.submit(prompt, n=3, max_tokens=30, ignore_eos=True).results(20)
    assert {a.tokens for a in found} == {greedy(prompt, 30)}


@pytest.mark.parametrize("when", ["queued", "prefill", "decode"])
def test_cancelling_takes_one_step_and_releases_the_cells(make_engine, prompts, when):
    engine = make_engine(prefix_cache_mb=0, token_budget=4)
    other = None
    if when == "queued":
        other = [engine.submit(p, max_tokens=40, ignore_eos=True, n=2) for p in prompts(2, 8)]
    engine.backend.gate = gate = threading.Semaphore(0)
    gate.set = lambda: gate.release(10_000)
    gate.wait = lambda timeout: gate.acquire(timeout=timeout)
    (prompt,) = prompts(1, 80)
    generation = engine.submit(prompt, max_tokens=10, ignore_eos=True)
    if when == "decode":
        while not generation.metrics.new_tokens:
            gate.release()
            time.sleep(0.001)
    elif when == "prefill":
        gate.release()
        wait_until(lambda: len(engine.backend.runs) >= 1)
    before = len(engine.backend.runs)
    generation.cancel()
    gate.release()
    gate.release()
    completion = generation.result(10)
    assert completion.finish_reason == "cancelled"
    assert completion.tokens == generation.result().tokens
    assert len(engine.backend.runs) <= before + 2  # the one under way, and at most the next one's start
    gate.set()
    for each in other or ():
        each.cancel()
        each.results(10)
    wait_until(lambda: engine.metrics.cells_used == 0)


def test_a_deadline_keeps_what_there_is(make_engine, prompts, greedy):
    engine = make_engine()
    (prompt,) = prompts(1, 4)
    late = engine.submit(prompt, deadline_s=1e-6, max_tokens=5)
    assert late.result(10).finish_reason == "deadline"
    assert late.result().tokens == ()
    engine.backend.gate = pace = threading.Event()
    pace.wait = lambda timeout: time.sleep(0.02)
    cut = engine.submit(prompt, deadline_s=0.2, max_tokens=60, ignore_eos=True).result(20)
    assert cut.finish_reason == "deadline"
    assert 0 < len(cut.tokens) < 60
    assert cut.tokens == greedy(prompt, len(cut.tokens))


def test_the_queue_is_bounded(make_engine, prompts):
    engine = make_engine(max_queue=2, max_running=1)
    engine.backend.gate = gate = threading.Event()
    (prompt,) = prompts(1, 4)
    running = engine.submit(prompt, max_tokens=3)
    time.sleep(0.05)  # it holds the seat, in its first step
    waiting = [engine.submit(prompt, max_tokens=3)]
    # The running one may still be counted until its first step is over.
    with contextlib.suppress(QueueFull):
        waiting.append(engine.submit(prompt, max_tokens=3))
    with pytest.raises(QueueFull, match="2 requests are waiting already"):
        engine.submit(prompt, max_tokens=3)
    with pytest.raises(QueueFull):
        engine.submit(prompt, max_tokens=3, block=True, timeout=0.05)
    blocked = []
    thread = threading.Thread(target=lambda: blocked.append(engine.generate(prompt, max_tokens=3)))
    thread.start()
    gate.set()
    thread.join(20)
    assert blocked
    for generation in [running, *waiting]:
        assert generation.result(20).new_tokens == 3


def test_a_failing_step_ends_its_requests_and_nothing_else(make_engine, prompts, greedy):
    engine = make_engine()
    (prompt, other) = prompts(2, 10)
    engine.backend.failure = DeviceError("the device is gone")
    with pytest.raises(DeviceError, match="the device is gone"):
        engine.generate(prompt)
    engine.backend.failure = ZeroDivisionError("odd")
    failed = engine.submit(prompt)
    with pytest.raises(DeviceError, match="the step failed: ZeroDivisionError: odd"):
        list(failed)
    assert engine.generate(other, max_tokens=5, ignore_eos=True).tokens == greedy(other, 5)
    engine.check()


def test_numbers_that_are_not_finite_end_their_own_request_alone(make_engine, prompts, greedy):
    engine = make_engine(token_budget=16)
    good = prompts(3, 10)
    answers = [greedy(p, 6) for p in good]
    marked = min(set(range(2, 200)) - {token for known in (*good, *answers) for token in known})
    bad = [*good[0][::-1][:7], marked, 5, 6]
    run = engine.backend.run

    def run_with_poison(shape, cells):
        run(shape, cells)
        buffers = engine.backend.buffers(shape)
        buffers.kv_new.arrays[0][1, 0, 0, buffers.tokens == marked, 0] = np.inf

    engine.backend.run = run_with_poison
    engine.backend.gate = threading.Event()  # so that all are there when the second step is planned
    asked = [engine.submit(p, max_tokens=6, ignore_eos=True) for p in (good[0], bad, *good[1:])]
    engine.backend.gate.set()
    failed = asked.pop(1)
    with pytest.raises(DeviceError, match="infinity among the keys of layer 1"):
        failed.result(20)
    assert [g.result(20).tokens for g in asked] == answers
    engine.check()


def test_closing_ends_every_stream(make_engine, prompts, greedy):
    asked = prompts(6, 20)
    drained = make_engine()
    running = [drained.submit(p, max_tokens=5, ignore_eos=True) for p in asked]
    drained.close()
    assert [g.result(0).tokens for g in running] == [greedy(p, 5) for p in asked]
    stopped = make_engine()
    running = [stopped.submit(p, max_tokens=50, ignore_eos=True) for p in asked]
    stopped.close(drain=False)
    assert {g.result(0).finish_reason for g in running} <= {"cancelled", "length"}
    assert "cancelled" in {g.result(0).finish_reason for g in running}
    for engine in (drained, stopped):
        engine.close()
        with pytest.raises(DeviceError, match="the engine is closed"):
            engine.submit(asked[0])
        with pytest.raises(DeviceError, match="the engine is closed"):
            engine.session()


def test_a_context_manager_drains_unless_there_was_an_error(make_engine, prompts, greedy):
    (prompt,) = prompts(1, 10)
    with make_engine() as engine:
        generation = engine.submit(prompt, max_tokens=30, ignore_eos=True)
    assert generation.result(0).tokens == greedy(prompt, 30)
    running = []

    def fail():
        with make_engine() as engine:
            running.append(engine.submit(prompt, max_tokens=80, ignore_eos=True))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert running[0].done


def test_asyncio(make_engine, prompts, greedy):
    asked = prompts(5, 12)

    async def main():
        async with make_engine() as engine:
            answers = await asyncio.gather(
                *(engine.agenerate(p, max_tokens=6, ignore_eos=True) for p in asked)
            )
            assert [a.tokens for a in answers] == [greedy(p, 6) for p in asked]
            text, last = "", None
            async for chunk in engine.astream(asked[0], max_tokens=6, ignore_eos=True):
                text, last = text + chunk.text, chunk.completion
            assert text == answers[0].text == last.text
            engine.backend.gate = pace = threading.Event()
            pace.wait = lambda timeout: time.sleep(0.01)
            task = asyncio.create_task(engine.agenerate(asked[1], max_tokens=80, ignore_eos=True))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            ticks = 0
            while engine.metrics.running:
                await asyncio.sleep(0.005)
                ticks += 1
                assert ticks < 500
            with pytest.raises(UnsupportedOption):
                await engine.agenerate(asked[0], n=99)

    asyncio.run(main())


def test_abandoning_a_stream_cancels_it(make_engine, prompts):
    engine = make_engine()
    engine.backend.gate = pace = threading.Event()
    pace.wait = lambda timeout: time.sleep(0.005)
    (prompt,) = prompts(1, 4)
    stream = engine.stream(prompt, max_tokens=90, ignore_eos=True)
    next(stream)
    del stream
    gc.collect()
    wait_until(lambda: engine.metrics.running == 0)
    assert figures(engine).finished == 1


def test_text_stops_and_templates_are_those_of_the_model(make_engine, byte_level):
    question = "<|start|>user: The fox?\n<|start|>assistant: "
    said = "The quick brown fox jumps."
    script = [*byte_level.encode(question), *byte_level.encode(said), byte_level.record.eos_ids[0]]
    engine = make_engine(script=script)
    messages = [{"role": "user", "content": "The fox?"}]
    assert engine.chat(messages).text == said
    assert engine.generate(question).finish_reason == "stop"
    assert "".join(c.text for c in engine.stream(messages=messages)) == said
    stopped = engine.chat(messages, stop=["brown"])
    assert (stopped.text, stopped.finish_reason) == ("The quick ", "stop_string")
    assert engine.chat(messages, max_tokens=3).finish_reason == "length"


def test_metrics_of_a_request(make_engine, prompts):
    engine = make_engine()
    (prompt,) = prompts(1, 20)
    generation = engine.submit(prompt, max_tokens=10, ignore_eos=True)
    completion = generation.result(20)
    found = generation.metrics
    assert (found.prompt_tokens, found.new_tokens, found.cached_tokens) == (20, 10, 0)
    assert 0 <= found.queue_ms <= found.ttft_ms
    assert len(found.tbt_ms) == 9
    assert found.tbt_p50_ms <= found.tbt_p99_ms <= max(found.tbt_ms)
    assert found.decode_tokens_per_s == pytest.approx(9e3 / sum(found.tbt_ms))
    assert completion.decode_tokens_per_s == pytest.approx(found.decode_tokens_per_s)
    assert figures(engine).tokens == 29
    assert figures(engine).tokens_per_step > 1


def test_logs_have_figures_and_no_text(make_engine, prompts, caplog):
    caplog.set_level("DEBUG", "edgesdk.engine")
    engine = make_engine()
    (prompt,) = prompts(1, 20)
    engine.generate(prompt, max_tokens=3, ignore_eos=True)
    engine.check()
    (ended,) = [r for r in caplog.records if r.getMessage() == "request ended"]
    assert (ended.outcome, ended.prompt_tokens, ended.new_tokens) == ("length", 20, 3)
    assert ended.ttft_ms >= ended.queue_ms >= 0
    assert sum(r.tokens for r in caplog.records if r.getMessage() == "step") == 22


def test_a_budget_beyond_the_largest_step_is_that_step(make_engine):
    assert make_engine(token_budget=1000).policy.budget == 16
    assert make_engine(max_running=2).policy.seats == 2


def test_requests_that_cannot_be_answered_are_refused_at_once(make_engine, prompts):
    engine = make_engine()
    (prompt,) = prompts(1, 97)
    with pytest.raises(CapacityError, match="97 tokens, the context holds 96"):
        engine.submit(prompt)
    for bad, message in [
        ({"n": 5}, "n is 5, expected 1 to 4"),
        ({"n": 0}, "n is 0"),
        ({"deadline_s": 0}, "deadline_s is 0"),
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": [""]}, "stop string"),
    ]:
        with pytest.raises(UnsupportedOption, match=message):
            engine.submit(prompt[:3], **bad)
    with pytest.raises(UnsupportedOption, match="no tokens"):
        engine.submit([])
    with pytest.raises(UnsupportedOption, match="either a prompt or messages"):
        engine.submit()
    with pytest.raises(UnsupportedOption, match="either a prompt or messages"):
        engine.submit("x", messages=[{"role": "user", "content": "x"}])
    with pytest.raises(UnsupportedOption, match="tools go with messages"):
        engine.submit("x", tools=[{"name": "f"}])
    assert engine.generate(prompt[:96], ignore_eos=True).new_tokens == 1


@pytest.mark.parametrize(
    "option", ["max_queue", "max_running", "token_budget", "tbt_target_ms", "prefix_cache_mb"]
)
def test_limits_without_meaning_are_refused(make_engine, option):
    with pytest.raises(UnsupportedOption, match=f"{option} is -1"):
        make_engine(**{option: -1})


def test_the_budget_is_measured_when_it_is_not_given(make_engine, prompts, greedy):
    engine = make_engine(token_budget=None)
    assert set(engine.profile.step_ms) == {1, 8, 16}
    assert engine.policy.budget in (8, 16)
    assert make_engine(token_budget=None, tbt_target_ms=1e6).policy.budget == 16
    (prompt,) = prompts(1, 20)
    assert engine.generate(prompt, max_tokens=5, ignore_eos=True).tokens == greedy(prompt, 5)
    assert figures(engine).cells_free + engine.metrics.cells_used == 96
