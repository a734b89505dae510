"""Fair turns on a backend, counted and not timed."""

import gc
import os
import threading

import pytest

from edgesdk.backends.turns import CLOSED, Turns, turns_of
from edgesdk.errors import DeviceError


class Queue:
    """Threads that wait for a turn one after the other, while the first holds it."""

    def __init__(self, turns):
        self.turns, self.order = turns, []
        self.inside, self.leave = threading.Event(), threading.Event()
        self.threads = [threading.Thread(target=turns.take, args=(self._hold,))]
        self.threads[0].start()
        assert self.inside.wait(20)

    def _hold(self):
        self.inside.set()
        assert self.leave.wait(20)

    def join_in(self, name, act=None, named=None):
        """One more waits; returns once it stands in the queue."""
        before = self.turns._last

        def work():
            try:
                self.turns.take(act or (lambda: self.order.append(name)))
            except DeviceError as error:
                self.order.append((name, str(error)))

        self.threads.append(threading.Thread(target=work, name=named, daemon=True))
        self.threads[-1].start()
        while self.turns._last is before:
            pass

    def end(self):
        self.leave.set()
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive()


def test_turns_go_round_in_the_order_of_asking():
    queue = Queue(Turns())
    for name in "abcdefgh":
        queue.join_in(name)
    queue.end()
    assert queue.order == list("abcdefgh")


def test_no_thread_has_two_turns_while_others_wait():
    turns, seen = Turns(), []
    barrier = threading.Barrier(4)

    def work(name):
        barrier.wait(20)
        for _ in range(200):
            turns.take(lambda: seen.append(name))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(seen) == sorted(list(range(4)) * 200)


def test_a_turn_within_a_turn_is_taken_at_once():
    turns = Turns()
    assert not turns.mine
    assert turns.take(lambda: (turns.mine, turns.take(lambda: 5))) == (True, 5)
    assert not turns.mine


def test_what_is_raised_in_a_turn_ends_it():
    turns = Turns()
    with pytest.raises(KeyboardInterrupt):
        turns.take(lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert turns.take(lambda: 1) == 1


def test_who_gives_up_waiting_lets_nobody_past_the_one_at_work(monkeypatch):
    """As Ctrl-C does to a thread that waits: its ticket is left, and the next waits for the one before."""
    turns = Turns()
    queue = Queue(turns)
    at_work = turns._serving

    class Interrupting:
        def __init__(self, lock):
            self.lock = lock

        def __enter__(self):
            if threading.current_thread().name == "gives up":
                raise KeyboardInterrupt
            self.lock.acquire()

        def __exit__(self, *_):
            self.lock.release()

        def __getattr__(self, name):
            return getattr(self.lock, name)

    at_work.lock = Interrupting(at_work.lock)
    given_up = []

    def give_up():
        with pytest.raises(KeyboardInterrupt):
            turns.take(lambda: queue.order.append("never"))
        assert threading.get_ident() not in turns._drawn
        given_up.append(turns._last)

    thread = threading.Thread(target=give_up, name="gives up")
    thread.start()
    thread.join(20)
    queue.join_in("next")
    assert given_up[0].before is at_work
    assert not queue.order  # the one at work has not left
    queue.end()
    assert queue.order == ["next"]


class Striking:
    """A lock in whose place something strikes the thread named `struck`, as a finalizer or a signal does."""

    def __init__(self, lock, strike):
        self.lock, self.strike = lock, strike

    def __enter__(self):
        if threading.current_thread().name == "struck":
            strike, self.strike = self.strike, lambda: None
            strike()
        self.lock.acquire()

    def __exit__(self, *_):
        self.lock.release()

    def __getattr__(self, name):
        return getattr(self.lock, name)


def wait_struck(queue, strike):
    """A thread that is struck while it waits, and one behind it; then all of them go."""
    turns = queue.turns
    turns._serving.lock = Striking(turns._serving.lock, strike)
    queue.join_in("struck", named="struck")
    queue.join_in("next")
    queue.end()
    assert not turns._drawn


def test_what_strikes_a_thread_that_waits_takes_the_turn_of_that_thread():
    queue = Queue(Turns())
    turns, seen = queue.turns, []

    def within():
        assert turns.mine
        turns.take(queue.order.append, "in the strike's own turn")

    def strike():
        turns.take(within)
        seen.append(turns.mine)
        turns.take(queue.order.append, "again")

    wait_struck(queue, strike)
    assert queue.order == ["in the strike's own turn", "again", "struck", "next"]
    assert seen == [False]


def test_a_strike_may_close_what_its_thread_waits_for():
    queue = Queue(Turns())
    wait_struck(queue, lambda: queue.turns.end(lambda: queue.order.append("released")))
    assert queue.order[0] == "released"
    assert sorted(queue.order[1:]) == [("next", CLOSED), ("struck", CLOSED)]


def test_closing_within_a_turn_releases_when_the_turn_is_over():
    turns, done = Turns(), []

    def act():
        turns.end(lambda: done.append("released"))
        turns.end(lambda: done.append("twice"))
        with pytest.raises(DeviceError, match="closed"):
            turns.take(lambda: None)
        done.append("at work")
        return 5

    assert turns.take(act) == 5
    assert done == ["at work", "released"]
    with pytest.raises(DeviceError, match="closed"):
        turns.take(lambda: None)


def test_closing_waits_for_the_turn_and_refuses_those_behind():
    turns = Turns()
    queue = Queue(turns)
    released = []
    queue.join_in("before")
    before = turns._last
    closing = threading.Thread(target=turns.end, args=(lambda: released.append(list(queue.order)),))
    closing.start()
    while turns._last is before:
        pass
    queue.join_in("after")
    assert not released
    queue.threads.append(closing)
    queue.end()
    assert released == [["before"]]
    assert queue.order == ["before", ("after", CLOSED)]
    turns.end(lambda: released.append("again"))
    assert len(released) == 1
    with pytest.raises(DeviceError, match="closed"):
        turns.expect_open()


def test_what_closing_raises_is_raised():
    with pytest.raises(DeviceError, match="stuck"):
        Turns().end(lambda: (_ for _ in ()).throw(DeviceError("stuck")))


def test_backends_share_turns_and_take_them_along():
    class Backend:
        pass

    first, second = Backend(), Backend()
    assert turns_of(first) is turns_of(first)
    assert turns_of(first) is not turns_of(second)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_is_refused_though_a_thread_of_the_parent_had_the_turn():
    class Native:
        freed = 0

        def __del__(self):
            type(self).freed += 1

    turns = Turns(Native())
    queue = Queue(turns)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        said = "nothing"
        try:
            turns.take(lambda: None)
        except DeviceError as error:
            said = str(error)
        turns.end(lambda: None)
        turns.forget()
        gc.collect()
        os.write(write, f"{Native.freed} {said}".encode())
        os._exit(0)
    os.close(write)
    queue.end()
    with os.fdopen(read) as pipe:
        said = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    assert said.startswith("0 the model was loaded before this process was forked")
    assert "load it in the child" in said
    assert "\n" not in said
    assert turns.take(lambda: 1) == 1  # the parent goes on
