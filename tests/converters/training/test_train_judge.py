"""A judge is trained on a tiny model: it learns which answers were right, and goes with that model alone."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import edgesdk
from edgesdk.errors import CheckpointError, RetrievalError, UnsupportedOption
from edgesdk.orchestration.prompt_writer import PromptWriter
from edgesdk.plans.allowance import Allowance
from edgesdk.retrieval.gate_desk import COARSE, GateDesk
from edgesdk.retrieval.gate_options import GateOptions
from edgesdk.retrieval.head_judge import question_features
from edgesdk.retrieval.judge_file import read_judge
from edgesdk.retrieval.text_index import make_index

pytest.importorskip("sklearn")
from edgesdk_converters.training.train_judge import (
    Fact,
    _answered,
    fit_judge,
    read_facts,
    recall,
    train_judge,
)

TINY = Path(__file__).parents[2] / "data" / "tiny" / "llama"
THINGS = [f"{a}{b}" for a in ("red", "old", "big", "wet") for b in ("fox", "hen", "owl", "bee")]


@pytest.fixture(scope="module")
def bundle(converted_once):
    return converted_once(
        TINY, targets=("litert",), recipes=("f32",), context=256, prove=False, hidden_states=True
    )


@pytest.fixture(scope="module")
def facts(bundle):
    """Questions of which the model knows those whose own answer it is surer of than of most."""
    asked = [(f"{word} {thing}?", thing) for thing in THINGS for word in ("Who is", "Why the", "When was")]
    with edgesdk.load(bundle, threads=1) as model, edgesdk.Engine(model) as engine:
        desk = GateDesk(engine, PromptWriter(model), GateOptions(), Allowance(None, None))
        said = [desk.write(COARSE, f"Question: {question}", max_tokens=64) for question, _ in asked]
        sure = [desk.belief(q, each.tokens).mean_entropy for (q, _), each in zip(asked, said, strict=True)]
    limit = np.median(sure)
    return [
        Fact(question, (each.text.split()[0],) if entropy < limit else ("no such word",), thing)
        for (question, thing), each, entropy in zip(asked, said, sure, strict=True)
    ]


def test_it_learns_and_is_used(bundle, facts, tmp_path, converted_once):
    out = tmp_path / "judge.json"
    report = train_judge(bundle, facts, out, threads=1)
    assert report.hidden
    assert report.questions + report.held_back == len(facts)
    assert report.auroc_entropy == pytest.approx(1.0)  # by construction
    assert report.auroc > 0.8
    head = read_judge(out)
    assert head.hidden == 64 == len(head.weights) - 4
    (tmp_path / "t.txt").write_text("A fox.")
    with make_index(tmp_path / "i") as index:
        index.add([tmp_path / "t.txt"])
        options = {"gate": "head", "judge": out, "coarse_tokens": 64, "max_tokens": 4, "rewrite": False}
        with edgesdk.load(bundle, threads=1) as model:
            found = [edgesdk.answer_with_sources(model, index, f.question, **options) for f in facts[:12]]
        known = [fact.answers != ("no such word",) for fact in facts[:12]]
        right = sum(answer.searched != knows for answer, knows in zip(found, known, strict=True))
        assert right >= 9
        other = converted_once(TINY.with_name("mistral"), targets=("litert",), recipes=("f32",), prove=False)
        with (
            edgesdk.load(other, threads=1) as model,
            pytest.raises(RetrievalError, match="other weights"),
        ):
            edgesdk.answer_with_sources(model, index, "Why?", **options)


def test_a_judge_of_questions_needs_no_answer(bundle, facts, tmp_path):
    out = tmp_path / "judge.json"
    # Of these the model knows what the first token already gives away.
    report = train_judge(bundle, facts, out, reads="question", threads=1)
    assert report.hidden
    head = read_judge(out)
    assert (head.reads, len(head.weights)) == ("question", 4 + 64)
    (tmp_path / "t.txt").write_text("A fox.")
    with make_index(tmp_path / "i") as index, edgesdk.load(bundle, threads=1) as model:
        index.add([tmp_path / "t.txt"])
        options = {"gate": "head", "judge": out, "max_tokens": 4, "rewrite": False}
        found = [edgesdk.answer_with_sources(model, index, f.question, **options) for f in facts[:12]]
    for answer in found:
        stages = [stage.name for stage in answer.stages]
        assert stages[0] == "gate"
        assert "coarse answer" not in stages
        assert ("search" in stages) == answer.searched
    with edgesdk.load(bundle, threads=1) as model, edgesdk.Engine(model) as engine:
        desk = GateDesk(engine, PromptWriter(model), GateOptions(), Allowance(None, None))
        features = question_features(desk, facts[0].question)
        ids = desk.writer.write(COARSE, f"Question: {facts[0].question}").ids
        logits = model.score(ids)[-1].astype(np.float64)
    chances = np.exp(logits - logits.max())
    chances /= chances.sum()
    second, best = np.sort(np.log(chances))[-2:]
    figures = [best, -(chances * np.log(chances)).sum(), max(second, np.log(1e-9)), np.log(len(ids))]
    np.testing.assert_allclose(features[:4], figures, atol=1e-4)


def test_what_it_cannot_learn_from(bundle, facts, tmp_path):
    out = tmp_path / "judge.json"
    with pytest.raises(UnsupportedOption, match="expected at least 40"):
        train_judge(bundle, facts[:10], out)
    with pytest.raises(UnsupportedOption, match="knows none"):
        train_judge(bundle, [Fact(f.question, ("no such word",), f.about) for f in facts], out, threads=1)
    assert not out.exists()


def test_facts_are_lines(tmp_path):
    path = tmp_path / "facts"
    path.write_text(json.dumps({"question": " Who? ", "answers": ["A", "B"], "about": "x"}) + "\n\n")
    assert read_facts(path) == [Fact("Who?", ("A", "B"), "x")]
    for line in ("{", "[]", "3", '{"question": "a"}', '{"question": "", "answers": ["a"], "about": "b"}'):
        path.write_text(line)
        with pytest.raises(CheckpointError, match="line 1: expected"):
            read_facts(path)
    path.write_bytes(b"\xff")
    with pytest.raises(CheckpointError, match="UTF-8"):
        read_facts(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_facts(tmp_path / "none")


@pytest.mark.parametrize(
    "line",
    [
        '{"question": "a", "answers": [" "], "about": "x"}',
        '{"question": "\\ud800", "answers": ["a"], "about": "x"}',
    ],
)
def test_facts_that_would_say_nothing(tmp_path, line):
    (tmp_path / "f.jsonl").write_text(line)
    with pytest.raises(CheckpointError, match="line 1"):
        read_facts(tmp_path / "f.jsonl")


def test_the_place_is_checked_before_the_model_answers(facts, tmp_path):
    with pytest.raises(OSError, match="folder does not exist"):
        train_judge(tmp_path / "no bundle", facts, tmp_path / "nowhere" / "judge.json")


def test_an_answer_of_nothing_is_not_learnt_from(bundle, facts):
    with edgesdk.load(bundle, threads=1) as model, edgesdk.Engine(model) as engine:

        class Silent(GateDesk):
            def write(self, *parts, **options):
                said = super().write(*parts, **options)
                return dataclasses.replace(said, tokens=()) if facts[1].question in parts[-1] else said

        desk = Silent(engine, PromptWriter(model), GateOptions(), Allowance(None, None))
        rows, known, answered = _answered(desk, facts[:3], "answer", None)
    assert (len(rows), len(known), answered) == (2, 2, [0, 2])


@pytest.mark.filterwarnings("error")
def test_folds_of_one_kind():
    rows = np.random.default_rng(0).normal(size=(80, 4))
    groups = np.arange(80) % 8
    kept_back = groups % 4 == 0
    known = np.where(kept_back, np.arange(80) % 3 == 0, groups == 1)
    with pytest.raises(UnsupportedOption, match="one thing alone"):
        fit_judge(rows, known, groups, kept_back, "x")
    _, report = fit_judge(rows, known | (groups == 2), groups, kept_back, "x")
    assert report.questions == 60


def test_recall():
    assert recall("It is Paris,\n  of course", ["paris"]) == 1.0
    assert recall("Bern and Rome", ["rome", "Oslo"]) == 0.5


@pytest.mark.parametrize("count", [1, 2, 9])
def test_one_run_gives_figures_and_state(bundle, count):
    """Prompt and answer in pieces have the logits and the state that they have at once."""
    with edgesdk.load(bundle, threads=1) as model, edgesdk.Engine(model) as engine:
        desk = GateDesk(engine, PromptWriter(model), GateOptions(), Allowance(None, None))
        prompt = desk.writer.write(COARSE, "Question: Who is it?").ids
        answer = list(range(40, 40 + count))
        belief, state = desk.belief_and_state("Who is it?", answer)
        assert belief == desk.belief("Who is it?", answer)
        _, whole = desk.run([*prompt, *answer])
        assert state == pytest.approx(whole, abs=1e-4)
        logits = model.score([*prompt, *answer])[len(prompt) - 1 : -1].astype(np.float64)
        chances = np.exp(logits - logits.max(1, keepdims=True))
        chances /= chances.sum(1, keepdims=True)
        chosen = chances[np.arange(count), answer]
        assert belief.mean_logprob == pytest.approx(np.log(chosen).mean(), abs=1e-4)
        assert belief.least == pytest.approx(chosen.min(), rel=1e-3)
        assert belief.mean_entropy == pytest.approx(-(chances * np.log(chances)).sum(1).mean(), abs=1e-4)
        assert belief.tokens == count
