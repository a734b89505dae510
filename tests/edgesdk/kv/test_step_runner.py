"""Together, in pieces, forked or interrupted: exactly the logits of each sequence alone."""

import functools
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgesdk.backends.not_finite import NotFiniteError
from edgesdk.bundle.manifest import StepShape
from edgesdk.errors import CapacityError, DeviceError
from edgesdk.kv.step_runner import DraftTree, StepEntry, StepRunner

RELAXED = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
WINDOWS = st.sampled_from([None, 1, 3, 9])


def ids(*values):
    return np.array(values, np.int32)


def check_entry(backend, history, entry, found):
    """What a step gave for an entry, against the sequence computed token by token."""
    whole = [*history, *entry.tokens.tolist()]
    if entry.logits == "none":
        assert found is None
        return
    expected = backend.expected_logits(whole)
    if entry.logits == "last":
        assert np.array_equal(found, expected[-1])
    else:
        assert np.array_equal(found, expected[len(history) :])


@RELAXED
@given(data=st.data(), window=WINDOWS, all_layers=st.booleans())
def test_any_history_of_many_sequences_is_that_of_each_alone(build_runner, data, window, all_layers):
    backend, runner = build_runner(window, all_layers=all_layers)
    lists, contents = [runner.new_list()], [[]]
    for _ in range(data.draw(st.integers(1, 12))):
        at = data.draw(st.integers(0, len(lists) - 1))
        action = data.draw(st.sampled_from(["run", "run", "run", "new", "fork", "truncate", "close"]))
        if action == "new":
            lists.append(runner.new_list())
            contents.append([])
        elif action == "fork":
            lists.append(lists[at].fork())
            contents.append(list(contents[at]))
        elif action == "close" and len(lists) > 1:
            lists.pop(at).close()
            contents.pop(at)
        elif action == "truncate":
            length = data.draw(st.integers(0, lists[at].length))
            try:
                lists[at].truncate(length)
                del contents[at][length:]
            except CapacityError:
                assert lists[at].first > 0
        elif action == "run":
            chosen = data.draw(st.lists(st.integers(0, len(lists) - 1), min_size=1, max_size=4, unique=True))
            entries = []
            room = min(16, runner.pool.free)
            for index in chosen:
                count = min(room, data.draw(st.integers(1, 6)), 64 - lists[index].length)
                if count:
                    new = ids(*data.draw(st.lists(st.integers(0, 49), min_size=count, max_size=count)))
                    wanted = data.draw(st.sampled_from(["none", "last", "all"]))
                    entries.append((index, StepEntry(lists[index], new, wanted)))
                    room -= count
            if not entries:
                continue
            found = runner.run([entry for _, entry in entries])
            for (index, entry), logits in zip(entries, found, strict=True):
                check_entry(backend, contents[index], entry, logits)
                contents[index] += entry.tokens.tolist()
        for each, content in zip(lists, contents, strict=True):
            assert each.tokens.tolist() == content
        runner.pool.check(lists)


def test_one_run_serves_all_entries(build_runner):
    backend, runner = build_runner()
    lists = [runner.new_list() for _ in range(4)]
    runner.run([StepEntry(cells, ids(i, i + 1, i + 2), "none") for i, cells in enumerate(lists)])
    assert [(s.tokens, s.rows) for s in backend.runs] == [(16, 1)]
    backend.runs.clear()
    found = runner.run([StepEntry(cells, ids(9)) for cells in lists])
    assert [(s.tokens, s.rows) for s in backend.runs] == [(4, 4)]
    for i, logits in enumerate(found):
        assert np.array_equal(logits, backend.expected_logits([i, i + 1, i + 2, 9])[-1])


def test_rows_beyond_those_of_the_size_are_run_again(build_runner):
    backend, runner = build_runner(shapes=[StepShape(8, 64, 3, "x")])
    one, other = runner.new_list(), runner.new_list()
    found = runner.run([StepEntry(one, ids(1, 2, 3, 4), "all"), StepEntry(other, ids(5, 6), "all")])
    assert len(backend.runs) == 2
    assert np.array_equal(found[0], backend.expected_logits([1, 2, 3, 4]))
    assert np.array_equal(found[1], backend.expected_logits([5, 6]))
    assert (runner.most_rows(2), runner.token_budgets) == (3, (8,))
    runner.pool.check([one, other])


def test_what_does_not_fit_changes_nothing(build_runner):
    backend, runner = build_runner(context=20, capacity=24)
    one, other = runner.new_list(), runner.new_list()
    runner.run([StepEntry(one, np.arange(12, dtype=np.int32))])
    runner.run([StepEntry(other, np.arange(7, dtype=np.int32))])
    runs = len(backend.runs)
    with pytest.raises(CapacityError, match="9 tokens after 12 do not fit the context of 20"):
        runner.run([StepEntry(one, np.arange(9, dtype=np.int32))])
    with pytest.raises(CapacityError, match="6 cells are needed, 5 of 24 are free"):
        runner.run([StepEntry(one, ids(1, 2, 3)), StepEntry(other, ids(1, 2, 3))])
    runner.run([StepEntry(other, np.arange(5, dtype=np.int32))])
    with pytest.raises(CapacityError, match="1 cells are needed, 0 of 24 are free"):
        runner.run([StepEntry(other, ids(1))])
    assert len(backend.runs) == runs + 1
    one.truncate(0)
    other.truncate(3)
    with pytest.raises(CapacityError, match=r"a step of 17 tokens .* \(16 tokens\)"):
        runner.run([StepEntry(one, np.zeros(17, np.int32))])
    assert (one.length, other.length) == (0, 3)
    runner.pool.check([one, other])


def test_what_cannot_be_run_is_refused(build_runner):
    _, runner = build_runner()
    cells = runner.new_list()
    _, stranger = build_runner()
    closed = runner.new_list()
    closed.close()
    for entries in (
        [],
        [StepEntry(cells, ids())],
        [StepEntry(cells, ids(1)), StepEntry(cells, ids(2))],
        [StepEntry(stranger.new_list(), ids(1))],
        [StepEntry(closed, ids(1))],
        [StepEntry(cells, ids(3), "last", DraftTree(ids(1, 2), ids(-1)))],
        [StepEntry(cells, ids(3), "last", DraftTree(ids(1, 2), ids(-1, 1)))],
        [StepEntry(cells, ids(3), "last", DraftTree(ids(1, 2), ids(-2, 0)))],
        [StepEntry(cells, ids(3), "last", DraftTree(ids(), ids()))],
        [StepEntry(cells, ids(3), "none", DraftTree(ids(1), ids(-1)))],
    ):
        with pytest.raises(ValueError):  # noqa: PT011 - the messages differ
            runner.run(entries)
    assert cells.length == runner.pool.used == 0


def test_a_missing_window_mask_is_noticed(build_runner, monkeypatch):
    import dataclasses

    backend, runner = build_runner(window=3)
    made = backend.buffers
    monkeypatch.setattr(backend, "buffers", lambda shape: dataclasses.replace(made(shape), window_mask=None))
    with pytest.raises(DeviceError, match="window of 3 tokens"):
        runner.run([StepEntry(runner.new_list(), ids(1))])


def tree_logits(backend, history, tokens, parents):
    """Logits after the history and after each draft, each computed as a sequence of its own."""
    paths = [history]
    for token, parent in zip(tokens, parents, strict=True):
        paths.append([*paths[parent + 1], token])
    return np.array([backend.expected_logits(path)[-1] for path in paths])


@RELAXED
@given(data=st.data(), window=WINDOWS, all_layers=st.booleans(), in_turn=st.booleans())
def test_drafts_in_a_tree_see_their_ancestors_only(build_runner, data, window, all_layers, in_turn):
    backend, runner = build_runner(window, all_layers=all_layers)
    cells, other = runner.new_list(), runner.new_list()
    history = []

    def judge():
        tokens = data.draw(st.lists(st.integers(0, 49), min_size=1, max_size=4))
        count = data.draw(st.integers(1, 8))
        drafted = data.draw(st.lists(st.integers(0, 49), min_size=count, max_size=count))
        chain = data.draw(st.booleans())
        parents = [row - 1 if chain else data.draw(st.integers(-1, row - 1)) for row in range(count)]
        tree = DraftTree(ids(*drafted), ids(*parents))
        wanted = data.draw(st.sampled_from(["last", "all"]))
        entry = StepEntry(cells, ids(*tokens), wanted, tree)
        plain = StepEntry(other, ids(*data.draw(st.lists(st.integers(0, 49), min_size=1, max_size=3))))
        before = other.tokens.tolist()
        order = data.draw(st.permutations([entry, plain]))
        found = dict(zip(map(id, order), runner.run(order), strict=True))
        history.extend(tokens)
        rows = found[id(entry)]
        assert np.array_equal(rows[-1 - count :], tree_logits(backend, history, drafted, parents))
        if wanted == "all":
            expected = backend.expected_logits(history)[-len(tokens) :]
            assert np.array_equal(rows[: len(tokens)], expected)
        assert len(rows) == count + (len(tokens) if wanted == "all" else 1)
        check_entry(backend, before, plain, found[id(plain)])
        assert cells.tokens.tolist() == history
        runner.pool.check([cells, other])
        path = []
        row = data.draw(st.integers(-1, count - 1))
        while row >= 0:
            path.insert(0, row)
            row = parents[row]
        runner.keep(cells, ids(*path))
        history.extend(drafted[row] for row in path)
        assert cells.tokens.tolist() == history
        runner.pool.check([cells, other])

    for _ in range(3):
        runner.take_turn(judge) if in_turn else judge()
    assert np.array_equal(
        runner.run([StepEntry(cells, ids(3))])[0], backend.expected_logits([*history, 3])[-1]
    )


def test_only_paths_of_the_last_drafts_can_be_kept(build_runner):
    _, runner = build_runner()
    cells = runner.new_list()
    drafts = StepEntry(cells, ids(9), "last", DraftTree(ids(1, 2, 3), ids(-1, 0, 0)))
    with pytest.raises(ValueError, match="no drafts"):
        runner.keep(cells, ids(0))
    runner.run([drafts])
    for rows in (ids(1), ids(0, 1, 2), ids(0, 3), ids(-1)):
        with pytest.raises(ValueError, match="no path"):
            runner.keep(cells, rows)
    runner.keep(cells, ids(0, 2))
    assert cells.tokens.tolist() == [9, 1, 3]
    with pytest.raises(ValueError, match="no drafts"):
        runner.keep(cells, ids(0))
    runner.run([drafts])
    runner.run([StepEntry(runner.new_list(), ids(1))])
    with pytest.raises(ValueError, match="no drafts"):
        runner.keep(cells, ids(0))
    runner.take_turn(runner.run, [drafts])
    with pytest.raises(ValueError, match="no drafts"):  # another may have run something since
        runner.keep(cells, ids(0))


def test_drafts_take_no_cells_and_their_root_has_one_in_a_full_pool(build_runner):
    backend, runner = build_runner(capacity=24)
    cells, other = runner.new_list(), runner.new_list()
    tokens = list(range(24))
    runner.run([StepEntry(other, ids(*tokens[:12]))])
    runner.run([StepEntry(cells, ids(*tokens[:11]))])
    tree = DraftTree(ids(12, 13, 14), ids(-1, 0, -1))
    (rows,) = runner.run([StepEntry(cells, ids(11), "last", tree)])
    assert np.array_equal(rows, tree_logits(backend, tokens[:12], [12, 13, 14], [-1, 0, -1]))
    assert (cells.length, runner.pool.free) == (12, 0)
    with pytest.raises(CapacityError, match="1 cells are needed, 0 of 24 are free"):
        runner.keep(cells, [0])
    assert cells.length == 12
    with pytest.raises(CapacityError, match="1 cells are needed"):
        runner.run([StepEntry(cells, ids(12), "last", tree)])
    other.truncate(0)
    runner.run([StepEntry(cells, ids(12), "last", DraftTree(ids(13), ids(-1)))])
    runner.keep(cells, [0])
    runner.pool.check([cells, other])
    assert np.array_equal(runner.run([StepEntry(cells, ids(14))])[0], backend.expected_logits(range(15))[-1])


def test_a_path_of_drafts_must_fit_the_context_their_number_need_not(build_runner):
    _, runner = build_runner(context=20)
    cells = runner.new_list()
    runner.run([StepEntry(cells, np.arange(16, dtype=np.int32))])
    wide = DraftTree(ids(1, 2, 3, 4, 5), ids(-1, 0, 1, -1, -1))
    (rows,) = runner.run([StepEntry(cells, ids(9), "last", wide)])
    assert len(rows) == 6
    with pytest.raises(CapacityError, match="4 tokens after 17 do not fit the context of 20"):
        runner.run([StepEntry(cells, ids(9), "last", wide)])


def test_as_many_drafts_as_one_run_judges(build_runner):
    _, runner = build_runner(shapes=[StepShape(T, 64, R, f"{T}{R}") for T, R in ((1, 1), (8, 8), (32, 4))])
    assert [runner.most_drafts(1, 1), runner.most_drafts(3, 1), runner.most_drafts(3, 3)] == [7, 5, 5]
    assert [runner.most_drafts(8, 8), runner.most_drafts(9, 1), runner.most_drafts(30, 1)] == [0, 3, 2]


def test_gaps_are_closed_when_a_smaller_size_would_do(build_runner):
    backend, runner = build_runner()
    first, second = runner.new_list(), runner.new_list()
    for start in range(0, 48, 16):
        runner.run([StepEntry(first, np.arange(start, start + 16, dtype=np.int32))])
    runner.run([StepEntry(second, ids(1, 2, 3))])
    first.close()
    assert (runner.pool.used, runner.pool.frontier, runner.pool.size) == (3, 51, 64)
    (logits,) = runner.run([StepEntry(second, ids(4))])
    assert (runner.pool.used, runner.pool.frontier, runner.pool.size) == (4, 4, 8)
    assert np.array_equal(logits, backend.expected_logits([1, 2, 3, 4])[-1])
    runner.pool.check([second])


def test_windows_of_every_layer_free_cells_while_a_sequence_grows(build_runner):
    backend, runner = build_runner(window=6, all_layers=True)
    cells = runner.new_list()
    tokens = np.random.default_rng(1).integers(0, 50, 64).astype(np.int32)
    expected = backend.expected_logits(tokens)
    for at in range(64):
        assert np.array_equal(runner.run([StepEntry(cells, tokens[at : at + 1])])[0], expected[at])
    assert (cells.length, cells.first, runner.pool.used) == (64, 59, 5)
    assert runner.pool.size == 8
    _, keeping = build_runner(window=6, all_layers=True, free_windows=False)
    kept = keeping.new_list()
    keeping.run([StepEntry(kept, tokens[:16])])
    assert (kept.first, keeping.pool.used) == (0, 16)
    _, mixed = build_runner(window=6)
    seen = mixed.new_list()
    mixed.run([StepEntry(seen, tokens[:16])])
    assert (seen.first, mixed.pool.used) == (0, 16)


def test_runners_that_take_turns_on_one_backend_do_not_disturb_each_other(build_runner, spec):
    backend, one = build_runner()
    other = StepRunner(backend, spec(), 64)
    left, right = one.new_list(), other.new_list()
    for at in range(12):
        found = one.run([StepEntry(left, ids(at))])[0].copy()
        assert np.array_equal(found, backend.expected_logits(range(at + 1))[-1])
        found = other.run([StepEntry(right, ids(at + 20))])[0]
        assert np.array_equal(found, backend.expected_logits(range(20, at + 21))[-1])


def test_a_failing_backend_changes_nothing(build_runner, monkeypatch):
    backend, runner = build_runner()
    lists = [runner.new_list() for _ in range(2)]
    runner.run([StepEntry(cells, ids(1, 2)) for cells in lists])
    for error in (DeviceError("x"), KeyboardInterrupt()):
        with monkeypatch.context() as patch:
            patch.setattr(backend, "run", lambda *_, error=error: (_ for _ in ()).throw(error))
            with pytest.raises(type(error)):
                runner.run([StepEntry(cells, ids(3)) for cells in lists])
        assert [cells.length for cells in lists] == [2, 2]
        runner.pool.check(lists)


class Interrupter:
    """Raises KeyboardInterrupt at the n-th line that is run in edgesdk/kv."""

    def __init__(self, at):
        self.left = at

    def __call__(self, frame, event, _):
        code = frame.f_code
        # What interrupts a finaliser is lost.
        if "edgesdk/kv" not in code.co_filename.replace("\\", "/") or code.co_name == "__del__":
            return None
        if event == "line":
            if not self.left:
                sys.settrace(None)
                raise KeyboardInterrupt
            self.left -= 1
        return self

    def during(self, act):
        """Whether `act` was interrupted."""
        before = sys.gettrace()
        sys.settrace(self)
        try:
            act()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False


WHAT = {
    "step": lambda runner, lists: runner.run([StepEntry(each, ids(30, 31)) for each in lists]),
    "single": lambda runner, lists: runner.run([StepEntry(lists[1], ids(30))]),
    "truncate": lambda runner, lists: lists[1].truncate(0),
    "fork": lambda runner, lists: lists[1].fork().close(),
    "close": lambda runner, lists: lists[1].close(),
    "keep": lambda runner, lists: runner.keep(lists[1], ids(0, 2)),
}
CONTENTS = ([], [1, 2, 3, 4, 5, 6, 7], [2, 3, 4, 5, 6, 7, 8])
AFTER = {
    "step": tuple([*content, 30, 31] for content in CONTENTS),
    "single": ([], [*CONTENTS[1], 30], CONTENTS[2]),
    "truncate": ([], [], CONTENTS[2]),
    "fork": CONTENTS,
    "close": ([], [], CONTENTS[2]),
    "keep": ([], [*CONTENTS[1], 7, 9], CONTENTS[2]),
}


@pytest.mark.parametrize(
    ("what", "all_layers"), [*((what, False) for what in WHAT), ("step", True), ("truncate", True)]
)
def test_an_interrupt_at_any_line_leaves_no_leak_and_no_half_step(build_runner, what, all_layers):
    expected = {}
    interrupted, at = True, 0
    while interrupted:
        backend, runner = build_runner(window=4, all_layers=all_layers)
        lists = [runner.new_list() for _ in range(3)]
        for first, last in ((0, 5), (5, 7)):
            runner.run([StepEntry(each, ids(*range(i + first, i + last))) for i, each in enumerate(lists)])
        lists[0].truncate(0)  # leaves gaps
        if what == "keep":
            lists[1].truncate(6)
            tree = DraftTree(ids(7, 8, 9), ids(-1, -1, 0))
            runner.run([StepEntry(lists[1], ids(7), "last", tree)])
        interrupted = Interrupter(at).during(functools.partial(WHAT[what], runner, lists))
        found = tuple(each.tokens.tolist() for each in lists)
        assert found in ((CONTENTS, AFTER[what]) if interrupted else (AFTER[what],))
        runner.pool.check(lists)
        left = [(each, content) for each, content in zip(lists, found, strict=True) if not each.closed]
        logits = runner.run([StepEntry(each, ids(40, 41)) for each, _ in left])
        for (_, content), row in zip(left, logits, strict=True):
            if tuple(content) not in expected:
                expected[tuple(content)] = backend.expected_logits([*content, 40, 41])[-1]
            assert np.array_equal(row, expected[tuple(content)])
        at += 1
    assert at > 5


def test_closing_gives_the_memory_back(build_runner):
    backend, runner = build_runner()
    cells = runner.new_list()
    runner.run([StepEntry(cells, ids(1, 2))])
    assert runner.pool.nbytes == 8 * runner.pool.bytes_per_cell
    cells.close()
    runner.close()
    assert runner.pool.nbytes == 0
    assert not backend.closed


def poisoned(backend, token, value=np.nan):
    """Has a backend give a number that is not finite among the values of a token."""
    run = backend.run

    def with_poison(shape, cells):
        run(shape, cells)
        buffers = backend.buffers(shape)
        buffers.kv_new.arrays[0][1, 1, 0, buffers.tokens == token, 2] = value

    backend.run = with_poison


def test_numbers_that_are_not_finite_name_their_sequences_and_change_nothing(build_runner):
    backend, runner = build_runner()
    good, bad, worse = (runner.new_list() for _ in range(3))
    for cells in (good, bad, worse):
        runner.run([StepEntry(cells, ids(1, 2, 3))])
    used, before = runner.pool.used, runner.pool.read(np.arange(runner.pool.frontier, dtype=np.int32))
    poisoned(backend, 49)
    entries = [StepEntry(good, ids(4, 5)), StepEntry(bad, ids(6, 49)), StepEntry(worse, ids(49))]
    with pytest.raises(NotFiniteError, match="NaN among the values of layer 1") as caught:
        runner.run(entries)
    assert caught.value.sequences == (bad, worse)
    for cells in (bad, worse):
        with pytest.raises(NotFiniteError) as caught:
            runner.run_next(cells, ids(49))
        assert caught.value.sequences == (cells,)
    assert runner.pool.used == used
    runner.pool.check([good, bad, worse])
    after = runner.pool.read(np.arange(runner.pool.frontier, dtype=np.int32))
    np.testing.assert_array_equal(after.arrays[0], before.arrays[0])
    (logits,) = runner.run([StepEntry(good, ids(4, 5))])
    assert np.array_equal(logits, backend.expected_logits([1, 2, 3, 4, 5])[-1])
    assert np.array_equal(runner.run_next(bad, ids(7)), backend.expected_logits([1, 2, 3, 7])[-1])
