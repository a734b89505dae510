"""Conversations with a model that answers in channels, as gpt-oss does."""

import json
from dataclasses import replace

import pytest

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.reader import open_bundle
from edgesdk.devices.receipt import Receipt
from edgesdk.engine.engine import Engine
from edgesdk.kv.step_model import StepModel
from edgesdk.model import Model
from edgesdk.text.chat_template import ChatTemplate
from edgesdk.text.tools import ToolCall
from tests.edgesdk.conftest import byte_level_engine
from tests.edgesdk.text.test_read_channels import CALL, FINAL, MARKS, THOUGHT

RECEIPT = Receipt("tiny", "only", "f32", "fake", "cpu", "fake", 1.0, 1, 0.0, None, "hashed")
CONTEXT = 512
MESSAGES = [{"role": "user", "content": "Fox?"}]
CLOCK = {"name": "clock", "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}}}


@pytest.fixture
def byte_level(save):
    engine = byte_level_engine()
    engine.add_special_tokens(MARKS)
    return save(engine, "<|start|>", "<|return|>")


@pytest.fixture
def speaker(fake_runtime, byte_level, tool_templates):
    """`speaker(text, tools=None)`: an engine whose model says the text, whatever it is asked."""

    def make(text, tools=()):
        bundle = open_bundle(fake_runtime(template=tool_templates["harmony"]))
        decoder = replace(bundle.manifest.decoder, context=CONTEXT)
        prompt = ChatTemplate(tool_templates["harmony"]).render(MESSAGES, tools=list(tools) or None)
        script = [*byte_level.encode(prompt), *byte_level.encode(text), byte_level.record.eos_ids[0]]
        steps = tuple(StepShape(T, CONTEXT, 1, f"t{T}") for T in (1, 16))
        backend = FakeStepBackend(decoder, steps, script=script)
        return Engine(Model(bundle, StepModel(backend, decoder, CONTEXT), RECEIPT), token_budget=8)

    return make


def test_a_thought_is_split_from_the_answer(speaker):
    with speaker(f"{THOUGHT}<|start|>assistant{FINAL}") as engine:
        whole = engine.chat(MESSAGES, stop=["fox"])  # stop strings are of the answer
        assert (whole.thought, whole.text) == ("The fox?\nNo, 日本.", "The dog < {}.")
        assert 6 < whole.thought_tokens < whole.new_tokens
        chunks = list(engine.stream(messages=MESSAGES))
        assert "".join(chunk.thought for chunk in chunks) == whole.thought
        assert "".join(chunk.text for chunk in chunks) == whole.text
        plain = engine.model.chat(MESSAGES)
        assert (plain.thought, plain.text) == (whole.thought, whole.text)


@pytest.mark.parametrize("most", [0, 1, 4])
def test_a_thought_that_has_used_its_tokens_is_ended(speaker, byte_level, most):
    with speaker(f"{THOUGHT.removesuffix('<|end|>')} and so on and on") as engine:
        cut = engine.chat(MESSAGES, thinking_tokens=most, max_tokens=60, ignore_eos=True)
        before, _, after = byte_level.decode(cut.tokens, skip_special=False).partition("final<|message|>")
        assert len(byte_level.encode(cut.thought)) <= most
        assert before.endswith("<|channel|>")
        assert bool(cut.thought) == bool(most)
        assert cut.text.strip()
        assert after.startswith(cut.text[:3])


def test_a_grammar_holds_for_the_answer(speaker):
    pytest.importorskip("llguidance")
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}
    with speaker(f"{THOUGHT}<|start|>assistant{FINAL}") as engine:
        answer = engine.chat(MESSAGES, json_schema=schema, max_tokens=100)
        assert answer.thought == "The fox?\nNo, 日本."
        assert json.loads(answer.text)["n"] in (1, 2)
        short = engine.chat(MESSAGES, json_schema=schema, thinking_tokens=0, max_tokens=100)
        assert (short.thought, json.loads(short.text)["n"] in (1, 2)) == ("", True)


def test_calls_come_after_a_thought_or_at_once(speaker):
    pytest.importorskip("llguidance")
    with speaker(f"{THOUGHT}<|start|>assistant{CALL}", [CLOCK]) as engine:
        answer = engine.chat(MESSAGES, tools=[CLOCK])
        assert answer.tool_calls == (ToolCall("clock", {"n": 1}),)
        assert answer.thought == "The fox?\nNo, 日本."
        for options in ({}, {"thinking_tokens": 3}):
            needed = engine.chat(
                MESSAGES, tools=[CLOCK], tool_choice="required", max_tokens=100, seed=1, **options
            )
            assert needed.tool_calls[0].name == "clock"
