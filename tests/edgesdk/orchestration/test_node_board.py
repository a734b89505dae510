"""Random plans in random order: nodes start after their parents, see exactly them, and are read in order."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from edgesdk.orchestration.node_board import SEPARATOR, NodeBoard
from edgesdk.plans.skeleton_answer import NodeAnswer
from edgesdk.plans.skeleton_plan import PlanNode


@st.composite
def nodes(draw):
    found = []
    for number in range(1, draw(st.integers(1, 5)) + 1):
        parents = draw(st.sets(st.integers(1, number - 1), max_size=3)) if number > 1 else set()
        found.append(PlanNode(number, f"task {number}", tuple(parents)))
    return found


def answer(node, text):
    error = None if text else "failed"
    return NodeAnswer(node, text.strip(), "b", "stop", error, (), 0.0, 0.0, 0.0, 0, 0, 0)


@given(nodes(), st.booleans(), st.integers(0, 1 << 32))
def test_any_plan_in_any_order(plan, edges, seed):
    random = Random(seed)
    board = NodeBoard(edges=edges)
    waiting = list(plan)
    ended: dict[int, str] = {}
    read = ""
    while waiting or not board.done:
        for _ in range(random.randint(0, len(waiting))):
            board.add(waiting.pop(0))
        ready = board.ready()
        for node in ready:
            assert node.number not in board.running
            if edges:
                assert all(parent in ended for parent in node.parents)
                assert board.known(node) == {p: ended[p].strip() for p in node.parents if ended[p].strip()}
                assert board.missing(node) == tuple(p for p in node.parents if not ended[p].strip())
            else:
                assert board.known(node) == {}
            board.start(node)
        assert not board.ready()
        if not board.running:
            continue
        number = random.choice(sorted(board.running))
        text = "".join(random.choices(" \nab", k=random.randint(0, 8)))
        cut = random.randint(0, len(text))
        board.piece(number, text[:cut])
        read += "".join(piece for _, piece in board.read())
        board.piece(number, text[cut:])
        board.end(answer(plan[number - 1], text))
        ended[number] = text
        read += "".join(piece for _, piece in board.read())
    assert sorted(ended) == [node.number for node in plan]
    whole = SEPARATOR.join(text for _, text in sorted((n, t.strip()) for n, t in ended.items()) if text)
    assert read == board.text == whole


def test_what_can_be_read_comes_at_once_and_the_rest_waits_for_those_before():
    first, second = PlanNode(1, "a"), PlanNode(2, "b")
    board = NodeBoard(edges=True)
    for node in (first, second):
        board.add(node)
        board.start(node)
    board.piece(2, "two")
    assert list(board.read()) == []
    board.piece(1, " o")
    assert list(board.read()) == [(1, "o")]
    board.piece(1, "ne ")
    assert list(board.read()) == [(1, "ne")]
    board.end(answer(first, "one"))
    assert list(board.read()) == [(2, "\n\ntwo")]
