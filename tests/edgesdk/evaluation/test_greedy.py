import numpy as np

from edgesdk.evaluation.greedy import NEAR_TIE, Divergence, first_divergence, greedy_texts, summarise


def test_the_first_other_token_is_found():
    reference = np.zeros((5, 4), np.float32)
    reference[1, 2] = reference[2, 3] = reference[3, 0] = 1
    same = np.array([1, 1, 2, 3, 0], np.int32)
    assert first_divergence(2, same, reference) is None
    other = np.array([1, 1, 2, 1, 1], np.int32)
    assert first_divergence(2, other, reference) == Divergence(at=1, gap=1.0)
    # What the prompt holds is nobody's choice.
    assert first_divergence(4, np.array([3, 3, 3, 3, 0], np.int32), reference) is None


def test_near_ties_are_counted_apart():
    found = [None, Divergence(3, NEAR_TIE / 2), Divergence(0, 1.0), None]
    report = summarise(found, 32)
    counts = (report.prompts, report.identical, report.near_ties, report.diverged, report.tokens)
    assert counts == (4, 2, 1, 1, 32)


def test_answers_follow_the_model(fake_model, expected):
    prompts = ["The fox?", "The dog sleeps.", "word " * 200]
    answers = list(greedy_texts(fake_model, prompts, 6))
    assert len(answers) == 2  # the last one leaves no room
    for prompt, (prompt_tokens, tokens) in zip(prompts, answers, strict=False):
        assert tokens[:prompt_tokens].tolist() == fake_model.render_prompt(prompt)
        assert 1 <= len(tokens) - prompt_tokens <= 6
        assert first_divergence(prompt_tokens, tokens, expected(tokens)) is None


def test_an_answer_ends_with_the_context(fake_model):
    prompt = "x " * 50
    count = len(fake_model.render_prompt(prompt))
    ((prompt_tokens, tokens),) = greedy_texts(fake_model, [prompt], 1000)
    assert prompt_tokens == count
    assert len(tokens) <= fake_model.context
