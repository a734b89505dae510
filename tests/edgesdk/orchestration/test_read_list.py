import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.orchestration.read_list import read_list


@pytest.mark.parametrize(
    ("text", "items", "kept", "problem"),
    [
        ('["a", "b"]', ("a", "b"), True, None),
        (' ["a", "b"]\n', ("a", "b"), True, None),
        ('Here it is: ["a", "b"]', ("a", "b"), False, None),
        ('```json\n["a", "b"]\n```', ("a", "b"), False, None),
        ('["a"]', (), False, "a list of 1 items, expected 2"),
        ('["a", "b", "c"]', (), False, "a list of 3 items, expected 2"),
        ("a, b", (), False, "no JSON list"),
        ("[a, b]", (), False, "no JSON list that can be read"),
        ('["a", "b', ("a",), False, "ends after 1 of 2 items"),
        ('["a", "b"', ("a", "b"), False, "ends after 2 of 2 items"),
        ("[1, 2", (1,), False, "ends after 1 of 2"),
        ('["a" "b"]', (), False, "no JSON list that can be read"),
    ],
)
def test_lists(text, items, kept, problem):
    found = read_list(text, 2)
    assert (found.items, found.kept) == (items, kept)
    assert found.problem is None if problem is None else problem in found.problem


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda i: st.lists(i) | st.dictionaries(st.text(), i),
)


@given(st.lists(JSON, min_size=1, max_size=5), st.integers(0, 60))
def test_a_list_that_is_cut_keeps_its_first_items(values, cut):
    text = json.dumps(values)
    assert read_list(text, len(values)).items == tuple(values)
    found = read_list(text[:cut], len(values))
    assert list(found.items) == values[: len(found.items)]
