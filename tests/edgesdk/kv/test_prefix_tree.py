"""Against a naive model: a set of prefixes, each with its cell."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgesdk.kv.cell_list import CellList
from edgesdk.kv.prefix_tree import PrefixTree

RELAXED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
ACTIONS = st.sampled_from(["insert", "insert", "match", "evict", "close", "compact", "clear"])
TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=12)
GATES = st.sampled_from([(), (1.0,), (0.0, 0.5)])


def ids(values):
    return np.array(values, np.int32)


def grow(cells, tokens):
    pool = cells.pool
    pool.begin()
    cells.append(ids(tokens), pool.allocate(len(tokens)))
    pool.end()


@pytest.fixture
def build(build_pool):
    def build_tree(budget=64, capacity=None):
        pool = build_pool(capacity)
        return pool, PrefixTree(pool, budget * pool.bytes_per_cell + pool.bytes_per_cell // 2)

    return build_tree


def sequence(pool, tree, tokens, *, match=True, gates=()):
    """A list of these tokens, which starts with what the tree has."""
    cells = CellList(pool, gates=gates)
    if match:
        count, found = tree.match(ids(tokens), gates)
        cells.adopt(ids(tokens)[:count], found)
    grow(cells, tokens[cells.length :])
    return cells


class Naive:
    """Every prefix that is held, by its gates and tokens, with the cell of its last token."""

    def __init__(self):
        self.cells = {}

    def match(self, tokens, gates=()):
        count = 0
        while count < len(tokens) and (gates, *tokens[: count + 1]) in self.cells:
            count += 1
        return [self.cells[(gates, *tokens[: i + 1])] for i in range(count)]

    def follow(self, tree):
        """Takes over what the tree holds now; fails on what it never got, or on a hole."""
        left = {}
        waiting = [((gates,), root) for gates, root in tree._roots.items()]
        while waiting:
            prefix, node = waiting.pop()
            for token, cell in zip(node.tokens.tolist(), node.cells.tolist(), strict=True):
                prefix = (*prefix, token)
                assert self.cells[prefix] == cell
                left[prefix] = cell
            assert list(node.children) == [child.tokens[0] for child in node.children.values()]
            waiting += [(prefix, child) for child in node.children.values()]
        gone, self.cells = set(self.cells) - set(left), left
        return gone


@RELAXED
@given(data=st.data(), budget=st.integers(0, 40))
def test_any_history_is_that_of_a_set_of_prefixes(build, data, budget):
    pool, tree = build(budget)
    naive, lists = Naive(), []
    for _ in range(data.draw(st.integers(1, 20))):
        action = data.draw(
            st.sampled_from(["insert", "insert", "match", "evict", "close", "compact", "clear"])
        )
        if action == "insert":
            tokens = data.draw(TOKENS)
            if len(tokens) > pool.free:
                tree.evict(len(tokens))
            if len(tokens) > pool.free:
                continue
            naive.follow(tree)
            gates = data.draw(GATES)
            cells = sequence(pool, tree, tokens, match=data.draw(st.booleans()), gates=gates)
            for at, cell in enumerate(cells.cells.tolist(), 1):
                naive.cells.setdefault((gates, *tokens[:at]), cell)
            before = tree.cells_held
            evicted_from = set(tree.held_cells().tolist())
            new = tree.insert(cells)
            left = len(evicted_from - set(tree.held_cells().tolist()))
            assert tree.cells_held == before + new - left
            lists.append(cells)
        elif action == "match":
            tokens, gates = data.draw(TOKENS), data.draw(GATES)
            count, found = tree.match(ids(tokens), gates)
            assert found.tolist() == naive.match(tokens, gates)
            assert count == len(found)
        elif action == "evict":
            wanted = data.draw(st.integers(0, 20))
            others = {cell for cells in lists for cell in cells.cells.tolist()}
            naive.follow(tree)
            live = [prefix for prefix, cell in naive.cells.items() if cell in others]
            could = sum(all(other[: len(prefix)] != prefix for other in live) for prefix in naive.cells)
            free = pool.free
            freed = tree.evict(wanted)
            assert freed == pool.free - free == min(wanted, could)
        elif action == "close" and lists:
            lists.pop(data.draw(st.integers(0, len(lists) - 1))).close()
        elif action == "compact" and pool.used:
            pool.resize(64)
            before = {key: pool.cells.arrays[0][0, 0, 0, cell].copy() for key, cell in naive.cells.items()}
            pool.compact()
            naive.cells = {
                key: int(found[-1]) if len(found) == len(key) - 1 else -1
                for key in before
                for _, found in [tree.match(ids(key[1:]), key[0])]
            }
        elif action == "clear":
            tree.clear()
        naive.follow(tree)
        assert tree.cells_held == len(naive.cells) <= budget
        assert tree.nbytes == tree.cells_held * pool.bytes_per_cell
        pool.check([*lists, tree])
    for cells in lists:
        cells.close()
    tree.evict(100)
    assert pool.used == tree.cells_held == 0


def test_a_match_shares_the_cells_of_the_longest_prefix(build):
    pool, tree = build()
    first = sequence(pool, tree, [1, 2, 3, 4])
    tree.insert(first)
    first.close()
    assert pool.used == 4
    assert tree.match(ids([1, 2, 3, 9]))[1].tolist() == [0, 1, 2]
    assert tree.match(ids([9]))[0] == 0
    assert tree.match(ids([]))[0] == 0
    second = sequence(pool, tree, [1, 2, 8])
    assert pool.used == 5
    assert second.cells.tolist() == [0, 1, 4]
    assert tree.insert(second) == 1
    assert tree.match(ids([1, 2, 8, 8]))[1].tolist() == [0, 1, 4]
    assert tree.match(ids([1, 2, 3, 4]))[1].tolist() == [0, 1, 2, 3]


def test_what_was_used_longest_ago_goes_first_from_its_end(build):
    pool, tree = build()
    for tokens in ([1, 2, 3], [5, 6, 7], [1, 2, 9]):
        cells = sequence(pool, tree, tokens)
        tree.insert(cells)
        cells.close()
    tree.match(ids([5]))
    assert tree.evict(1) == 1
    assert [tree.match(ids(t))[0] for t in ([1, 2, 3], [1, 2, 9], [5, 6, 7])] == [2, 3, 3]
    assert tree.evict(100) == 6
    assert pool.used == 0


def test_cells_that_a_sequence_holds_are_not_given_up(build):
    pool, tree = build(budget=4)
    live = sequence(pool, tree, [1, 2])
    tree.insert(live)
    other = sequence(pool, tree, [3, 4, 5, 6])
    assert tree.insert(other) == 2  # the budget has room for no more
    other.close()
    assert tree.evict(10) == 2
    assert tree.match(ids([1, 2]))[0] == 2
    live.close()
    assert tree.evict(1) == 1
    assert tree.match(ids([1, 2]))[0] == 1


def test_the_budget_makes_room_for_the_newest_even_on_its_own_branch(build):
    pool, tree = build(budget=5)
    old = sequence(pool, tree, [1, 2, 3, 4, 5])
    tree.insert(old)
    old.close()
    new = sequence(pool, tree, [1, 2, 7, 8, 9])
    assert tree.insert(new) == 3
    new.close()
    assert tree.match(ids([1, 2, 7, 8, 9]))[0] == 5
    assert tree.match(ids([1, 2, 3]))[0] == 2
    pool.check([tree])


def test_a_sequence_without_its_first_cells_is_left_out(build):
    pool, tree = build()
    cells = CellList(pool, reach=2)
    grow(cells, [1, 2, 3, 4])
    pool.begin()
    cells.release_unreachable()
    pool.end()
    assert tree.insert(cells) == 0
    assert tree.insert(CellList(pool)) == 0
    assert tree.cells_held == 0
