import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgesdk.errors import CapacityError
from edgesdk.orchestration.split_text import split_text

LINES = "Anna: we ship on Friday.\nBen: the budget is 400. Who signs?\n" * 30


def covered(text, parts):
    """Whether the parts hold every character, in order, and where they stand is right."""
    assert parts[0].start == 0
    reach = 0
    for part in parts:
        assert text[part.start : part.start + len(part.text)] == part.text
        assert part.start <= reach
        reach = part.start + len(part.text)
    assert reach == len(text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.text(max_size=400), st.integers(16, 60), st.integers(0, 40))
def test_no_character_is_lost(byte_level, text, most, overlap):
    parts = split_text(text, byte_level, most, overlap)
    covered(text, parts)
    for part in parts:
        # A cut inside a word may give it other tokens, and a few more.
        assert len(byte_level.encode(part.text)) <= most + 8


@pytest.mark.parametrize("overlap", [0, 10, 1000])
def test_parts_begin_and_end_with_lines(byte_level, overlap):
    parts = split_text(LINES, byte_level, 120, overlap)
    covered(LINES, parts)
    assert len(parts) > 3
    assert all(part.text.endswith("\n") for part in parts)
    assert all(part.text[0] in "AB" for part in parts)
    if overlap == 0:
        assert "".join(part.text for part in parts) == LINES


def test_a_short_text_is_one_part(byte_level):
    assert [part.text for part in split_text("Tea.", byte_level, 16, 4)] == ["Tea."]
    assert [part.text for part in split_text("", byte_level, 16, 4)] == [""]


def test_parts_too_small_to_be_worth_reading_are_refused(byte_level):
    with pytest.raises(CapacityError, match="room for 15 tokens of the text, expected at least 16"):
        split_text(LINES, byte_level, 15, 0)
