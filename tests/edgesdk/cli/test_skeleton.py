import xml.etree.ElementTree as ET

import pytest

PLAN = "1 | A? | - | 1\n2 | B? | 1 | 5\n"


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "plan.txt"
    path.write_text(PLAN)
    return path


@pytest.fixture
def asked(tiny_bundle):
    answering = ("--max-tokens", "4", "--temperature", "0")
    return ("skeleton", tiny_bundle, "How?", "--variant", "litert-f32", *answering)


def test_a_plan_is_answered_and_drawn(edgesdk, asked, plan, tmp_path):
    result = edgesdk(*asked, "--plan", plan, "--svg", tmp_path / "plan.svg")
    assert result.code == 0, result.err
    assert result.out.strip()
    tree = result.err.splitlines()[-2:]
    assert [line.split()[0] for line in tree] == ["1", "2"]
    assert tree[1].endswith("[5] after 1  B?")
    assert ET.parse(tmp_path / "plan.svg").getroot().tag.endswith("svg")


def test_json_is_one_document_and_the_hard_node_goes_elsewhere(edgesdk, asked, plan, tiny_bundle):
    result = edgesdk(*asked, "--plan", plan, "--json", "--hard-variant", "litert-w8")
    nodes = result.json["answer"]["nodes"]
    assert [node["by"].split()[-1] for node in nodes] == ["f32", "w8"]
    assert result.json["answer"]["plan"]["nodes"][1]["parents"] == [1]
    assert result.json["receipt"]["recipe"] == "f32"


def test_a_plan_that_breaks_is_answered_plainly_and_says_so(edgesdk, asked):
    result = edgesdk(*asked, "--free-plan", "--most-nodes", "2", "--seed", "1")
    assert result.code == 0, result.err
    assert "no plan: " in result.err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--plan", "broken.txt"), 1, "node 1 has parent 2"),
        (("--plan", "none.txt"), 1, "cannot be read"),
        (("--svg", "."), 1, "it is a folder"),
        (("--hard-from", "6"), 2, "6 is not in the range"),
        (("--node-deadline", "0"), 2, "0.0 is not in the range"),
    ],
)
def test_bad_input_is_one_line(edgesdk, asked, tmp_path, monkeypatch, arguments, code, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.txt").write_text("1 | a | 2 | 1\n2 | b | - | 1\n")
    result = edgesdk(*asked, *arguments)
    assert result.code == code
    assert says in result.err
    assert result.out == ""
