import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesdk.decoding.stopping import StopStrings
from edgesdk.errors import UnsupportedOption

WORDS = st.text("ab\n", min_size=1, max_size=4)


def run(stops, pieces):
    watch = StopStrings(stops)
    return [*[watch.push(piece) for piece in pieces], watch.finish()], watch.found


def reference(stops, text):
    """The stop string that is complete first, the longest of those."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            longest = max(ending, key=len)
            return text[: end - len(longest)], longest
    return text, None


@settings(deadline=None)
@given(stops=st.lists(WORDS, max_size=3), pieces=st.lists(st.text("ab\n", max_size=3), max_size=12))
def test_the_cut_does_not_depend_on_the_pieces(stops, pieces):
    out, found = run(stops, pieces)
    assert ("".join(out), found) == reference(stops, "".join(pieces))


def test_only_what_may_begin_a_stop_string_is_held_back():
    assert run(["User:"], ["Hi ", "Us", "ed", " Use", "r", ":x", "more"]) == (
        ["Hi ", "", "Used", " ", "", "", "", ""],
        "User:",
    )


def test_what_was_held_back_comes_out_at_the_end():
    assert run(["\n\n"], ["a", "\n"]) == (["a", "", "\n"], None)


def test_no_stop_strings_hold_nothing_back():
    assert run([], ["a", "b"]) == (["a", "b", ""], None)


@pytest.mark.parametrize("stops", [[""], ["a", ""], "abc"])
def test_meaningless_stop_strings_are_refused(stops):
    with pytest.raises(UnsupportedOption):
        StopStrings(stops)
