"""The sessions of an engine: tokens whose cells stay between requests, while nobody else needs them.

Everything here is done between two steps, in the engine's thread.
"""

from __future__ import annotations

from pathlib import Path

from edgesdk.bundle.adapter_record import Gates
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.engine.branch import SessionState
from edgesdk.engine.cell_room import CellRoom, shorten
from edgesdk.engine.snapshot_key import gated_key
from edgesdk.errors import CapacityError
from edgesdk.kv.cell_list import CellList
from edgesdk.kv.snapshot import load_snapshot, save_snapshot
from edgesdk.kv.step_runner import StepRunner


class SessionStore:
    """Holds the sessions that are open, and finds free cells when there are too few."""

    def __init__(self, runner: StepRunner, spec: DecoderSpec, room: CellRoom, key: str) -> None:
        """Starts without sessions.

        Args:
            runner: whose cells.
            spec: shape of the model.
            room: the prefix cache, which gives way first and remembers sessions that are closed.
            key: `snapshot_key` of the model.
        """
        self._runner = runner
        self._spec = spec
        self._room = room
        self._key = key
        self._states: set[SessionState] = set()

    @property
    def cells(self) -> list[CellList]:
        """The cells that sessions hold; those of one whose request runs are lent to that."""
        return [state.cells for state in self._states if state.cells is not None]

    def add(self, state: SessionState) -> SessionState:
        """Takes a session in, and returns it."""
        self._states.add(state)
        return state

    def close(self, state: SessionState) -> None:
        """Takes a session's cells; what is at work on it has been ended."""
        self._states.discard(state)
        if state.cells is not None:
            self._room.remember(state.cells)
            _release(state)

    def rewind(self, state: SessionState, length: int) -> None:
        """Has a session forget all tokens from `length` on."""
        state.tokens = state.tokens[:length].copy()
        if state.cells is not None:
            shorten(state.cells, length)

    def save(self, state: SessionState, path: Path) -> None:
        """Writes a session to a file.

        Raises:
            CapacityError: tokens of it have no cells any more.
            SnapshotError: it is empty, has lost its beginning to a window, or cannot be written.
        """
        cells = self._runner.new_list(state.gates) if state.cells is None else state.cells
        if cells.length < len(state.tokens):
            raise CapacityError("the session's cells were taken by others just now; save it again")
        save_snapshot(path, self._runner, cells, gated_key(self._key, state.gates))

    def load(self, path: Path, gates: Gates = ()) -> SessionState:
        """Takes in a session from a file.

        Args:
            path: what `save` wrote.
            gates: that its tokens were run with.

        Raises:
            SnapshotError: it is damaged, of another version, or of another model, recipe or adapter.
            CapacityError: there are not enough free cells.
        """
        key = gated_key(self._key, gates)
        try:
            cells = load_snapshot(path, self._runner, self._spec, key, gates)
        except CapacityError:
            self.make_room(self._runner.pool.capacity)
            cells = load_snapshot(path, self._runner, self._spec, key, gates)
        return self.add(SessionState(cells.tokens.copy(), cells, gates=gates))

    def make_room(self, cells: int) -> bool:
        """Finds free cells: from the prefix cache, then from idle sessions, which are computed again.

        Returns:
            Whether there are as many now.
        """
        idle = None
        while not self._room.make_room(cells):
            if idle is None:
                # One whose request runs has lent its cells to that; one whose request waits counts as idle.
                idle = [state for state in self._states if state.cells is not None]
                idle.sort(key=lambda state: -state.used)
            if not idle:
                return False
            _release(idle.pop())
        return True


def _release(state: SessionState) -> None:
    if state.cells is not None:
        state.cells.close()
        state.cells = None
