"""Answers in channels: thoughts, answers and calls, whatever order they come in."""

import pytest

from edgesdk.text.detokenize import Detokenizer
from edgesdk.text.find_thought import find_thought
from edgesdk.text.read_channels import ChannelReader
from edgesdk.text.read_thought import ThoughtReader
from edgesdk.text.thoughts import after_thought

MARKS = ["<|start|>", "<|end|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|call|>", "<|return|>"]
THOUGHT = "<|channel|>analysis<|message|>The fox?\nNo, 日本.<|end|>"
CALL = '<|channel|>commentary to=functions.clock <|constrain|>json<|message|>{"n": 1}<|call|>'
FINAL = "<|channel|>final<|message|>The dog < {}."


@pytest.fixture
def channelled(save):
    from tests.edgesdk.conftest import byte_level_engine

    engine = byte_level_engine()
    engine.add_special_tokens(MARKS)
    return save(engine, "<|start|>", "<|return|>")


def read(tokenizer, text, prompt="<|start|>user<|message|>Fox?<|end|><|start|>assistant"):
    """(thought, answer with its marks, tokens that were neither) of a text."""
    reader = find_thought(tokenizer, tokenizer.encode(prompt))()
    rest = Detokenizer(tokenizer, skip_special=False)
    thought = answer = ""
    for token in tokenizer.encode(text):
        if reader.done:
            answer += rest.push(token)
            continue
        step = reader.push(token)
        thought += step.thought
        answer += step.text + "".join(map(rest.push, step.tokens))
    step = reader.finish()
    return thought + step.thought, answer + step.text + rest.finish(), reader.spent


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (f"{FINAL}<|end|>The fox.", "The dog < {}.\n\nThe fox."),
        (f"{FINAL}<|end|> \n<|start|>assistant{FINAL}", "The dog < {}.\n\nThe dog < {}."),
        (f"<|start|>assistant{FINAL}", "The dog < {}."),
    ],
)
def test_headers_that_are_missing_or_said_again(channelled, text, answer):
    assert read(channelled, text)[:2] == ("", answer)


def test_a_header_without_an_end_is_text(channelled):
    """Each token of a header is read with all before it: of thousands that took minutes."""
    reader = ChannelReader(channelled)
    ids = channelled.encode("<|channel|>" + "ana " * 400)
    steps = [reader.push(token) for token in ids[:256]]
    assert reader.done
    assert reader.spent == 0
    assert [token for step in steps for token in step.tokens] == ids[:256]


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        (FINAL, "", "The dog < {}."),
        (f"{THOUGHT}<|start|>assistant{FINAL}", "The fox?\nNo, 日本.", "The dog < {}."),
        (f"{THOUGHT}<|start|>assistant{CALL}", "The fox?\nNo, 日本.", CALL),
        (f" to=functions.clock{CALL.replace(' to=functions.clock', '')}", "", None),
        (
            f"{THOUGHT}<|start|>assistant{THOUGHT}<|start|>assistant<|channel|>commentary<|message|>So.<|end|>"
            f"<|start|>assistant{FINAL}",
            "The fox?\nNo, 日本.\n\nThe fox?\nNo, 日本.",
            "So.\n\nThe dog < {}.",
        ),
        (THOUGHT.removesuffix("<|end|>"), "The fox?\nNo, 日本.", ""),
        ("<|channel|>ana", "", ""),
        ("The dog.", "", "The dog."),
        (f"{THOUGHT}The dog.", "The fox?\nNo, 日本.", "The dog."),
        ("to the dog", "", "to the dog"),
        ("", "", ""),
    ],
)
def test_what_is_thought_and_what_is_answer(channelled, text, thought, answer):
    found, said, spent = read(channelled, text)
    assert (found, said) == (thought, text if answer is None else answer)
    if answer is None or answer == text:
        assert spent == 0
    elif not thought and answer:
        assert spent == len(channelled.encode("<|channel|>final<|message|>"))


def test_a_prompt_says_which_reader(channelled, byte_level):
    def reader(tokenizer, prompt):
        return type(find_thought(tokenizer, tokenizer.encode(prompt))())

    assert reader(channelled, "Fox?<|start|>assistant") is ChannelReader
    assert reader(channelled, "Fox?<|start|>assistant\n<think>") is ThoughtReader
    assert reader(byte_level, "Fox?<|start|>assistant") is ThoughtReader


def test_the_ending_of_a_thought(channelled):
    reader = ChannelReader(channelled)
    assert (reader.waits, reader.thinking, reader.ending) == (True, False, FINAL.partition("The dog")[0])
    for token in channelled.encode("<|channel|>analysis<|message|>The fox"):
        reader.push(token)
    assert (reader.waits, reader.thinking) == (True, True)
    for token in channelled.encode(reader.ending):
        reader.push(token)
    assert (reader.waits, reader.thinking) == (False, False)


def test_a_call_that_is_only_thought_of_is_none():
    thought = THOUGHT.replace("The fox?", "to=functions.clock <|message|>{}")
    assert after_thought(f"{thought}<|start|>assistant{CALL}") == f"<|start|>assistant{CALL}"
    assert after_thought(f"{THOUGHT}<|start|>assistant{THOUGHT}") == ""
    analysis = CALL.replace("commentary", "analysis")
    assert after_thought(analysis) == analysis
    assert after_thought(f"It says {THOUGHT}") == f"It says {THOUGHT}"
