"""Sessions between requests: who gives way to whom, and what is kept in a file."""

import numpy as np
import pytest

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.bundle.manifest import StepShape
from edgesdk.engine.branch import SessionState
from edgesdk.engine.cell_room import CellRoom
from edgesdk.engine.session_store import SessionStore
from edgesdk.errors import CapacityError, SnapshotError
from edgesdk.kv.step_runner import StepEntry, StepRunner

CONTEXT = 96
SHAPES = tuple(StepShape(T, S, 1, f"t{T}_s{S}") for T in (1, 16) for S in (48, CONTEXT))


@pytest.fixture
def runner(fake_bundle):
    decoder = fake_bundle.manifest.decoder
    return StepRunner(FakeStepBackend(decoder, SHAPES), decoder, CONTEXT)


@pytest.fixture
def store(runner, fake_bundle):
    return SessionStore(runner, fake_bundle.manifest.decoder, CellRoom(runner, 1 << 20), "key")


@pytest.fixture
def session(runner, store):
    """Makes sessions of so many tokens, all of which have run: `session(count, used)`."""

    def make(count, used=0):
        cells = runner.new_list()
        tokens = np.arange(2, 2 + count, dtype=np.int32)
        for start in range(0, count, 16):
            runner.run([StepEntry(cells, tokens[start : start + 16], "none")])
        return store.add(SessionState(tokens, cells, used=used))

    return make


def test_the_least_recently_used_gives_way_first(runner, store, session):
    old, new, busy = session(20, used=1), session(20, used=5), session(20, used=0)
    lent, busy.cells = busy.cells, None  # its request runs
    assert store.make_room(CONTEXT - 60)
    assert (old.cells, new.cells) != (None, None)
    assert store.make_room(CONTEXT - 50)
    assert old.cells is None
    assert new.cells is not None
    assert store.cells == [new.cells]
    assert not store.make_room(CONTEXT)  # what a request runs on is nobody's to take
    assert (runner.pool.used, new.cells) == (20, None)
    lent.close()
    assert store.make_room(CONTEXT)


def test_what_was_closed_is_remembered_until_room_is_needed(runner, store, session):
    state = session(30)
    store.close(state)
    assert (state.cells, store.cells, runner.pool.used) == (None, [], 30)
    assert store.make_room(CONTEXT)
    assert runner.pool.used == 0


def test_a_file_is_read_into_the_room_that_idle_sessions_leave(runner, store, session, tmp_path):
    state = session(40)
    store.save(state, tmp_path / "state")
    other = session(50)
    loaded = store.load(tmp_path / "state")
    assert loaded.tokens.tolist() == state.tokens.tolist()
    assert loaded.cells.length == 40
    assert (state.cells, other.cells) != (None, None) or runner.pool.used == 40
    store.rewind(loaded, 5)
    assert (loaded.tokens.tolist(), loaded.cells.length) == ([2, 3, 4, 5, 6], 5)
    with pytest.raises(SnapshotError):
        SessionStore(runner, store._spec, store._room, "another").load(tmp_path / "state")


def test_cells_that_others_took_are_not_saved(store, session, tmp_path):
    state = session(30)
    assert store.make_room(CONTEXT)
    with pytest.raises(CapacityError, match="were taken by others just now; save it again"):
        store.save(state, tmp_path / "state")
    assert list(tmp_path.iterdir()) == []
