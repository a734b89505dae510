"""What has no meaning is refused in one line that names the option."""

import pytest

from edgesdk.errors import UnsupportedOption
from edgesdk.plans.ask_options import AskOptions, check_queries, split_ask_keywords
from edgesdk.plans.skeleton_options import split_skeleton_keywords


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mode": "both"}, "mode is 'both', expected one of fork, paper, constrained, single"),
        ({"max_tokens": None}, "max_tokens is None"),
        ({"overlap_tokens": -1}, "overlap_tokens is -1"),
        ({"retry_tokens": 0}, "retry_tokens is 0"),
        ({"merge": "join"}, "merge is 'join', expected a function"),
        ({"deadline_s": 0}, "deadline_s is 0"),
        ({"cancelled": 1}, "cancelled is 1, expected a function"),
        ({"json_schemas": {"type": "string"}}, "expected a list, one schema a question"),
        ({"instruction": 3}, "instruction is 3, expected a text"),
        ({"mod": "fork"}, "did you mean mode?"),
        ({"temperature": "hot"}, "temperature is 'hot'"),
    ],
)
def test_ways_to_ask(options, says):
    with pytest.raises(UnsupportedOption) as caught:
        split_ask_keywords(options)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("queries", "says"),
    [
        ("Who?", "expected a list of questions"),
        ([], "there are 0 queries"),
        (["a"] * 257, "there are 257 queries, expected 1 to 256"),
        (["a", " "], "query 2 is empty"),
        ([3], "a query is 3"),
        (["a", "b"], "there are 1 json_schemas for 2 queries"),
    ],
)
def test_questions(queries, says):
    with pytest.raises(UnsupportedOption) as caught:
        check_queries(queries, AskOptions(json_schemas=[None]))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"plan": 3}, "plan is 3, expected an edgesdk.Plan or its text"),
        ({"plan": "1 | a"}, "line 1 of the plan"),
        ({"most_nodes": 0}, "most_nodes is 0"),
        ({"planner_tokens": 1.5}, "planner_tokens is 1.5"),
        ({"hard": "bundle"}, "hard is 'bundle', expected a loaded model or an engine"),
        ({"hard_from": 6}, "hard_from is 6"),
        ({"pipelined": "yes"}, "pipelined is 'yes'"),
        ({"node_deadline_s": 0}, "node_deadline_s is 0"),
        ({"cancelled": True}, "cancelled is True"),
        ({"max_tokens": None}, "max_tokens is None"),
        ({"edge": False}, "did you mean edges?"),
    ],
)
def test_ways_to_plan(options, says):
    with pytest.raises(UnsupportedOption) as caught:
        split_skeleton_keywords(options)
    assert says in str(caught.value)
