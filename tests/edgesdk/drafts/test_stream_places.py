"""Streams stand where they pay; guesses of what they said."""

import numpy as np
import pytest

from edgesdk.decoding.ahead import Ahead
from edgesdk.decoding.draft import Draft, DraftRequest
from edgesdk.drafts.step_costs import StepCosts
from edgesdk.drafts.stream_costs import StreamCosts
from edgesdk.drafts.stream_drafts import StreamDrafts
from edgesdk.drafts.stream_places import StreamPlaces, StreamStep, choose_places

AHEAD = Ahead(
    np.array([[10, 11, 12], [20, 21, 22]], np.int32), np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.1]], np.float32)
)


def request(most=8, deepest=8, pending=1, ahead=AHEAD, key=1):
    tokens = np.arange(9, dtype=np.int32)
    return DraftRequest(key, tokens, most, deepest, 3, pending=pending, ahead=ahead)


@pytest.mark.parametrize(
    ("limits", "tokens", "parents"),
    [
        ({}, (10, 11, 20, 21), (-1, -1, 0, 0)),
        ({"deepest": 1}, (10, 11), (-1, -1)),
        ({"most": 3}, (10, 11, 20), (-1, -1, 0)),
        ({"pending": 2}, (20, 21), (-1, -1)),
    ],
)
def test_guesses_are_what_streams_said(limits, tokens, parents):
    (guess,) = StreamDrafts().guess([request(**limits)])
    assert (guess.tokens, guess.parents) == (tokens, parents)
    assert max(guess.kinds) < len(StreamDrafts().priors)


def test_where_nothing_was_said_nothing_is_guessed():
    assert StreamDrafts().guess([request(ahead=None), request(pending=3)]) == [None, None]


def test_rows_that_cost_nothing_stand_everywhere():
    step = StreamStep(3, 1.5, 1, 20)
    assert choose_places([0.5, 0.3, 0.2], step, 0.6, 2, lambda tokens, streams: 1.0) == (3, 2)


def test_rows_that_cost_more_than_they_bring_stand_nowhere():
    step = StreamStep(1, 1.0, 1, 20)
    assert choose_places([1.0], step, 0.3, 2, lambda tokens, streams: float(tokens + streams)) == (0, 0)


def test_there_is_no_more_than_there_is_room_for():
    step = StreamStep(3, 1.5, 1, 3)
    places, each = choose_places([0.5, 0.3, 0.2], step, 0.6, 4, lambda tokens, streams: 1.0)
    assert places * each <= 3


def test_the_likeliest_places_come_first():
    """After a chain that is mostly right its end is the likeliest last token, then what it begins at."""
    places = StreamPlaces(1)
    asked = [request(most=6)]
    (draft,) = places.add(
        asked,
        [Draft.chain([4, 5])],
        [[0.9, 0.8]],
        rate=0.7,
        cost=lambda tokens, streams: 1 + 0.01 * (tokens + streams) + (tokens + streams > 4) * 9,
    )
    assert draft.parents[2:].tolist() == [1]


def test_streams_that_do_not_pay_are_tried_now_and_then():
    places = StreamPlaces(2)

    def cost(tokens, streams):
        return float(tokens + streams)

    found = [places.add([request()], [None], [[]], rate=0.1, cost=cost)[0] for _ in range(256)]
    tried = [at for at, draft in enumerate(found) if draft is not None]
    assert tried == [31, 95, 223]
    assert len(found[31].tokens) == 1


def test_rows_that_run_in_fewer_blocks_stand_where_others_do_not_pay():
    step = StreamStep(3, 1.4, 1, 8)
    costs = StepCosts()
    for _ in range(40):
        for tokens in range(1, 13):
            costs.learn(tokens, 1 + 0.25 * (tokens - 1))
    last = [0.6, 0.4]
    dear = choose_places(last, step, 0.45, 2, StreamCosts(costs).seconds)
    cheap = choose_places(last, step, 0.45, 2, StreamCosts(costs, 0.1).seconds)
    assert (dear, cheap) == ((0, 0), (2, 1))


def test_what_a_second_call_costs_is_learned():
    costs = StepCosts()
    for _ in range(20):
        costs.learn(1, 1.0)
        costs.learn(4, 1.6)
    apart = StreamCosts(costs, 0.5)
    assert apart.seconds(1, 3) == pytest.approx(1.3, rel=0.02)
    for _ in range(60):
        apart.learn(1, 3, 1.43)
    assert apart.seconds(1, 3) == pytest.approx(1.43, rel=0.02)
    assert costs.seconds(4) == pytest.approx(1.6, rel=0.02)
    whole = StreamCosts(costs)
    assert whole.seconds(1, 3) == costs.seconds(4)


def test_what_slows_every_step_down_is_no_price_of_streams():
    """A machine that becomes half as fast during steps with streams; one without them is due now and then."""
    costs = StepCosts()
    for _ in range(20):
        costs.learn(1, 1.0)
        costs.learn(4, 1.6)
    apart = StreamCosts(costs, 0.5)
    for step in range(128):
        slower = 1.0 if step < 20 else 2.0
        if costs.stale(1):
            costs.learn(1, slower)
        else:
            apart.learn(1, 3, 1.3 * slower)
    assert costs.seconds(1) == pytest.approx(2.0, rel=0.25)
    assert apart.seconds(1, 3) / costs.seconds(1) == pytest.approx(1.3, rel=0.25)


def test_steps_with_streams_alone_make_one_without_due():
    costs = StepCosts()
    costs.learn(1, 1.0)
    apart = StreamCosts(costs, 0.5)
    for _ in range(64):
        apart.learn(1, 3, 1.3)
    assert costs.stale(1)
