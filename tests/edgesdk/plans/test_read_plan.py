import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.errors import UnsupportedOption
from edgesdk.plans.read_plan import PlanReader, read_plan
from edgesdk.plans.skeleton_plan import Plan, PlanNode

TEXT = "1 | First? | - | 2\n2 | Second? | - | 1\n\n3 | Both? | 1, 2 | 5\n"


def test_a_plan_is_read():
    assert read_plan(TEXT).nodes == (
        PlanNode(1, "First?", (), 2),
        PlanNode(2, "Second?", (), 1),
        PlanNode(3, "Both?", (1, 2), 5),
    )


def test_a_node_is_there_as_soon_as_its_line_ends():
    reader = PlanReader()
    assert reader.feed("1 | Fir") == []
    assert reader.feed("st? | - | 2") == []
    assert reader.feed("\n2 | Sec") == [PlanNode(1, "First?", (), 2)]
    assert reader.feed("ond? | 1 | 3") == []
    assert reader.end() == [PlanNode(2, "Second?", (1,), 3)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the plan is empty"),
        ("Here is the plan:", "line 1 of the plan is 'Here is the plan:'"),
        ("1 | a | - | 2\n3 | b | - | 1", "node 3 at place 2"),
        ("1 | a | 1 | 2", "node 1 has parent 1, expected numbers below"),
        ("1 | a | 2 | 2\n2 | b | - | 1", "node 1 has parent 2"),
        ("1 | a | - | 6", "difficulty of node 1 is 6"),
        ("1 | a | - | 0", "difficulty of node 1 is 0"),
        ("1 |  | - | 1", "node 1 has no task"),
        ("1 | a | x | 1", "line 1"),
        ("1 | a | - ", "line 1"),
        ("1 | a | 0 | 1", "parent of node 1 is 0"),
        ("1 | " + "a" * 3000, "more than 2000 characters"),
    ],
)
def test_a_broken_plan_is_one_line(text, says):
    with pytest.raises(UnsupportedOption, match=r"(?s)^[^\n]*$") as caught:
        read_plan(text)
    assert says in str(caught.value)


@st.composite
def plans(draw):
    count = draw(st.integers(1, 12))
    nodes = []
    for number in range(1, count + 1):
        parents = draw(st.sets(st.integers(1, number - 1), max_size=3)) if number > 1 else set()
        nodes.append(PlanNode(number, f"task {number}", tuple(parents), draw(st.integers(1, 5))))
    return Plan(tuple(nodes))


@given(plans(), st.integers(1, 7))
def test_what_is_written_is_read_however_it_is_cut(plan, step):
    text = str(plan)
    assert read_plan(text) == plan
    reader = PlanReader()
    found = [n for at in range(0, len(text), step) for n in reader.feed(text[at : at + step])]
    assert [*found, *reader.end()] == list(plan.nodes)


@given(plans())
def test_levels_come_after_their_parents_and_hold_every_node(plan):
    depth = {number: at for at, level in enumerate(plan.levels) for number in level}
    assert sorted(depth) == [node.number for node in plan.nodes]
    for node in plan.nodes:
        assert all(depth[parent] < depth[node.number] for parent in node.parents)
    assert plan.width == max(map(len, plan.levels))
    assert plan.critical_path({n.number: 1.0 for n in plan.nodes}) == len(plan.levels)
    assert plan.without_edges().width == len(plan.nodes)


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ((), "0 nodes, expected 1"),
        ((PlanNode(2, "a"),), "node 2 stands at place 1"),
        (("a",), "expected an edgesdk.PlanNode"),
    ],
)
def test_a_plan_of_wrong_nodes_is_refused(nodes, says):
    with pytest.raises(UnsupportedOption, match=says):
        Plan(nodes)
