"""Thoughts in conversations: split from the answer, ended when their tokens are used, before a grammar."""

import json

import numpy as np
import pytest

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.bundle.reader import open_bundle
from edgesdk.devices.receipt import Receipt
from edgesdk.engine.engine import Engine
from edgesdk.errors import UnsupportedOption
from edgesdk.kv.step_model import StepModel
from edgesdk.model import Model

RECEIPT = Receipt("tiny", "only", "f32", "fake", "cpu", "fake", 1.0, 1, 0.0, None, "hashed")
MESSAGES = [{"role": "user", "content": "Fox?"}]
TEMPLATE = "{{ messages[0].content }}{% if thinks %}<think>\n{% endif %}"


@pytest.fixture
def thinker(fake_runtime, byte_level):
    """`thinker(text, opened=False)`: an engine whose model says the text, whatever it is asked."""

    def make(text, opened=False):
        bundle = open_bundle(fake_runtime(template=TEMPLATE))
        prompt = "Fox?" + ("<think>\n" if opened else "")
        script = [*byte_level.encode(prompt), *byte_level.encode(text), byte_level.record.eos_ids[0]]
        variant = bundle.manifest.variants[0]
        backend = FakeStepBackend(bundle.manifest.decoder, variant.steps, script=script)
        return Engine(
            Model(bundle, StepModel(backend, bundle.manifest.decoder, 128), RECEIPT), token_budget=8
        )

    return make


@pytest.mark.parametrize("opened", [False, True])
def test_a_thought_is_split_from_the_answer(thinker, opened):
    said = ("" if opened else "<think>\n") + "The dog? No.\n</think>\n\nThe fox."
    variables = {"template_variables": {"thinks": True}} if opened else {}
    with thinker(said, opened) as engine:
        whole = engine.chat(MESSAGES, stop=["dog"], **variables)  # stop strings are of the answer
        assert (whole.thought, whole.text) == ("The dog? No.", "The fox.")
        assert 6 < whole.thought_tokens < whole.new_tokens - 2
        chunks = list(engine.stream(messages=MESSAGES, logprobs=0, **variables))
        assert "".join(chunk.thought for chunk in chunks) == whole.thought
        assert "".join(chunk.text for chunk in chunks) == whole.text
        assert len(chunks) > 4
        pieces = [entry.token for chunk in chunks for entry in chunk.logprobs]
        assert tuple(pieces) == chunks[-1].completion.tokens
        plain = engine.model.chat(MESSAGES, **variables)
        assert (plain.thought, plain.text) == (whole.thought, whole.text)
        assert engine.generate("Fox?", max_tokens=3).thought_tokens == 0


@pytest.mark.parametrize("most", [0, 1, 5])
@pytest.mark.parametrize("opened", [False, True])
def test_a_thought_that_has_used_its_tokens_is_ended_by_its_mark(thinker, byte_level, most, opened):
    said = ("" if opened else "<think>") + "The quick brown fox jumps over the lazy dog and so on."
    variables = {"template_variables": {"thinks": True}} if opened else {}
    with thinker(said, opened) as engine:
        cut = engine.chat(MESSAGES, thinking_tokens=most, max_tokens=60, ignore_eos=True, **variables)
        text = byte_level.decode(cut.tokens, skip_special=False)
        inside = text.partition("</think>\n\n")[0].removeprefix("<think>")
        assert "</think>\n\n" in text
        # The token that completes the opening mark is not yet one of the thought.
        assert len(byte_level.encode(inside.removesuffix("\n"))) <= most + 2
        assert cut.text  # there is an answer
        whole = engine.chat(MESSAGES, thinking_tokens=100, max_tokens=20, ignore_eos=True, **variables)
        assert "</think>" not in byte_level.decode(whole.tokens, skip_special=False)


def test_a_grammar_holds_for_the_answer_and_not_for_the_thought(thinker):
    pytest.importorskip("llguidance")
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}
    with thinker("The dog? No.\n</think>", opened=True) as engine:
        asked = {"template_variables": {"thinks": True}, "json_schema": schema, "max_tokens": 90}
        answer = engine.chat(MESSAGES, **asked)
        assert answer.thought == "The dog? No."
        assert json.loads(answer.text)["n"] in (1, 2)
        short = engine.chat(MESSAGES, thinking_tokens=2, **asked)
        assert json.loads(short.text)["n"] in (1, 2)
        assert short.thought in "The dog?"
        # Without a thought that the prompt has begun, the answer is the document.
        bare = engine.chat(MESSAGES, json_schema=schema, thinking_tokens=2, max_tokens=30)
        assert (bare.thought, json.loads(bare.text)["n"] in (1, 2)) == ("", True)


def test_a_budget_goes_with_messages(thinker):
    with thinker("Yes.") as engine:
        with pytest.raises(UnsupportedOption, match="goes with messages"):
            engine.generate("Fox?", thinking_tokens=3)
        with pytest.raises(UnsupportedOption, match="thinking_tokens is -1"):
            engine.chat(MESSAGES, thinking_tokens=-1)
        assert np.isfinite(engine.chat(MESSAGES, thinking_tokens=3).ttft_ms)
