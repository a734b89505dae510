"""Branches of a conversation, without a window."""

import json

import pytest


@pytest.fixture
def tree(example):
    tree = example("chat_tree").ChatTree()
    question = tree.add(0, "user", "a")
    tree.add(question, "assistant", "b")
    return tree


def shown(tree):
    return [tree[number].text for number in tree.shown()]


def test_an_edited_question_is_a_branch_and_the_old_one_stays(tree):
    other = tree.add(0, "user", "c")
    assert shown(tree) == ["c"]
    answer = tree.add(other, "assistant", "d")
    assert tree.messages(answer) == [
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d"},
    ]
    assert tree.branch(other) == (1, 2)
    tree.choose(other, -1)
    assert shown(tree) == ["a", "b"]
    tree.choose(tree.shown()[0], -1)  # there is none before
    assert shown(tree) == ["a", "b"]


def test_it_is_kept_whole(tree, example):
    tree.add(0, "user", "c")
    again = example("chat_tree").ChatTree.from_json(tree.to_json())
    assert again.to_json() == tree.to_json()
    assert shown(again) == ["c"]


@pytest.mark.parametrize(
    "change",
    [
        lambda turns: turns[1].update(children=[1]),
        lambda turns: turns[1].update(children=[9]),
        lambda turns: turns[2].update(children=5),
        lambda turns: turns[2].update(children={}),
        lambda turns: turns[2].update(parent=2),
        lambda turns: turns[2].update(role="system"),
        lambda turns: turns[0].update(chosen=3),
        lambda turns: turns[1].update(text=5),
        lambda turns: turns[1].update(more=5),
        lambda turns: turns.clear(),
        lambda turns: turns.append(7),
    ],
)
def test_what_is_no_tree_is_refused(tree, example, change):
    turns = json.loads(tree.to_json())
    change(turns)
    with pytest.raises(ValueError, match="no conversation"):
        example("chat_tree").ChatTree.from_json(json.dumps(turns))
