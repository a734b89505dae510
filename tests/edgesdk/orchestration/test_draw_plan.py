import xml.etree.ElementTree as ET

import pytest

from edgesdk.orchestration.draw_plan import plan_svg, plan_tree
from edgesdk.plans.read_plan import read_plan
from edgesdk.plans.skeleton_answer import NodeAnswer, SkeletonAnswer

PLAN = read_plan("1 | What is <this> & that? | - | 1\n2 | And then? | 1 | 5\n3 | Beside? | - | 3")


@pytest.fixture
def answer():
    times = {1: (0.5, 0.6, 2.0), 2: (2.0, None, 2.5), 3: (1.0, 1.5, 4.0)}
    nodes = tuple(
        NodeAnswer(
            node,
            "text",
            "b",
            "stop",
            "it broke" if node.number == 2 else None,
            (),
            *times[node.number],
            9,
            5,
            4,
        )
        for node in PLAN.nodes
    )
    return SkeletonAnswer("text", PLAN, nodes, None, None, str(PLAN), 1.0, 30, 4.0)


def test_the_tree_has_a_line_for_the_plan_and_each_node(answer):
    plan, *lines = plan_tree(answer).splitlines()
    assert plan.startswith("plan |~~~~~~~~~~ ")
    assert "1.00 s  30 tokens" in plan
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert lines[0].index(".") == 6 + 5
    assert lines[0].count("=") == 14
    assert "[5] after 1  And then?  ! it broke" in lines[1]
    assert all(line.index("|", 6) == 46 for line in (plan, *lines))


def test_without_a_plan_it_says_why():
    plain = SkeletonAnswer("text", None, (), "line 1 is none", "stop", "", 1.0, 30, 4.0)
    assert plan_tree(plain) == "no plan: line 1 is none"


def test_the_svg_has_a_bar_for_each_node_and_an_arrow_for_each_edge(answer):
    root = ET.fromstring(plan_svg(answer))
    space = "{http://www.w3.org/2000/svg}"
    words = [text.text for text in root.iter(f"{space}text")]
    assert "1. What is <this> & that?" in words
    assert "2. And then? (it broke)" in words
    arrows = [line for line in root.iter(f"{space}line") if line.get("marker-end")]
    assert len(arrows) == 1
    bars = list(root.iter(f"{space}rect"))
    assert len(bars) == 1 + 2 * 4
    assert all(float(bar.get("width")) > 0 for bar in bars)
