import math

import numpy as np
import pytest

from edgesdk.evaluation.agreement import Agreement, join_positions, log_softmax, perplexity_of


def test_a_known_case():
    """Two positions, three words, all by hand."""
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [1, 1, 1]], np.float32))
    truth = np.log(np.array([[0.25, 0.5, 0.25], [0.2, 0.6, 0.2], [1, 1, 1]], np.float32))
    agreement = Agreement()
    agreement.add(np.array([0, 2, 1], np.int32), logits, truth)
    report = agreement.report()
    assert report.positions == 2
    assert report.perplexity == pytest.approx((0.25 * 0.8) ** -0.5, rel=1e-6)
    assert report.reference_perplexity == pytest.approx((0.25 * 0.6) ** -0.5, rel=1e-6)
    assert report.perplexity_ratio == pytest.approx((0.15 / 0.2) ** 0.5, rel=1e-6)
    first = 0.25 * math.log(0.5) + 0.5 * math.log(2)
    second = 0.4 * math.log(2) + 0.6 * math.log(0.75)
    assert report.kl_nats == pytest.approx((first + second) / 2, rel=1e-5)
    assert report.top1_agreement == 0.5


def test_texts_longer_than_a_block_count_like_short_ones():
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 20, 200).astype(np.int32)
    logits, truth = rng.normal(size=(2, 200, 20)).astype(np.float32)
    whole = Agreement()
    whole.add(tokens, logits, truth)
    report = whole.report()
    rows = np.arange(199)
    model, reference = log_softmax(logits[:-1]), log_softmax(truth[:-1])
    assert report.positions == 199
    assert report.perplexity == pytest.approx(math.exp(-model[rows, tokens[1:]].mean()))
    assert report.kl_nats == pytest.approx((np.exp(reference) * (reference - model)).sum(-1).mean())
    assert report.top1_agreement == (model.argmax(-1) == reference.argmax(-1)).mean()


def test_without_reference_there_is_a_perplexity_only():
    agreement = Agreement()
    agreement.add(np.array([0, 1], np.int32), np.zeros((2, 4), np.float32))
    report = agreement.report()
    assert report.perplexity == pytest.approx(4)
    assert report.reference_perplexity is None
    assert report.top1_agreement is None


def test_nothing_to_score():
    agreement = Agreement()
    agreement.add(np.array([3], np.int32), np.zeros((1, 4), np.float32))
    with pytest.raises(ValueError, match="fewer than two tokens"):
        agreement.report()


def test_a_broken_model_has_an_infinite_perplexity():
    assert perplexity_of(1e6) == math.inf
    agreement = Agreement()
    agreement.add(np.array([0, 1], np.int32), np.array([[1e6, 0], [0, 0]], np.float32))
    assert agreement.report().perplexity == math.inf


def test_log_softmax_of_large_logits():
    np.testing.assert_allclose(np.exp(log_softmax(np.float32([[1e4, 1e4]]))), [[0.5, 0.5]])


def test_shards_give_the_very_bits_of_the_whole():
    rng = np.random.default_rng(1)
    windows = [rng.integers(0, 50, n).astype(np.int32) for n in (70, 3, 64, 129, 2, 200)]
    scores = [rng.normal(0, 5, (2, len(window), 50)).astype(np.float32) for window in windows]

    def scored(places):
        agreement = Agreement()
        for i in places:
            agreement.add(windows[i], *scores[i])
        return agreement.scored

    whole = scored(range(6)).report()
    for count in (2, 3, 4):
        parts = [scored(range(6)[first::count]) for first in range(count)]
        assert join_positions(parts).report() == whole
        assert join_positions(parts[::-1]).report() == whole


def test_what_99_of_100_positions_do_not_exceed():
    """One position in 101 goes elsewhere: the mean hides it, the 99 % tail is between the rest and it."""
    logits = np.zeros((102, 2), np.float32)
    truth = logits.copy()
    truth[7] = [9, 0]
    agreement = Agreement()
    agreement.add(np.zeros(102, np.int32), logits, truth)
    report = agreement.report()
    assert report.positions == 101
    assert report.kl_p99_nats == 0  # exactly the 100th of 101
    agreement.add(np.zeros(2, np.int32), logits[:2], np.array([[9, 0], [0, 0]], np.float32))
    assert agreement.report().kl_p99_nats > 0.5
