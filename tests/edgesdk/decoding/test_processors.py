import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesdk.decoding.processors import (
    add_bias,
    heat,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    keep_typical,
    penalise,
    penalise_counts,
)

LOGITS = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=40).map(
    lambda x: np.array(x, np.float32)
)


def softmax(logits):
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return weights / weights.sum()


@settings(deadline=None)
@given(logits=LOGITS, count=st.integers(1, 50))
def test_top_k_keeps_the_first_of_a_stable_sort(logits, count):
    ids, kept = keep_top_k(count)((np.arange(len(logits)), logits))
    expected = np.sort(np.argsort(-logits, kind="stable")[:count])
    assert ids.tolist() == expected.tolist()
    assert np.array_equal(kept, logits[expected])


@settings(deadline=None)
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


@settings(deadline=None)
@given(logits=LOGITS, share=st.floats(0.001, 1))
def test_min_p_is_relative_to_the_best(logits, share):
    ids, _ = keep_min_p(share)((np.arange(len(logits)), logits))
    p = softmax(logits)
    near = np.isclose(p, share * p.max(), rtol=1e-4)
    expected = {i for i in range(len(p)) if p[i] >= share * p.max()}
    assert set(ids.tolist()) ^ expected <= set(np.flatnonzero(near).tolist())
    assert int(np.argmax(logits)) in ids


@settings(deadline=None)
@given(logits=LOGITS, mass=st.floats(0.01, 0.99))
def test_typical_keeps_what_is_nearest_to_the_expected_surprise(logits, mass):
    ids, kept = keep_typical(mass)((np.arange(len(logits)), logits))
    assert np.array_equal(kept, logits[ids])
    p = softmax(logits)
    far = np.abs(-np.log(p) - (p @ -np.log(p)))
    best = int(np.argmax(logits))
    assert best in ids
    assert p[ids].sum() >= mass - 1e-6
    others = [i for i in ids if i != best]
    dropped = [i for i in range(len(p)) if i not in ids]
    if others and dropped:
        assert max(far[others]) <= min(far[dropped]) + 1e-6


def test_typical_by_hand():
    # Entropy 1.17 nats: the surprise of 0.3 (1.20) is nearest, then 0.2 (1.61) and 0.5 (0.69).
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    ids, _ = keep_typical(0.3)((np.arange(4), logits))
    assert ids.tolist() == [0, 1]  # 0 stays, as the most likely
    ids, _ = keep_typical(0.85)((np.arange(4), logits))
    assert ids.tolist() == [0, 1, 2]


def test_the_repetition_penalty_makes_seen_tokens_less_likely():
    logits = np.array([2, -2, 1, 0], np.float32)
    seen = np.array([True, True, False, True])
    assert penalise(logits, seen, 2.0).tolist() == [1, -4, 1, 0]
    assert logits.tolist() == [2, -2, 1, 0]


def test_presence_is_taken_off_once_and_frequency_each_time():
    logits = np.array([1, 1, -1], np.float32)
    counts = np.array([0, 1, 3], np.int32)
    assert penalise_counts(logits, counts, 0.5, 0.25).tolist() == [1, 0.25, -2.25]
    assert penalise_counts(logits, counts, -1.0, 0.0).tolist() == [1, 2, 0]
    assert logits.tolist() == [1, 1, -1]


def test_bias_is_added():
    logits = np.array([1, 1, 1], np.float32)
    biased = add_bias(logits, np.array([0, 2]), np.array([2, -np.inf], np.float32))
    assert biased.tolist() == [3, 1, -np.inf]
    assert logits.tolist() == [1, 1, 1]


@pytest.mark.parametrize("make", [heat, keep_top_p, keep_min_p, keep_typical])
def test_banned_candidates_disturb_no_filter(make):
    logits = np.array([1, -np.inf, 0.9, -np.inf], np.float32)
    ids, kept = make(0.9)((np.arange(4), logits))
    assert not np.isnan(kept).any()
    assert {0, 2} <= set(ids.tolist())
