"""On SmolLM2-135M in float32: branches are calls, nodes in company are nodes alone."""

import pytest

import edgesdk

pytestmark = pytest.mark.real

TEXT = (
    "Anna: Let us begin. The budget for the spring fair is 400 euros.\n"
    "Ben: I will bring the cake on Friday.\nClara: Nobody knows who prints the posters.\n"
    "Anna: We decided to move the fair to June 12.\n"
)
QUERIES = ["What is the budget?", "When is the fair?", "Who prints the posters?"]
GREEDY = {"temperature": 0.0, "repetition_penalty": 1.0, "max_tokens": 16}


@pytest.fixture(scope="module")
def model(smollm2_float):
    with edgesdk.load(smollm2_float, backend="litert", strict=True) as loaded:
        yield loaded


def test_branches_are_calls_and_recall_what_was_said(model):
    found = model.ask_many(TEXT, QUERIES, **GREEDY)
    for query, answer in zip(QUERIES, found.answers, strict=True):
        message = f"{edgesdk.AskOptions().instruction}\n\n{TEXT}\n\nQuestion: {query}"
        alone = model.chat([{"role": "user", "content": message}], **GREEDY)
        assert (answer.text, answer.how) == (alone.text.strip(), "fork")
    assert "400" in found.texts[0]
    assert found.prompt_tokens < found.prompt_tokens_apart / 2


def test_a_node_in_company_is_the_node_alone(model):
    plan = "1 | Which tea is green? | - | 1\n2 | Which tea is black? | - | 1\n3 | Which is older? | 1, 2 | 3"
    options = {**GREEDY, "max_tokens": 12}
    together = model.answer_by_skeleton("Which teas are there?", plan=plan, **options)
    assert together.complete
    first, second, third = (node.text for node in together.nodes)
    known = f"What is known:\n1. {first}\n2. {second}\n\n"
    begin = f"{edgesdk.SkeletonOptions().instruction}\n\nQuestion: Which teas are there?\n\n"
    for words, text in (
        ("Sub-question: Which tea is black?", second),
        (f"{known}Sub-question: Which is older?", third),
    ):
        alone = model.chat([{"role": "user", "content": begin + words}], **options)
        assert alone.text.strip() == text


def test_the_model_plans_by_grammar(model):
    answer = model.answer_by_skeleton("How is tea made?", most_nodes=2, **{**GREEDY, "max_tokens": 4})
    assert answer.fallback is None
    assert 1 <= len(answer.plan.nodes) <= 2
