"""What a rule decides: by planes, by chains as summed over every path, by thresholds."""

import dataclasses
import itertools
import warnings

import numpy as np
import pytest

from edgesdk.bundle.exit_record import ExitRecord, ExitStacks
from edgesdk.dispatch.exit_features import FEATURES, exit_features, top_chances
from edgesdk.dispatch.exit_rule import ExitRule, read_rule, write_rule

RNG = np.random.default_rng(7)
STACKS = ExitStacks((ExitRecord("segment", 0, 2), ExitRecord("segment", 2, 4), ExitRecord("segment", 4, 6)))


def learnt(kind, **more):
    shape = {
        "mean": (0.1, 0.2),
        "scale": (0.5, 2.0),
        "weights": ((1.0, -2.0), (0.5, 3.0)),
        "bias": (0.3, -0.4),
    }
    return ExitRule(kind, (2, 4), features=("gap", "cos_hidden"), **shape, **more)


def test_features_are_those_of_a_softmax_and_of_cosines():
    logits = RNG.standard_normal(50).astype(np.float32) * 4
    chances = np.exp(logits.astype(np.float64))
    chances = np.sort(chances / chances.sum())
    assert top_chances(logits) == pytest.approx((chances[-1], chances[-2]), rel=1e-5)
    rows = [RNG.standard_normal(8).astype(np.float32) for _ in range(6)]
    stream, *changes = rows
    found = dict(zip(FEATURES, exit_features(logits, stream, changes), strict=True))
    assert found["gap"] == pytest.approx(chances[-1] - chances[-2], rel=1e-5)
    cosine = changes[0] @ changes[1] / np.linalg.norm(changes[0]) / np.linalg.norm(changes[1])
    assert found["cos_attention"] == pytest.approx(cosine, abs=1e-6)
    last = stream @ changes[4] / np.linalg.norm(stream) / np.linalg.norm(changes[4])
    assert found["cos_hidden"] == pytest.approx(last, abs=1e-6)
    assert exit_features(logits, stream, [np.zeros(8, np.float32)] * 5)[2] == 0.0


def test_an_svm_is_a_plane_for_each_exit():
    rule = learnt("svm", threshold=0.5)
    seen = [RNG.standard_normal(5), RNG.standard_normal(5)]
    for place, exit_ in enumerate(rule.exits):
        gap, hidden = seen[place][0], seen[place][4]
        weights = rule.weights[place]
        by_hand = weights[0] * (gap - 0.1) / 0.5 + weights[1] * (hidden - 0.2) / 2.0 + rule.bias[place]
        assert rule.score(exit_, seen[: place + 1]) == pytest.approx(by_hand)
        assert rule.leaves(exit_, seen[: place + 1]) == (by_hand >= 0.5)


def test_a_chain_sums_over_every_path():
    """The chance of label 1 at the last exit that has run, of all labels of those before."""
    stay = (0.7, -0.2, 0.1, 0.9)
    rule = learnt("crf", threshold=0.5, stay=stay)
    plane = learnt("svm")
    seen = [RNG.standard_normal(5), RNG.standard_normal(5)]
    for count in (1, 2):
        weights = {}
        for labels in itertools.product((0, 1), repeat=count):
            scores = [plane.score(exit_, [seen[i]]) for i, exit_ in enumerate(rule.exits[:count])]
            total = sum(label * score for label, score in zip(labels, scores, strict=True))
            total += sum(stay[2 * a + b] for a, b in itertools.pairwise(labels))
            weights[labels] = np.exp(total)
        expected = sum(w for labels, w in weights.items() if labels[-1]) / sum(weights.values())
        assert rule.score(rule.exits[count - 1], seen[:count]) == pytest.approx(expected)


def test_a_threshold_and_a_block():
    features = np.array([0.1, 0.8, 0, 0, 0])
    assert ExitRule("top_prob", (2,), 0.8).leaves(2, [features])
    assert not ExitRule("top_prob", (2,), 0.81).leaves(2, [features])
    fixed = ExitRule("fixed", (4,))
    assert (fixed.looks(2), fixed.looks(4), fixed.leaves(4, [features])) == (False, True, True)


@pytest.mark.parametrize("kind", ["svm", "crf"])
def test_a_rule_comes_back_from_its_file(tmp_path, kind):
    rule = learnt(
        kind, stay=(0.0, 1.0, 2.0, 3.0) if kind == "crf" else (), labels=("a", "b"), offsets=((0.0, 1.0),) * 3
    )
    write_rule(tmp_path / "rule.json", rule)
    assert read_rule(tmp_path / "rule.json", STACKS, "") == rule
    assert rule.offsets_at(4, ("b", "a")).tolist() == [1.0, 0.0]
    assert rule.offsets_at(4, ("b", "c")).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "tree"},
        {"exits": ()},
        {"head": "some"},
        {"exits": (4, 2)},
        {"features": ("gap", "gap")},
        {"features": ("gap", "colour")},
        {"scale": (0.0, 1.0)},
        {"weights": ((1.0, float("nan")), (0.0, 0.0))},
        {"weights": ((1.0, 2.0),)},
        {"stay": (1.0,)},
        {"labels": ("a", "b")},
        {"labels": ("a", "a"), "offsets": ((0.0, 0.0),) * 3},
        {"offsets": ((0.0, 0.0),) * 3},
    ],
)
def test_what_is_no_rule_is_refused(change):
    with pytest.raises(ValueError, match=r"expected|lengths|finite|potentials|offsets|labels"):
        dataclasses.replace(learnt("svm"), **change)


@pytest.mark.parametrize("kind", ["svm", "crf"])
def test_a_rule_of_huge_numbers_leaves_nowhere_and_says_nothing(kind):
    rule = ExitRule(
        kind,
        (2, 4),
        features=("gap", "top_prob"),
        mean=(0.0, 0.0),
        scale=(1e-300, 1e-300),
        weights=((1e308, -1e308),) * 2,
        bias=(0.0, 0.0),
        stay=(1e308, -1e308, 1e308, 1e308) if kind == "crf" else (),
    )
    seen = [np.full(5, 0.9), np.full(5, 0.9)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not rule.leaves(2, seen[:1])
        assert not rule.leaves(4, seen)
