import pytest

from edgesdk.text.thoughts import MARKS, after_thought, open_thought


@pytest.mark.parametrize(("start", "end"), MARKS)
def test_a_thought_at_the_beginning_is_taken_off(start, end):
    assert after_thought(f"\n{start} hm {end}\nYes.") == "\nYes."
    assert after_thought(f"{start} hm") == ""
    assert after_thought(f"{start}a{end}{start}b{end}c") == "c"
    assert after_thought(f"Yes: {start} is a mark, {end} another.").startswith("Yes: ")


def test_a_thought_that_the_prompt_begins():
    assert open_thought("<|im_start|>assistant\n<think>\n") == "</think>"
    assert open_thought("<|im_start|>assistant\n<think>\n\n</think>\n\n") is None
    assert after_thought("hm</think>Yes.", "</think>") == "Yes."
    assert after_thought("<think>hm</think>Yes.", "</think>") == "Yes."
    assert after_thought("hm", "</think>") == ""
    assert after_thought("hm</think>Yes.") == "hm</think>Yes."
