"""Guesses of a trained draft, on a backend whose logits are written down: trees, limits, the unknown."""

import threading
import time

import numpy as np
import pytest

from edgesdk.backends.step_buffers import StepArrays
from edgesdk.backends.turns import turns_of
from edgesdk.backends.wide_logits import WideLogits
from edgesdk.bundle.stack_record import DRAFT, NEXT_STATE, STATE
from edgesdk.bundle.step_contract import draft_contract
from edgesdk.bundle.step_shape import StepShape
from edgesdk.decoding.draft import DraftRequest
from edgesdk.decoding.drafting import Drafting
from edgesdk.devices.receipt import Runner
from edgesdk.dispatch.failover_steps import FailoverStepBackend
from edgesdk.drafts.combine import CombinedDrafter
from edgesdk.drafts.kept_rates import KeptRates
from edgesdk.drafts.recurrent_drafts import RecurrentDrafts
from edgesdk.errors import DeviceError

E, V = 3, 5
IDS = np.array([10, 20, 30, 40, 50], np.int32)


class Counting:
    """Its state counts the tokens that it took in; after n of them it says token n, then n + 1."""

    def __init__(self, sizes=(1, 2)):
        self.contracts = {DRAFT: draft_contract(E, V)}
        self.shapes = tuple(StepShape(T, 1, T, f"d{T}", DRAFT) for T in sizes)
        self._arrays = StepArrays(self.contracts)
        self.taken = []
        self.sure = 4.0

    def buffers(self, shape):
        return self._arrays.buffers(shape)

    def run(self, shape, cells):
        assert not cells.arrays
        b = self.buffers(shape)
        self.taken.append(b.tokens.tolist())
        b.extra[NEXT_STATE][:] = b.extra[STATE] + 1
        b.logits[:] = 0
        for row, count in enumerate(b.extra[NEXT_STATE][:, 0].astype(int).tolist()):
            b.logits[row, count % V] = self.sure
            b.logits[row, (count + 1) % V] = self.sure / 2

    def close(self):
        pass


def request(*tokens, state=0.0, most=8, deepest=8, pending=1, key=0):
    known = None if state is None else np.full(E, state, np.float32)
    return DraftRequest(key, np.array(tokens, np.int32), most, deepest, 1, state=known, pending=pending)


def test_a_chain_with_the_second_beside_each():
    backend = Counting()
    (guess,) = RecurrentDrafts("d", backend, IDS, depth=3).guess([request(7, 8)])
    assert guess.tokens == (20, 30, 30, 40, 40, 50)
    assert guess.parents == (-1, -1, 0, 0, 2, 2)
    assert all(kind < 8 for kind in guess.kinds[::2])
    assert all(kind >= 8 for kind in guess.kinds[1::2])
    assert backend.taken == [[8], [20], [30]]


@pytest.mark.parametrize(
    ("limits", "tokens"),
    [
        ({"most": 1}, (20,)),
        ({"most": 2}, (20, 30)),
        ({"most": 3}, (20, 30, 30)),
        ({"deepest": 1}, (20, 30)),
        ({"deepest": 2, "most": 5}, (20, 30, 30, 40)),
    ],
)
def test_limits_hold(limits, tokens):
    (guess,) = RecurrentDrafts("d", Counting(), IDS, depth=3).guess([request(7, 8, **limits)])
    assert guess.tokens == tokens


def test_what_is_unlikely_goes_no_further():
    backend = Counting()
    backend.sure = 0.1
    (guess,) = RecurrentDrafts("d", backend, IDS, depth=9).guess([request(7, 8)])
    assert len(guess.tokens) == 4  # a fifth each, twice


class Saying(Counting):
    """Says one row of logits, whatever it took in."""

    def __init__(self, logits):
        super().__init__()
        self.logits = np.array(logits, np.float32)

    def run(self, shape, cells):
        super().run(shape, cells)
        self.buffers(shape).logits[:] = self.logits


@pytest.mark.parametrize("most", [200.0, 3e38])
def test_of_a_certain_token_nothing_is_left_for_the_second(most):
    (guess,) = RecurrentDrafts("d", Saying([-most, most, 0, 0, 0]), IDS, depth=2).guess([request(7, 8)])
    assert guess.tokens[::2] == (20, 20)
    assert guess.kinds == (7, 8, 7, 8)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_guess_nothing(odd):
    backend = Saying([0, 1, odd, 0, 0])
    assert RecurrentDrafts("d", backend, IDS, depth=3).guess([request(7, 8)]) == [None]
    assert len(backend.taken) == 1


def test_nobody_loses_patience_for_what_others_run():
    """A long step of somebody else on the same backend is waited for, and is not the drafter's fault."""
    now = [0.0]
    backend = Counting()
    source = RecurrentDrafts("d", backend, IDS, depth=1, clock=lambda: now[0])
    drafting = Drafting(CombinedDrafter([source], weigh=False), 100, clock=lambda: now[0])
    turns, held = turns_of(backend), threading.Event()

    def other():
        mine, until = turns._last, time.monotonic() + 10
        held.set()
        while turns._last is mine and time.monotonic() < until:  # until the drafter stands in the queue
            pass
        now[0] += 60.0

    thread = threading.Thread(target=turns.take, args=(other,))
    thread.start()
    held.wait(10)
    (draft,) = drafting.propose([request(7, 8)])
    thread.join()
    assert draft is not None
    assert drafting.on, drafting.note
    assert source.waited_s == 60.0


def test_pending_tokens_are_taken_in_first():
    backend = Counting()
    (guess,) = RecurrentDrafts("d", backend, IDS, depth=1).guess([request(7, 8, 9, pending=2)])
    assert backend.taken == [[8], [9]]
    assert guess.tokens == (30, 40)


def test_answers_run_together_and_beyond_the_largest_size_in_turn():
    backend = Counting()
    asked = [request(7, 8, key=1), request(7, 8, 9, pending=2, key=2), request(5, state=2, key=3)]
    guesses = RecurrentDrafts("d", backend, IDS, depth=2).guess(asked)
    alone = [RecurrentDrafts("d", Counting(), IDS, depth=2).guess([one])[0] for one in asked]
    assert [g.tokens for g in guesses] == [g.tokens for g in alone]
    assert backend.taken[0] == [8, 8]
    assert backend.taken[1] == [5]


@pytest.mark.parametrize("one", [request(7, 8, state=None), request(*range(50), pending=40)])
def test_without_a_state_near_there_is_no_guess(one):
    backend = Counting()
    assert RecurrentDrafts("d", backend, IDS, depth=2).guess([one, request(7, 8)])[0] is None
    assert len(backend.taken) == 2


def test_a_place_counts_once_whatever_stands_there():
    """Where the second is right the place is: how far ahead it pays to guess is asked of places."""
    source = RecurrentDrafts("d", Counting(), IDS, depth=1)
    rates = KeptRates(source.priors)
    before = rates.overall
    for step in range(30):
        (guess,) = source.guess([request(7, 8)])
        rates.expect(0, guess, 2 + step)
        rates.compare(0, np.array([7, 8, *[0] * step, 30], np.int32))
    assert rates.overall > 0.85 > before
    assert rates.rate(0, guess.kinds[0]) < 0.2 < 0.8 < rates.rate(0, guess.kinds[1])


class Lost(Counting):
    """Fails once it has run a while."""

    def run(self, shape, cells):
        if len(self.taken) == 1:
            raise DeviceError("device lost")
        super().run(shape, cells)


@pytest.mark.parametrize("wrap", ["failover", "wide"])
def test_it_goes_on_through_what_wraps_the_backend(wrap):
    if wrap == "failover":
        first, second = (Runner("v", name, "cpu", "P") for name in "ab")
        # The one that takes over has other sizes.
        backend = FailoverStepBackend(Lost(), first, [(second, lambda: (second, Counting((1, 4))))])
    else:
        backend = WideLogits(Counting(), np.arange(V, dtype=np.int32), 100)
    asked = [request(7, 8, key=1), request(5, state=2, key=2)]
    guesses = RecurrentDrafts("d", backend, IDS, depth=3).guess(asked)
    alone = RecurrentDrafts("d", Counting(), IDS, depth=3).guess(asked)
    assert [g.tokens for g in guesses] == [g.tokens for g in alone]


def test_a_run_that_was_held_up_is_no_price():
    """Nothing is run that seems dear, so a price that is wrong once must not stay."""
    now = [0.0]
    takes = iter([0.05, *[0.0001] * 20, 0.5, *[0.0001] * 20])

    class Timed(Counting):
        def run(self, shape, cells):
            super().run(shape, cells)
            now[0] += next(takes)

    drafts = RecurrentDrafts("d", Timed(), IDS, depth=1, clock=lambda: now[0])
    drafts.guess([request(7, 8)])
    assert drafts.price_s == 0.0  # the first run opens what the others find
    for _ in range(3):
        drafts.guess([request(7, 8)])
    assert drafts.price_s < 0.0002
    for _ in range(17):
        drafts.guess([request(7, 8)])
    before = drafts.price_s
    drafts.guess([request(7, 8)])
    assert before < drafts.price_s
    for _ in range(8):
        drafts.guess([request(7, 8)])
    assert drafts.price_s < 0.00013
