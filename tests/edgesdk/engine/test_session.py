"""Sessions: whatever was appended, forked, rewound or saved, the answer is that of the tokens there are."""

import gc
import threading
import time

import numpy as np
import pytest

from edgesdk.errors import CapacityError, DeviceError, SnapshotError, UnsupportedOption


def figures(engine):
    engine.check()
    return engine.metrics


def answer(session, count):
    return session.generate(max_tokens=count, ignore_eos=True).tokens


def test_a_session_goes_on_where_it_was(make_engine, prompts, greedy):
    engine = make_engine(prefix_cache_mb=0)
    first, second = prompts(2, 20)
    with engine.session() as session:
        session.append(first)
        assert session.tokens == tuple(first)
        ran = figures(engine).tokens
        assert answer(session, 6) == greedy(first, 6)
        assert figures(engine).tokens == ran + 6  # the last prompt token, and five of the answer
        follow = [*first, *greedy(first, 6), *second]
        generation = session.submit(second, max_tokens=5, ignore_eos=True)
        assert generation.result(20).tokens == greedy(follow, 5)
        assert generation.metrics.cached_tokens == 25
        assert session.tokens == (*follow, *greedy(follow, 5))
        assert session.length == 51
    engine.check()
    assert figures(engine).cells_used == 0


def test_forks_share_cells_and_go_their_own_ways(make_engine, prompts, greedy):
    engine = make_engine(prefix_cache_mb=0)
    first, left, right = prompts(3, 10)
    session = engine.session()
    session.append(first)
    copy = session.fork()
    assert figures(engine).cells_used == 10
    running = [s.submit(p, max_tokens=8, ignore_eos=True) for s, p in ((session, left), (copy, right))]
    assert running[0].result(20).tokens == greedy([*first, *left], 8)
    assert running[1].result(20).tokens == greedy([*first, *right], 8)
    session.close()
    assert answer(copy, 2) == greedy([*first, *right, *greedy([*first, *right], 8)], 2)
    copy.close()
    engine.check()
    assert figures(engine).cells_used == 0


def test_rewinding(make_engine, prompts, greedy):
    engine = make_engine()
    (prompt,) = prompts(1, 20)
    session = engine.session()
    session.append(prompt)
    for length in (20, 12, 1):
        session.rewind(length)
        assert answer(session, 4) == greedy(prompt[:length], 4)
    session.rewind(0)
    with pytest.raises(UnsupportedOption, match="no tokens"):
        session.generate()
    with pytest.raises(CapacityError, match="rewind a session of 0 tokens to 1"):
        session.rewind(1)
    assert answer(session, 0 + 1) == greedy(prompt, 1) if session.append(prompt) is None else None


def test_a_snapshot_goes_on_in_another_engine(make_engine, prompts, greedy, tmp_path):
    (prompt,) = prompts(1, 20)
    first = make_engine()
    session = first.session()
    session.append(prompt)
    before = answer(session, 5)
    session.save(tmp_path / "kept")
    second = make_engine()
    loaded = second.load_session(tmp_path / "kept")
    assert loaded.tokens == (*prompt, *before)
    assert answer(loaded, 5) == greedy([*prompt, *before], 5)
    assert figures(second).tokens == 5
    # The session that was saved goes on, too.
    assert answer(session, 5) == greedy([*prompt, *before], 5)
    (tmp_path / "kept").write_bytes(b"nonsense")
    with pytest.raises(SnapshotError, match="no snapshot"):
        second.load_session(tmp_path / "kept")
    with pytest.raises(SnapshotError, match="is empty"):
        second.session().save(tmp_path / "empty")


def test_preempted_sessions_are_computed_again(make_engine, prompts, greedy):
    engine = make_engine()
    asked = prompts(3, 20)
    sessions = [engine.session() for _ in asked]
    running = [s.submit(p, max_tokens=30, ignore_eos=True) for s, p in zip(sessions, asked, strict=True)]
    assert [g.result(30).tokens for g in running] == [greedy(p, 30) for p in asked]
    assert figures(engine).preemptions > 0
    engine.check()


def test_idle_sessions_give_way_and_are_computed_again(make_engine, prompts, greedy):
    engine = make_engine()
    (prompt, other) = prompts(2, 80)
    session = engine.session()
    session.append(prompt)
    assert engine.generate(other, max_tokens=3, ignore_eos=True).tokens == greedy(other, 3)
    assert figures(engine).preemptions == 0
    again = session.submit(max_tokens=3, ignore_eos=True)
    assert again.result(20).tokens == greedy(prompt, 3)
    assert again.metrics.cached_tokens == 0


def test_sessions_that_wait_hold_up_nobody(make_engine, prompts, greedy):
    engine = make_engine(max_running=1)
    first, second, third = prompts(3, 40)
    sessions = [engine.session() for _ in range(2)]
    sessions[0].append(first)
    sessions[1].append(second)
    running = [engine.submit(third, max_tokens=40, ignore_eos=True, priority=1)]
    running += [s.submit(max_tokens=40, ignore_eos=True) for s in sessions]
    found = [g.result(30).tokens for g in running]
    assert found == [greedy(p, 40) for p in (third, first, second)]


def test_cancelled_in_the_queue_a_session_keeps_its_cells(make_engine, prompts, greedy):
    engine = make_engine(max_running=1, prefix_cache_mb=0)
    (prompt, other) = prompts(2, 20)
    session = engine.session()
    session.append(prompt)
    busy = engine.submit(other, max_tokens=30, ignore_eos=True)
    waiting = session.submit(other, max_tokens=5, ignore_eos=True)
    waiting.cancel()
    waiting.result(20)
    busy.result(20)
    session.rewind(20)
    again = session.submit(max_tokens=3, ignore_eos=True)
    assert again.result(20).tokens == greedy(prompt, 3)
    assert again.metrics.cached_tokens == 19


def test_one_request_at_a_time(make_engine, prompts):
    engine = make_engine()
    (prompt,) = prompts(1, 10)
    engine.backend.gate = threading.Event()
    session = engine.session()
    generation = session.submit(prompt, max_tokens=3, ignore_eos=True)
    busy = []

    def try_all():
        for act in (session.fork, lambda: session.rewind(0), lambda: session.submit(prompt)):
            try:
                act()
            except UnsupportedOption as error:
                busy.append(str(error))

    thread = threading.Thread(target=try_all)
    thread.start()
    time.sleep(0.02)
    engine.backend.gate.wait = lambda timeout: time.sleep(0.05)
    engine.backend.gate.set()
    thread.join(20)
    assert busy
    assert all("a request is at work on the session" in line for line in busy)
    assert generation.result(20).new_tokens == 3


def test_cancelling_keeps_what_there_is(make_engine, prompts, greedy):
    engine = make_engine()
    engine.backend.gate = pace = threading.Event()
    pace.wait = lambda timeout: time.sleep(0.005)
    (prompt,) = prompts(1, 10)
    session = engine.session()
    generation = session.submit(prompt, max_tokens=80, ignore_eos=True)
    while generation.metrics.new_tokens < 3:
        time.sleep(0.001)
    generation.cancel()
    said = generation.result(20).tokens
    assert session.tokens == (*prompt, *said)
    assert answer(session, 2) == greedy([*prompt, *said], 2)


def test_an_error_leaves_the_session_as_it_was(make_engine, prompts, greedy):
    engine = make_engine()
    first, second = prompts(2, 20)
    session = engine.session()
    session.append(first)
    engine.backend.failure = DeviceError("gone")
    with pytest.raises(DeviceError, match="gone"):
        session.generate(second)
    assert session.tokens == tuple(first)
    assert answer(session, 4) == greedy(first, 4)
    with pytest.raises(UnsupportedOption, match="n is 2, expected 1 in a session"):
        session.generate(second, n=2)
    with pytest.raises(CapacityError):
        session.append(second * 5)
    assert answer(session, 1)


def test_an_answer_keeps_its_session_until_it_has_ended(make_engine, prompts):
    """A fork that is asked at once and held by nobody is not closed under its answer."""
    engine = make_engine(prefix_cache_mb=0)
    (prompt,) = prompts(1, 10)
    session = engine.session()
    session.append(prompt)
    answers = [session.fork().submit(max_tokens=6, ignore_eos=True) for _ in range(2)]
    gc.collect()
    assert [answer.result(20).finish_reason for answer in answers] == ["length"] * 2
    gc.collect()  # the answers are still held, their sessions are not
    engine.check()
    assert figures(engine).cells_used == 10


def test_closed_and_forgotten_sessions_give_their_cells_back(make_engine, prompts):
    engine = make_engine(prefix_cache_mb=0)
    engine.backend.gate = pace = threading.Event()
    pace.wait = lambda timeout: time.sleep(0.002)
    (prompt,) = prompts(1, 10)
    session = engine.session()
    generation = session.submit(prompt, max_tokens=80, ignore_eos=True)
    session.close()
    session.close()
    assert generation.result(20).finish_reason == "cancelled"
    with pytest.raises(DeviceError, match="the session is closed"):
        session.append(prompt)
    forgotten = engine.session()
    forgotten.append(prompt)
    assert figures(engine).cells_used == 10
    del forgotten
    gc.collect()
    engine.check()
    assert figures(engine).cells_used == 0


def test_text_starts_with_the_start_token_only_once(make_engine, fake_bundle):
    engine = make_engine()
    session = engine.session()
    session.append("The fox")
    session.append(" runs")
    assert engine.model.tokenizer.decode(session.tokens) == "The fox runs"


def chat(*turns):
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]


def test_a_conversation_runs_only_what_is_new(make_engine, greedy):
    engine = make_engine(prefix_cache_mb=0)
    session = engine.session()
    first = chat("The fox?")
    whole = engine.model.render_chat(first)
    assert session.generate(messages=first, max_tokens=4, ignore_eos=True).tokens == greedy(whole, 4)
    assert session.tokens == (*whole, *greedy(whole, 4))
    # Whatever the answer's tokens are once they are text: what differs is run again, and nothing else.
    follow = chat("The fox?", "runs", "And?")
    ids = engine.model.render_chat(follow)
    held = session.tokens
    common = next(i for i, (a, b) in enumerate(zip(held, ids, strict=False)) if a != b)
    generation = session.submit(messages=follow, max_tokens=5, ignore_eos=True)
    assert generation.result(20).tokens == greedy(ids, 5)
    assert 12 < common == generation.metrics.cached_tokens < len(held)
    assert session.tokens == (*ids, *greedy(ids, 5))
    pieces = "".join(c.text for c in session.stream(messages=first, max_tokens=4, ignore_eos=True))
    assert pieces == engine.generate(whole, max_tokens=4, ignore_eos=True).text
    assert session.tokens == (*whole, *greedy(whole, 4))
    engine.check()


def test_an_answer_that_is_text_again_costs_no_token_twice(make_engine, byte_level):
    question = "<|start|>user: The fox?\n<|start|>assistant: "
    said = [*byte_level.encode("-runs"), *byte_level.encode("\n")]
    engine = make_engine(script=[*byte_level.encode(question), *said], prefix_cache_mb=0)
    session = engine.session()
    session.generate(messages=chat("The fox?"), max_tokens=len(said))
    held = session.length
    again = session.submit(messages=chat("The fox?", "-runs", "And?"), max_tokens=1)
    again.result(20)
    assert again.metrics.cached_tokens == held - 1  # the last token of an answer is not run with it


@pytest.mark.parametrize("how", ["cancelled in the queue", "refused", "failed"])
def test_a_conversation_that_came_to_nothing_leaves_no_wrong_cells(make_engine, prompts, greedy, how):
    engine = make_engine(max_running=1, prefix_cache_mb=0)
    (other,) = prompts(1, 20)
    session = engine.session()
    held = engine.model.render_chat(chat("The dog sleeps"))
    session.append(held)
    different = chat("The fox?")
    ids = engine.model.render_chat(different)
    if how == "cancelled in the queue":
        busy = engine.submit(other, max_tokens=30, ignore_eos=True)
        waiting = session.submit(messages=different, max_tokens=5, ignore_eos=True)
        waiting.cancel()
        waiting.result(20)
        busy.result(20)
        expected = ids
    elif how == "refused":
        with pytest.raises(UnsupportedOption, match="temperature"):
            session.submit(messages=different, temperature=-1)
        expected = held
    else:
        engine.backend.failure = DeviceError("gone")
        with pytest.raises(DeviceError, match="gone"):
            session.generate(messages=different)
        expected = held
    assert session.tokens == tuple(expected)
    assert answer(session, 4) == greedy(expected, 4)
    engine.check()


def test_a_conversation_or_a_prompt(make_engine):
    session = make_engine().session()
    for prompt in ("x", [5], np.array([5, 6])):
        with pytest.raises(UnsupportedOption, match="found both"):
            session.submit(prompt, messages=chat("x"))
    with pytest.raises(UnsupportedOption, match="no 'role'"):
        session.submit(messages=[{"content": "x"}])
    session.append("x")
