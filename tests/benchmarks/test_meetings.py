"""Every fact of a generated meeting is said once, and nothing else in it holds its answer."""

import pytest


@pytest.fixture(scope="module")
def meetings(benchmark_module):
    return benchmark_module("meetings")


@pytest.mark.parametrize("seed", range(30))
def test_facts_are_said_once_and_can_be_told_apart(meetings, seed):
    make_meeting, talk = meetings.make_meeting, meetings.TALK
    meeting = make_meeting(seed, 24)
    lines = meeting.text.splitlines()
    assert len(lines) == 24
    assert len(meeting.facts) == 8
    for fact in meeting.facts:
        assert sum(line.endswith(f": {fact.said}") for line in lines) == 1
        assert fact.key in fact.said
        others = [other.said for other in meeting.facts if other is not fact]
        if not fact.question.startswith("Who will write"):  # people speak, and are named elsewhere
            assert not any(fact.key.casefold() in said.casefold() for said in (*others, *talk))
    assert make_meeting(seed, 24) == meeting
    assert make_meeting(seed + 1, 24) != meeting
