import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesdk.decoding.sampling import Sampler, SamplingOptions, keep_min_p, keep_top_k, keep_top_p, penalise
from edgesdk.errors import DeviceError, UnsupportedOption

LOGITS = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=40).map(
    lambda x: np.array(x, np.float32)
)


def softmax(logits):
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return weights / weights.sum()


def sampler(size, **options):
    return Sampler(SamplingOptions(**options), size)


def test_greedy_takes_the_lowest_id_among_equals():
    logits = np.array([0, 3, 1, 3, 3], np.float32)
    assert sampler(5).choose(logits) == 1


@given(logits=LOGITS, count=st.integers(1, 50))
def test_top_k_keeps_the_first_of_a_stable_sort(logits, count):
    ids, kept = keep_top_k(count)((np.arange(len(logits)), logits))
    expected = np.sort(np.argsort(-logits, kind="stable")[:count])
    assert ids.tolist() == expected.tolist()
    assert np.array_equal(kept, logits[expected])


@given(logits=LOGITS, share=st.floats(0.01, 0.999))
def test_top_p_keeps_the_fewest_that_reach_the_share(logits, share):
    ids, _ = keep_top_p(share)((np.arange(len(logits)), logits))
    p = softmax(logits)
    assert p[ids].sum() >= share - 1e-6
    least = min(ids, key=lambda i: (p[i], -i))
    assert p[ids].sum() - p[least] <= share + 1e-6
    assert p[ids].min() >= max([p[i] for i in range(len(p)) if i not in ids], default=0)


def test_top_p_over_a_flat_vocabulary_sorts_past_its_head():
    logits = np.zeros(5000, np.float32)
    ids, _ = keep_top_p(0.5)((np.arange(5000), logits))
    assert ids.tolist() == list(range(len(ids)))
    assert abs(len(ids) - 2500) <= 1


@given(logits=LOGITS, share=st.floats(0.001, 1))
def test_min_p_is_relative_to_the_best(logits, share):
    ids, _ = keep_min_p(share)((np.arange(len(logits)), logits))
    p = softmax(logits)
    near = np.isclose(p, share * p.max(), rtol=1e-4)
    expected = {i for i in range(len(p)) if p[i] >= share * p.max()}
    assert set(ids.tolist()) ^ expected <= set(np.flatnonzero(near).tolist())
    assert int(np.argmax(logits)) in ids


def test_the_repetition_penalty_makes_seen_tokens_less_likely():
    logits = np.array([2, -2, 1, 0], np.float32)
    seen = np.array([True, True, False, True])
    assert penalise(logits, seen, 2.0).tolist() == [1, -4, 1, 0]
    assert logits.tolist() == [2, -2, 1, 0]


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
    allowed = np.argsort(-logits, kind="stable")[:3]
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
    ],
)
def test_values_without_meaning_are_refused_by_name(options):
    (name,) = options
    with pytest.raises(UnsupportedOption, match=f"^{name} is .*, expected"):
        SamplingOptions(**options)
