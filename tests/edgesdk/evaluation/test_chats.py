import numpy as np
import pytest

from edgesdk.bundle.manifest import ChatAgreement
from edgesdk.evaluation.chats import PIECE_TOKENS, Chats, check_chats, same_tokens

TOKENS = 2 * PIECE_TOKENS + 3  # whole pieces, and a part of one


@pytest.fixture
def questions():
    """Three with a beginning in common, the last within the second."""
    rng = np.random.default_rng(7)
    start = rng.integers(2, 300, 9)
    tails = [rng.integers(2, 300, n) for n in (4, 12)]
    asked = [np.concatenate([start, tail]) for tail in tails]
    return tuple(text.astype(np.int32) for text in (*asked, asked[1][:15], rng.integers(2, 300, 1)))


@pytest.fixture
def answer(expected):
    def greedy(question, tokens=TOKENS):
        text = question.tolist()
        for _ in range(tokens):
            text.append(int(expected(text)[-1].argmax()))
        return np.array(text[len(question) :], np.int32)

    return greedy


@pytest.fixture
def chats(questions, answer):
    return Chats(questions, tuple(answer(question) for question in questions))


def changed(answer, at):
    other = answer.copy()
    other[at] = 2 if answer[at] != 2 else 3
    return other


def test_a_model_answers_as_itself(fake_model, chats):
    assert check_chats(fake_model, chats) == ChatAgreement(questions=4, tokens=TOKENS, equal=4)


@pytest.mark.parametrize("at", range(TOKENS))
def test_the_first_other_token_is_found_wherever_it_is(fake_model, chats, at):
    sequence = fake_model.new_sequence()
    question, answer = chats.questions[1], chats.answers[1]
    assert same_tokens(sequence, question, changed(answer, at)) == at
    # What is left of that answer is forgotten.
    assert same_tokens(sequence, question, answer, held=len(question) - 1) == TOKENS
    sequence.close()
    answers = (chats.answers[0], changed(answer, at), *chats.answers[2:])
    assert check_chats(fake_model, Chats(chats.questions, answers)).equal == 3


def test_answers_may_be_short(fake_model, questions, answer):
    answers = tuple(answer(question, n) for question, n in zip(questions, (1, 2, 9, 1), strict=True))
    assert check_chats(fake_model, Chats(questions, answers)) == ChatAgreement(4, 9, 4)


def test_what_does_not_fit_is_not_asked(fake_model, questions, answer):
    long = np.random.default_rng(1).integers(2, 300, fake_model.full_context - 4).astype(np.int32)
    asked = (long, questions[0])
    assert check_chats(fake_model, Chats(asked, (answer(long, 4), answer(questions[0], 4)))).questions == 2
    assert check_chats(fake_model, Chats(asked, (answer(long, 5), answer(questions[0], 5)))).questions == 1
    assert check_chats(fake_model, Chats((long,), (answer(long, 5),))) is None
