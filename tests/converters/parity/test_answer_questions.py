from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from edgesdk_converters.graph import attend_apart
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.parity import answer_questions as module
from edgesdk_converters.parity.answer_questions import ReferenceAnswers, answer_questions, questions
from edgesdk_converters.parity.prove import passages, prompts

HELD_OUT = Path(__file__).parents[3] / "benchmarks" / "chat_questions.txt"


@pytest.fixture(params=["with a common beginning", "apart", "one"])
def asked(request):
    rng = np.random.default_rng(2)
    start = rng.integers(2, 90, 7 if request.param == "with a common beginning" else 0)
    lengths = (3,) if request.param == "one" else (5, 1, 9, 4)
    return [np.concatenate([start, rng.integers(2, 90, n)]).astype(np.int32) for n in lengths]


def greedy(program, question, ends, tokens, writable=None):
    """One at a time, the whole text again for every token."""
    text = question.tolist()
    while len(text) < len(question) + tokens and (len(text) == len(question) or text[-1] not in ends):
        best = int(next(sequence_logits(program, [np.array(text, np.int32)]))[-1].argmax())
        text.append(best if writable is None else int(writable[best]))
    return text[len(question) :]


def test_answers_are_those_of_one_question_at_a_time(any_program, asked):
    expected = [greedy(any_program, question, (), 6) for question in asked]
    found = answer_questions(any_program, asked, (), tokens=6)
    assert [answer.tolist() for answer in found.answers] == expected
    assert [question.tolist() for question in found.questions] == [question.tolist() for question in asked]


@pytest.mark.parametrize(("name", "value"), [("_KEPT_BYTES", 0), ("_CELL_BYTES", 1), ("_PASS_TOKENS", 1)])
def test_limits_of_memory_change_no_answer(make_program, asked, monkeypatch, name, value):
    program = make_program("windows")
    whole = answer_questions(program, asked, (), tokens=6)
    monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(attend_apart, "_ROWS", 1)
    parts = answer_questions(program, asked, (), tokens=6)
    assert [a.tolist() for a in parts.answers] == [a.tolist() for a in whole.answers]


def test_an_end_token_is_the_last_of_an_answer(make_program, asked):
    program = make_program("plain")
    first = [int(answer[2]) for answer in answer_questions(program, asked, (), tokens=6).answers]
    ends = first[:1]
    found = answer_questions(program, asked, ends, tokens=6)
    assert [answer.tolist() for answer in found.answers] == [greedy(program, q, ends, 6) for q in asked]
    assert len(found.answers[0]) <= 3


def test_a_pruned_head_answers_in_the_ids_of_the_whole_vocabulary(make_program, asked):
    program = make_program("plain")
    writable = np.arange(1, 2 * program.spec.vocab_size, 2)
    found = answer_questions(program, asked[:1], (), writable=np.minimum(writable, 95), tokens=4)
    assert found.answers[0].tolist() == greedy(program, asked[0], (), 4, np.minimum(writable, 95))


def test_no_question_gives_no_answer(make_program):
    assert answer_questions(make_program("plain"), [], ()) is None


def test_the_reference_answers_once(make_program, monkeypatch):
    program, said = make_program("plain"), []
    asked = [np.array([5, 6, 7], np.int32)]
    monkeypatch.setattr(module, "fitting_questions", lambda model: asked)
    answers = ReferenceAnswers(program, (), None, said.append)
    assert answers.found is None
    first = answers.to(None)
    assert answers.to(None) is first is answers.found
    assert said == ["answering questions with the reference"]


def test_questions_are_seen_by_nothing_else():
    builtin, held_out = questions(), HELD_OUT.read_text(encoding="utf-8").splitlines()
    assert (len(builtin), len(held_out)) == (100, 300)
    every = builtin + held_out
    assert len({line.casefold() for line in every}) == 400
    assert all(line == line.strip() and 5 <= len(line) <= 110 for line in every)
    folder = files("edgesdk_converters.quantise.calibration")
    seen = [
        file.read_text(encoding="utf-8") for file in folder.iterdir() if file.name.endswith((".txt", ".json"))
    ]
    seen = "\n".join([*seen, *passages(), *prompts()]).casefold()
    assert [line for line in every if line.casefold() in seen] == []
