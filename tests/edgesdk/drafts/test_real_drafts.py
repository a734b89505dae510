"""Drafts on the real model in float32: the answers without them, in fewer steps."""

import numpy as np
import pytest

import edgesdk
from edgesdk.decoding.draft_source import DraftSource
from edgesdk.drafts.combine import CombinedDrafter
from edgesdk.drafts.grammar_drafts import GrammarDrafts
from edgesdk.drafts.lookup import Lookup
from edgesdk.drafts.trained_draft import open_trained_draft
from edgesdk.kv.step_model import steps_of
from edgesdk.model import Model
from edgesdk_converters.architectures.registry import read_spec
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.drafts.draft_checkpoint import (
    DraftCheckpoint,
    DraftConfig,
    DraftTarget,
    tokenizer_digest,
    write_draft,
)

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


@pytest.fixture(scope="module")
def drafted(smollm2_gguf, converted_once, tmp_path_factory):
    """The real model with a draft that nobody trained: it says what the head says of the state as it is."""
    checkpoint = open_checkpoint(str(smollm2_gguf))
    spec = read_spec(checkpoint.config)
    digest = tokenizer_digest(checkpoint.tokenizer)
    target = DraftTarget(spec.architecture, spec.vocab_size, spec.hidden_size, digest, "smollm2")
    config = DraftConfig(spec.hidden_size, 64, 1, 4, spec.norm_eps, target)
    random = np.random.default_rng(0)
    tensors = {
        name: np.ones(shape, np.float32)
        if len(shape) == 1
        else (random.standard_normal(shape) / 30).astype(np.float32)
        for name, shape in config.shapes.items()
    }
    folder = tmp_path_factory.mktemp("draft")
    write_draft(folder, DraftCheckpoint(config, tensors, np.arange(4096, dtype=np.int32)))
    return converted_once(
        smollm2_gguf, targets=("litert",), recipes=("f32",), context=512, prove=False, draft=folder
    )


def test_a_trained_draft_changes_no_answer(drafted):
    with edgesdk.load(drafted, backend="litert") as plain:
        variant = plain.bundle.variant(plain.receipt.variant)

        def make():
            source = open_trained_draft(plain.bundle, variant, steps_of(plain.backend))
            return CombinedDrafter([source], weigh=False)

        model = with_drafts(plain, make)
        prompts = [model.render_prompt(question) for question in (*QUESTIONS, "Hello!", "Count to ten.")]
        options = {**OPTIONS, "max_tokens": 24}
        expected = [plain.generate(prompt, **options).tokens for prompt in prompts]
        found = [model.generate(prompt, **options) for prompt in prompts]
        assert [answer.tokens for answer in found] == expected
        assert min(answer.drafted_tokens for answer in found) > 10
        with edgesdk.Engine(model, token_budget=32) as engine:
            running = [engine.submit(prompt, **options) for prompt in prompts]
            assert [one.result().tokens for one in running] == expected
        assert not model.drafts.notes
        model.drafts.close()


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
