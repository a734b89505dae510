"""A step without its streams: which rows are tokens, whom they follow, and whose state each row has."""

from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.kv.draft_tree import DraftTree
from edgesdk.kv.step_entry import StepEntry
from edgesdk.kv.top_rows import tokens_alone


def random_entry(random, serial):
    tokens = random.integers(0, 99, int(random.integers(1, 4))).astype(np.int32)
    rows = int(random.integers(0, 9))
    if not rows:
        return StepEntry(SimpleNamespace(serial=serial), tokens)
    parents, numbers = [], []
    for row in range(rows):
        parent = int(random.integers(-1, row))
        behind = numbers[parent] if parent >= 0 else 0
        parents.append(parent)
        numbers.append(behind + 1 if behind or random.random() < 0.4 else 0)
    tree = DraftTree(
        random.integers(0, 99, rows).astype(np.int32),
        np.array(parents, np.int32),
        np.array(numbers, np.int32) if random.random() < 0.8 or any(numbers) else None,
    )
    return StepEntry(SimpleNamespace(serial=serial), tokens, "last", tree)


@given(seed=st.integers(0, 1 << 30), count=st.integers(1, 4))
def test_what_is_left_are_the_tokens_with_their_own_ancestors(seed, count):
    random = np.random.default_rng(seed)
    entries = [random_entry(random, i) for i in range(count)]
    alone, tokens, sources = tokens_alone(entries)

    # Row by row: its number in the step, whether it is a stream, what comes before it, and its token.
    rows, first = [], 0
    for entry in entries:
        n = len(entry.tokens)
        for i, token in enumerate(entry.tokens.tolist()):
            rows.append((False, first + i - 1 if i else None, token))
        if entry.drafts is not None:
            numbers = entry.drafts.streams
            for i, (parent, token) in enumerate(
                zip(entry.drafts.parents.tolist(), entry.drafts.tokens.tolist(), strict=True)
            ):
                stream = numbers is not None and bool(numbers[i])
                rows.append((stream, first + n + parent, token))
        first += entry.rows
    assert tokens.tolist() == [row for row, (stream, *_) in enumerate(rows) if not stream]
    assert len(sources) == len(rows)
    for row, (stream, *_) in enumerate(rows):
        at = row
        while rows[at][0]:
            at = rows[at][1]
        assert tokens[sources[row]] == at
        assert (at == row) != stream

    place = {row: i for i, row in enumerate(tokens.tolist())}
    found, first = [], 0
    for entry, whole in zip(alone, entries, strict=True):
        assert entry.cells is whole.cells
        n = len(entry.tokens)
        found += [(first + i - 1 if i else None, token) for i, token in enumerate(entry.tokens.tolist())]
        if entry.drafts is not None:
            assert entry.drafts.streams is None or not entry.drafts.streams.any()
            pairs = zip(entry.drafts.parents.tolist(), entry.drafts.tokens.tolist(), strict=True)
            found += [(first + n + parent, token) for parent, token in pairs]
        first += entry.rows
    expected = [(None if rows[r][1] is None else place[rows[r][1]], rows[r][2]) for r in tokens.tolist()]
    assert found == expected
