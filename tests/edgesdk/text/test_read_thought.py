"""Thoughts are told from answers in whatever tokens they come, special or not."""

import pytest
from tokenizers import AddedToken

from edgesdk.text.detokenize import Detokenizer
from edgesdk.text.read_thought import ThoughtReader
from edgesdk.text.thoughts import MARKS


@pytest.fixture(params=["spelt out", "added", "special"])
def marked(request, save):
    from tests.edgesdk.conftest import byte_level_engine

    engine = byte_level_engine()
    if request.param != "spelt out":
        special = request.param == "special"
        marks = [AddedToken(mark, special=special) for pair in MARKS for mark in pair]
        (engine.add_special_tokens if special else engine.add_tokens)(marks)
    return save(engine, "<|start|>", "<|end|>")


def read(tokenizer, text, opened=None):
    """(thought, answer) of a text, as `Answer` puts them together."""
    reader, rest = ThoughtReader(tokenizer, opened), Detokenizer(tokenizer)
    thought = answer = ""
    for token in tokenizer.encode(text):
        if reader.done:
            answer += rest.push(token)
            continue
        step = reader.push(token)
        thought += step.thought
        answer += step.text + "".join(map(rest.push, step.tokens))
    if not reader.done:
        step = reader.finish()
        thought += step.thought
        answer += step.text + "".join(map(rest.push, step.tokens))
    return thought, answer + rest.finish()


@pytest.mark.parametrize(("start", "end"), MARKS)
def test_a_thought_and_its_answer(marked, start, end):
    thought, answer = read(marked, f"{start}\n The fox?\nNo, 日本. \n{end}\n\nYes: < {{}}.")
    assert (thought, answer.lstrip()) == ("The fox?\nNo, 日本.", "Yes: < {}.")
    thought, answer = read(marked, f"Hm </thin{end}Yes.", opened=end)
    assert (thought, answer) == ("Hm </thin", "Yes.")
    assert read(marked, f"{start}The fox and th", None) == ("The fox and th", "")
    assert read(marked, f"{start}a{end}{start}b{end}c") == ("ab", "c")
    assert read(marked, f"{start}{end}c") == ("", "c")


@pytest.mark.parametrize(
    "text", ["", " ", "Yes.", "  <b>bold</b>", "<", "<thin", "\n\n[", "naïve 😀", "a<think>"]
)
def test_what_is_no_thought_reads_as_ever(marked, text):
    assert read(marked, text) == ("", marked.decode(marked.encode(text)))
