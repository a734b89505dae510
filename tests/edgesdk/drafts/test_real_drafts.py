"""Drafts on the real model in float32: the answers without them, in fewer steps."""

import pytest

import edgesdk
from edgesdk.decoding.draft_source import DraftSource
from edgesdk.drafts.combine import CombinedDrafter
from edgesdk.drafts.grammar_drafts import GrammarDrafts
from edgesdk.drafts.lookup import Lookup
from edgesdk.model import Model

pytestmark = pytest.mark.real

TEXT = (
    "The library is open from nine to six on weekdays. Books can be borrowed for four weeks. "
    "If a book is late, a fee of ten cents a day must be paid."
)
QUESTIONS = (
    f"Repeat this text word for word: {TEXT}",
    f"Write this as a JSON list of sentences: {TEXT}",
    "Why is the sky blue?",
)
OPTIONS = {"max_tokens": 48, "temperature": 0.0, "repetition_penalty": 1.0}


@pytest.fixture(scope="module")
def model(smollm2_float):
    with edgesdk.load(smollm2_float, recipe="f32", backend="litert") as opened:
        yield opened


@pytest.fixture(scope="module")
def answers(model):
    prompts = [model.render_prompt(question) for question in QUESTIONS]
    return [(prompt, model.generate(prompt, **OPTIONS)) for prompt in prompts]


def with_drafts(model, make):
    return Model(
        model.bundle, model.backend, model.receipt, drafts=DraftSource(make(), make, model.decoder.vocab_size)
    )


@pytest.mark.parametrize("branches", [1, 4])
def test_lookup_gives_the_answers_without_it(model, answers, branches):
    drafted = with_drafts(model, lambda: CombinedDrafter([Lookup(branches=branches)], weigh=False))
    found = [drafted.generate(prompt, **OPTIONS) for prompt, _ in answers]
    assert [answer.tokens for answer in found] == [answer.tokens for _, answer in answers]
    assert found[0].tokens_per_step > 1.5
    drafted.drafts.close()


def test_lookup_for_several_at_once(model, answers):
    drafted = with_drafts(model, lambda: CombinedDrafter([Lookup()], weigh=False))
    with edgesdk.Engine(drafted, token_budget=16) as engine:
        running = [engine.submit(prompt, **OPTIONS) for prompt, _ in answers]
        assert [one.result().tokens for one in running] == [answer.tokens for _, answer in answers]
        assert engine.metrics.kept_tokens > 10


SCHEMA = {
    "type": "object",
    "properties": {
        "sky": {"type": "string", "maxLength": 20},
        "year": {"type": "integer"},
        "clear": {"type": "boolean"},
    },
    "required": ["sky", "year", "clear"],
    "additionalProperties": False,
}


def test_what_a_grammar_forces_between_tokens_saves_steps(model):
    asked = {**OPTIONS, "json_schema": SCHEMA}
    prompt = model.render_prompt("Describe the sky of a day in 1969 as JSON.")
    plain = model.generate(prompt, **asked)
    drafted = with_drafts(model, lambda: CombinedDrafter([GrammarDrafts()], weigh=False))
    found = drafted.generate(prompt, **asked)
    assert found.tokens == plain.tokens
    assert found.steps < plain.steps
    with edgesdk.Engine(drafted, token_budget=16, check_steps=True) as engine:
        running = [engine.submit(prompt, **asked) for _ in range(3)]
        assert [one.result().tokens for one in running] == [plain.tokens] * 3
        assert engine.metrics.kept_tokens > 3
    assert not drafted.drafts.notes
    drafted.drafts.close()
