"""One way from a caller's words to what is run, whoever asks."""

import dataclasses

import numpy as np
import pytest

from edgesdk.bundle.reader import open_bundle
from edgesdk.decoding.options import GenerationOptions
from edgesdk.decoding.request_reader import RequestReader
from edgesdk.errors import CapacityError, EdgeError, UnsupportedOption
from edgesdk.text.conversation import Conversation

FREE = GenerationOptions()
MESSAGES = [{"role": "user", "content": "The fox?"}]


@pytest.fixture
def reader(fake_runtime):
    return RequestReader(open_bundle(fake_runtime()))


def test_a_prompt_is_taken_as_it_is_and_a_conversation_by_the_template(reader, byte_level):
    ids = byte_level.encode("The fox")
    for prompt in ("The fox", ids, np.array(ids)):
        request = reader.read(prompt, FREE, 64)
        assert request.prompt.tolist() == ids
        assert request.prompt.dtype == np.int32
    request = reader.read(Conversation(MESSAGES), FREE, 64)
    assert byte_level.decode(request.prompt, skip_special=False) == (
        "<|start|>user: The fox?\n<|start|>assistant: "
    )
    assert request.tools is None


def test_a_prompt_follows_what_is_held_and_a_conversation_parts_from_it(reader):
    request = reader.read([5, 6], FREE, 64, held=[70, 71])
    assert (request.prompt.tolist(), request.held) == ([70, 71, 5, 6], 2)
    assert reader.read((), FREE, 64, held=[70, 71]).prompt.tolist() == [70, 71]
    whole = reader.render(Conversation(MESSAGES), 64)
    again = reader.read(Conversation(MESSAGES), FREE, 64, held=[*whole[:4], 70, 71])
    assert (again.prompt.tolist(), again.held) == (whole, 4)
    assert reader.read([5], FREE, 64).held == 0


def test_only_the_first_text_gets_a_start_token(reader, byte_level, monkeypatch):
    monkeypatch.setattr(reader.tokenizer, "record", dataclasses.replace(byte_level.record, add_bos=True))
    start = byte_level.record.bos_id
    assert reader.read("fox", FREE, 64).prompt[0] == start
    assert reader.read("fox", FREE, 64, held=[70]).prompt.tolist() == [70, *byte_level.encode("fox")]


@pytest.mark.parametrize(("asked", "room", "limit"), [(None, 5, 6), (3, 5, 3), (100, 5, 6), (7, 0, 1)])
def test_the_limit_is_the_callers_or_the_contexts(reader, asked, room, limit):
    request = reader.read([5] * 4, GenerationOptions(max_tokens=asked, ignore_eos=True), 4 + room)
    assert request.limit == limit


def test_samples_draw_apart_and_the_first_as_if_alone(reader):
    logits = np.zeros(reader.tokenizer.engine.get_vocab_size(), np.float32)
    hot = GenerationOptions(temperature=1.0, seed=3)

    def drawn(samples):
        request = reader.read([5], hot, 64, samples=samples)
        return [[chooser.choose(logits).token for _ in range(8)] for chooser in request.choosers]

    several = drawn(3)
    assert several[0] == drawn(1)[0]
    assert len({tuple(tokens) for tokens in several}) == 3
    assert drawn(3) == several


def test_a_prompt_that_is_only_run_has_an_answer_and_nothing_that_chooses(reader):
    request = reader.read([5], FREE, 64, samples=0)
    assert (len(request.choosers), len(request.answers)) == (0, 1)


def test_what_is_wrong_shows_before_anything_runs(reader, fake_runtime):
    for asked in ("", [], [10**6], [-1], 5, None, b"x"):
        with pytest.raises(UnsupportedOption, match="the prompt"):
            reader.read(asked, FREE, 64)
    for asked in ([5] * 65, "x" * 100_000, Conversation([{"role": "user", "content": "x" * 100_000}])):
        with pytest.raises(CapacityError):
            reader.read(asked, FREE, 64)
    for conversation in (
        Conversation(None),
        Conversation([]),
        Conversation(MESSAGES, tools=5),
        Conversation(MESSAGES, tool_choice="required"),
        Conversation(MESSAGES, template_variables={"unread": 1}),
    ):
        with pytest.raises(EdgeError):
            reader.read(conversation, FREE, 64)
    plain = RequestReader(open_bundle(fake_runtime(template=None)))
    with pytest.raises(UnsupportedOption, match="no chat template; use generate"):
        plain.read(Conversation(MESSAGES), FREE, 64)
