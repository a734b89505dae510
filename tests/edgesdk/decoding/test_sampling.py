import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesdk.decoding.sampling import Sampler, SamplingOptions
from edgesdk.errors import DeviceError, UnsupportedOption

LOGITS = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=40).map(
    lambda x: np.array(x, np.float32)
)


def sampler(size, **options):
    return Sampler(SamplingOptions(**options), size)


def test_greedy_takes_the_lowest_id_among_equals():
    logits = np.array([0, 3, 1, 3, 3], np.float32)
    assert sampler(5).choose(logits) == 1


def test_the_penalty_sees_prompt_and_answer():
    choose = sampler(3, repetition_penalty=10.0)
    logits = np.array([3, 2, 1], np.float32)
    choose.observe([0])
    assert [choose.choose(logits) for _ in range(3)] == [1, 2, 0]


def test_the_same_seed_draws_the_same_tokens():
    logits = np.random.default_rng(0).normal(size=500).astype(np.float32)
    options = {"temperature": 0.8, "top_k": 50, "top_p": 0.9, "min_p": 0.01}
    one, same, other = (sampler(500, seed=seed, **options) for seed in (3, 3, 4))
    draws = [[s.choose(logits) for _ in range(50)] for s in (one, same, other)]
    assert draws[0] == draws[1] != draws[2]


def test_draws_follow_the_probabilities():
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    draw = sampler(4, temperature=1.0, seed=1)
    counts = np.bincount([draw.choose(logits) for _ in range(4000)], minlength=4) / 4000
    assert np.abs(counts - [0.5, 0.3, 0.15, 0.05]).max() < 0.03
    cold = sampler(4, temperature=0.5, seed=1)
    counts = np.bincount([cold.choose(logits) for _ in range(4000)], minlength=4) / 4000
    squared = np.array([0.25, 0.09, 0.0225, 0.0025])
    assert np.abs(counts - squared / squared.sum()).max() < 0.03


@settings(deadline=None)
@given(logits=LOGITS, seed=st.integers(0, 9))
def test_only_what_the_filters_keep_is_drawn(logits, seed):
    draw = sampler(len(logits), temperature=1.5, top_k=3, seed=seed)
    # The temperature is applied to the distance from the best, where what differs by less is equal; which of
    # those that are equal comes third is left open.
    distances = (logits.max() - logits) / np.float32(1.5)
    allowed = np.flatnonzero(distances <= np.sort(distances)[:3][-1])
    assert all(draw.choose(logits) in allowed for _ in range(5))
    tiny = sampler(len(logits), temperature=1e-40, seed=seed)
    assert logits[tiny.choose(logits)] >= logits.max() - 1e-25


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_are_an_error(bad, temperature):
    with pytest.raises(DeviceError, match="not finite"):
        sampler(3, temperature=temperature).choose(np.array([0, bad, 1], np.float32))


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_k": 0},
        {"top_p": 0},
        {"top_p": 1.1},
        {"min_p": -0.1},
        {"min_p": 2},
        {"repetition_penalty": 0},
        {"seed": -1},
        {"typical_p": 0},
        {"presence_penalty": float("nan")},
        {"frequency_penalty": float("inf")},
    ],
)
def test_values_without_meaning_are_refused_by_name(options):
    (name,) = options
    with pytest.raises(UnsupportedOption, match=f"^{name} is .*, expected"):
        SamplingOptions(**options)


def test_a_bias_moves_and_bans_tokens():
    logits = np.array([3, 2, 1], np.float32)
    assert sampler(3, logit_bias={2: 5.0}).choose(logits) == 2
    assert sampler(3, logit_bias={0: float("-inf")}).choose(logits) == 1
    drawn = sampler(3, logit_bias={0: float("-inf"), 1: float("-inf")}, temperature=5.0, top_k=3, seed=0)
    assert {drawn.choose(logits) for _ in range(50)} == {2}
    with pytest.raises(UnsupportedOption, match="bans every token"):
        sampler(2, logit_bias={0: float("-inf"), 1: float("-inf")}).choose(logits[:2])
    with pytest.raises(UnsupportedOption, match="token 3, expected ids from 0 to 2"):
        sampler(3, logit_bias={3: 1.0})
    with pytest.raises(UnsupportedOption, match="logit_bias of token 1 is nan"):
        sampler(3, logit_bias={1: float("nan")})


def test_presence_and_frequency_look_at_the_answer_only():
    logits = np.array([3, 2.5, 0], np.float32)
    choose = sampler(3, frequency_penalty=0.4)
    choose.observe([0, 0, 0])
    assert [choose.choose(logits) for _ in range(4)] == [0, 0, 1, 0]
    once = sampler(3, presence_penalty=1.0)
    assert [once.choose(logits) for _ in range(4)] == [0, 1, 0, 0]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_only_what_is_allowed_is_chosen(temperature):
    logits = np.array([9, 1, 0, 8], np.float32)
    allowed = np.array([False, True, True, False])
    choose = sampler(4, temperature=temperature, seed=2)
    assert {choose.choose(logits, allowed) for _ in range(50)} == ({1} if temperature == 0 else {1, 2})
    with pytest.raises(UnsupportedOption, match="allows none"):
        choose.choose(logits, np.zeros(4, bool))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("allowed_ids", [[0], [0, 1, 2, 3, 4, 5, 6]])
def test_few_or_most_allowed_are_drawn_alike(temperature, allowed_ids):
    logits = np.random.default_rng(1).normal(size=9).astype(np.float32)
    logits[[7, 8]] = 20
    allowed = np.isin(np.arange(9), allowed_ids)
    masked = np.where(allowed, logits, -1e30).astype(np.float32)
    ours = sampler(9, temperature=temperature, seed=4, top_k=5, top_p=0.9)
    plain = sampler(9, temperature=temperature, seed=4, top_k=5, top_p=0.9)
    assert [ours.choose(logits, allowed) for _ in range(40)] == [plain.choose(masked) for _ in range(40)]


def test_the_callers_logits_stay_as_they_are():
    logits = np.random.default_rng(0).normal(size=50).astype(np.float32)
    before = logits.copy()
    every = {"repetition_penalty": 2.0, "presence_penalty": 1.0, "frequency_penalty": 1.0, "min_p": 0.1}
    choose = sampler(50, temperature=0.7, top_k=9, typical_p=0.9, logit_bias={3: 1.0}, **every)
    for _ in range(5):
        choose.choose(logits, np.ones(50, bool))
    assert np.array_equal(logits, before)
