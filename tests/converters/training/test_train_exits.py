"""Rules for exits: learnt from numbers where the right one is known, and from a tiny model."""

import dataclasses
import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import edgesdk
from edgesdk.dispatch.exit_rule import ExitRule
from edgesdk.dispatch.exit_steps import ExitCost
from edgesdk.errors import MissingExtra, UnsupportedOption
from edgesdk.vectors.labelled_texts import LabelledText, pick_shots, read_labelled
from edgesdk_converters.training.train_exits import ExitTraining, fit_rule, train_exits
from edgesdk_converters.training.watch_exits import Watched, features_for, score_rule

pytest.importorskip("sklearn", reason="needs the extra 'train'")
TINY = Path(__file__).parents[2] / "data" / "tiny"


def known(count=800, noise=0.1):
    """Texts of which the exits err exactly where the gap is small, but for some noise."""
    rng = np.random.default_rng(3)
    gold = rng.integers(0, 2, count)
    gaps = rng.random((count, 2))
    wrong = (gaps < 0.5) ^ (rng.random((count, 2)) < noise * 0.1)
    said = np.stack([np.where(wrong[:, i], 1 - gold, gold) for i in range(2)] + [gold], 1)
    rows = np.where(said[:, :, None] == np.arange(2), np.log(0.9), np.log(0.1))
    features = np.zeros((count, 2, 5))
    features[:, :, 0], features[:, :, 1] = gaps, rng.random((count, 2))
    cost = ExitCost((100,) * 6, 50, (10,) * 6, 2)
    return Watched((2, 4, 6), rows, features, gold, np.full(count, 10), cost, ("a", "b"), "0" * 64)


@pytest.mark.parametrize("kind", ["svm", "crf"])
def test_a_rule_learns_where_the_exits_are_right(kind):
    pytest.importorskip("pycrfsuite", reason="needs the extra 'train'")
    report = fit_rule(known(), ExitTraining(kind, loss=2.0), "known")
    score = report.held_back
    assert score.accuracy_whole == 1.0
    assert score.accuracy > 0.95
    assert score.work_share < 0.75
    assert set(score.exits) == {2, 4, 6}
    assert sum(score.exits.values()) == score.texts == 200
    assert (report.rule.kind, report.learnt_from, report.rule.numbers) == (kind, 400, "0" * 64)


def test_a_feature_that_says_nothing_saves_nothing():
    report = fit_rule(known(), ExitTraining("svm", ("top_prob",), loss=0.0), "known")
    assert report.held_back.work_share > 0.9
    assert report.held_back.accuracy > 0.95


def test_a_fixed_block_and_a_threshold_lose_what_they_must():
    fixed = fit_rule(known(), ExitTraining("fixed", loss=1.0), "known")
    assert fixed.held_back.accuracy < 0.7
    assert len(fixed.rule.exits) == 1
    plain = fit_rule(known(), ExitTraining("top_prob", loss=1.0), "known")
    assert plain.held_back.accuracy > 0.9  # top_prob says nothing here: it had better not leave


def test_work_counts_heads_and_blocks():
    watched = known(60)
    score = score_rule(ExitRule("fixed", (4,)), watched)
    assert score.work_share == pytest.approx((400 * 10 + 50) / (600 * 10 + 50))
    assert score.blocks_share == pytest.approx(4 / 6)
    never = score_rule(ExitRule("top_prob", (2, 4), 1.0), watched)
    assert never.work_share == pytest.approx((600 * 10 + 3 * 50) / (600 * 10 + 50))


def test_a_rule_reads_the_head_that_was_watched():
    watched = dataclasses.replace(known(60), head="labels")
    score = score_rule(ExitRule("top_prob", (2, 4), 2.0, head="labels"), watched)
    assert score.work_share == pytest.approx((600 * 10 + 3 * 2) / (600 * 10 + 50))
    with pytest.raises(ValueError, match="reads the head of all, that of labels was watched"):
        score_rule(ExitRule("top_prob", (2, 4), 2.0), watched)
    lean = ((0.0, np.log(9.0)), (0.0, 0.0), (0.0, 0.0))  # an exit that says a or b by 0.9 says a, or neither
    rule = ExitRule("top_prob", (2, 4), head="labels", labels=("a", "b"), offsets=lean)
    found = features_for(rule, watched)
    says_a = watched.rows[:, 0].argmax(1) == 0
    assert found[says_a, 0, 1] == pytest.approx(81 / 82)
    assert found[~says_a, 0, 1] == pytest.approx(0.5)
    assert found[:, 1, 0] == pytest.approx(0.8)
    assert (found[:, :, 2:] == watched.features[:, :, 2:]).all()


def test_offsets_take_off_what_is_said_of_every_text():
    """A model that leans to one label is no better than chance until its lean is taken off."""
    rng = np.random.default_rng(5)
    watched = known(400)
    lean = np.array([3.0, 0.0])
    rows = watched.rows + lean + rng.normal(0, 0.01, watched.rows.shape)
    leaning = dataclasses.replace(watched, rows=rows)
    report = fit_rule(leaning, ExitTraining("svm", loss=2.0), "known")
    assert report.held_back.accuracy_whole > 0.95


@pytest.fixture(scope="module")
def bundle(converted_once):
    return converted_once(
        str(TINY / "cwm"), targets=("litert",), recipes=("f32",), context=128, exits="2", prove=False
    )


@pytest.mark.parametrize("kind", ["top_prob", "svm"])
@pytest.mark.parametrize("head", [None, "labels", "all"])
def test_a_model_is_watched_and_the_rule_does_what_it_was_scored_for(bundle, tmp_path, kind, head):
    rng = np.random.default_rng(1)
    words = ["".join(rng.choice(list("abcdefgh"), 6)) for _ in range(84)]
    texts = [LabelledText(word, "ab"[i % 2]) for i, word in enumerate(words)]
    out = tmp_path / "rule.json"
    report = train_exits(
        bundle, texts, out, ExitTraining(kind, shots=2, loss=50.0, head=head), task="t", threads=1
    )
    assert report.rule.head == (head or "labels")
    assert report.held_back.texts == 20
    shots, rest = pick_shots(texts, 2, 0)
    examples = [(each.text, each.label) for each in shots]
    with edgesdk.load(bundle, threads=1) as model:
        judged = [each.text for each in rest[60:]]
        found = model.classify_many(judged, ["a", "b"], examples=examples, early_exit=out)
        assert found.figures.head == report.rule.head
        assert found.figures.exits == report.held_back.exits
        assert found.figures.work_share == pytest.approx(report.held_back.work_share, abs=0.02)
        right = [one.label == each.label for one, each in zip(found.results, rest[60:], strict=True)]
        assert np.mean(right) == pytest.approx(report.held_back.accuracy)


@pytest.mark.parametrize(
    ("kind", "module", "package"),
    [("svm", "sklearn", "scikit-learn"), ("crf", "pycrfsuite", "python-crfsuite")],
)
def test_a_missing_package_is_named_before_anything_runs(tmp_path, monkeypatch, kind, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    expected = rf"'{package}' is not installed; install it with: pip install 'edgesdk\[train\]'"
    with pytest.raises(MissingExtra, match=expected):
        train_exits("no such bundle", [], tmp_path / "r.json", ExitTraining(kind))
    with pytest.raises(MissingExtra, match=expected):
        fit_rule(known(), ExitTraining(kind), "known")


def test_what_cannot_be_learnt_is_refused(bundle, tmp_path):
    few = [LabelledText("x", "a"), LabelledText("y", "b")] * 8
    with pytest.raises(UnsupportedOption, match="expected 60 or more"):
        train_exits(bundle, few, tmp_path / "r.json", ExitTraining(shots=2), threads=1)
    with pytest.raises(UnsupportedOption, match="has fewer than 9 texts"):
        train_exits(bundle, few, tmp_path / "r.json", ExitTraining(shots=9), threads=1)
    with pytest.raises(UnsupportedOption, match="1 labels are given"):
        train_exits(bundle, few[::2], tmp_path / "r.json", ExitTraining(shots=2), threads=1)
    with pytest.raises(UnsupportedOption, match="features: found 'colour'"):
        ExitTraining(features=("colour",))
    assert not (tmp_path / "r.json").exists()


@pytest.mark.parametrize(
    "line", ["[]", '{"text": "x"}', '{"text": "", "label": "a"}', "{", '{"text": 1, "label": "a"}']
)
def test_a_task_that_is_none_names_its_line(tmp_path, line):
    path = tmp_path / "task.jsonl"
    path.write_text(json.dumps({"text": "x", "label": "a"}) + "\n" + line + "\n")
    with pytest.raises(UnsupportedOption, match=r"task.jsonl:2 is no line such as"):
        read_labelled(path)


def test_a_task_with_a_label_for_each_text_is_refused_in_no_time():
    texts = [LabelledText("Dull.", str(i)) for i in range(60_000)]
    before = time.process_time()
    with pytest.raises(UnsupportedOption, match="has fewer than 2 texts"):
        pick_shots(texts, 2, 0)
    shots, rest = pick_shots(texts, 1, 0)
    assert (len(shots), rest) == (60_000, [])
    assert time.process_time() - before < 10  # each label looked for from the front: minutes


def test_a_task_has_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr("edgesdk.vectors.labelled_texts._MOST_CHARACTERS", 100)
    path = tmp_path / "task.jsonl"
    path.write_text('{"text": "Dull.", "label": "negative"}\n' * 4)
    with pytest.raises(UnsupportedOption, match="give fewer texts"):
        read_labelled(path)
