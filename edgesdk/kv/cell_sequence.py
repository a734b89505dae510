"""One sequence over a step backend, its keys and values in the host's memory.

Tokens are run in pieces of the sizes that the backend offers. Forgetting tokens is giving their cells
back. It knows nothing of text, sampling or other sequences: it has a pool of its own.
"""

from __future__ import annotations

import numpy as np

from edgesdk.backends.protocol import Between, Float, Int, StepBackend, Walk
from edgesdk.backends.sequence_room import OTHER_ADAPTER, check_room
from edgesdk.bundle.adapter_record import Gates
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.errors import CapacityError
from edgesdk.kv.step_runner import DraftTree, StepEntry, StepRunner


class CellSequence:
    """Implements `TokenSequence` over a `StepBackend`.

    Several may share a backend, also in several threads; none may be used by two threads at once.
    """

    def __init__(self, backend: StepBackend, spec: DecoderSpec, context: int) -> None:
        """Starts empty.

        Args:
            backend: runs the steps.
            spec: the model's shape.
            context: most tokens to hold.

        Raises:
            DeviceError: the backend's sizes cannot hold that many.
        """
        self._vocabulary = spec.vocab_size
        # Any length may be gone back to, so cells that a window has left behind stay.
        self._runner = StepRunner(backend, spec, context, context, free_windows=False)
        self._cells = self._runner.new_list()
        self.hidden: Float | None = None
        """(E,) what the head read in the row whose logits choose the first token after those that it holds;
        None where the backend does not give it, or after `score` and `truncate`."""

    @property
    def context(self) -> int:
        """Most tokens it can hold."""
        return self._runner.context

    @property
    def length(self) -> int:
        """Tokens it holds."""
        return self._cells.length

    @property
    def nbytes(self) -> int:
        """Bytes of its cells."""
        return self._runner.pool.nbytes

    def use_gates(self, gates: Gates) -> None:
        """As `protocol.GatedSequence` has it.

        Raises:
            CapacityError: it holds tokens.
            DeviceError: steps do not have as many.
        """
        if gates == self._cells.gates:
            return
        if self._cells.length:
            raise CapacityError(OTHER_ADAPTER)
        cells = self._runner.new_list(gates)
        self._cells.close()
        self._cells = cells

    def extend(self, tokens: Int, between: Between | None = None) -> Float:
        """Appends tokens.

        Args:
            tokens: (n,) int32, n at least 1.
            between: as `protocol.TokenSequence` has it.

        Returns:
            (V,) float32 logits after the last of them; valid until the next call.

        Raises:
            CapacityError: they do not fit; nothing has changed.
            DeviceError: the backend failed, or lacks the window mask that such a length needs.
        """
        total = len(tokens)
        check_room(total, self.length, self.context)
        self.hidden = None
        runner, cells = self._runner, self._cells
        done = 0
        while total - done > 1:
            if done and between is not None:
                between()
            count = runner.piece(total - done)
            last = done + count == total
            piece = StepEntry(cells, tokens[done : done + count], "last" if last else "none")
            (logits,) = runner.run([piece])
            done += count
            if logits is not None:
                self.hidden = self._last_hidden()
                return logits
        if done and between is not None:
            between()
        logits = runner.run_next(cells, tokens[done:])
        self.hidden = self._last_hidden()
        return logits

    def score(self, tokens: Int) -> Float:
        """Like `extend`, but returns the logits after each of the tokens: (n, V) float32, a copy."""
        total = len(tokens)
        check_room(total, self.length, self.context)
        self.hidden = None
        logits = np.empty((total, self._vocabulary), np.float32)
        done = 0
        while done < total:
            count = self._runner.piece(total - done, all_rows=True)
            piece = tokens[done : done + count]
            self._runner.take_turn(self._score, piece, logits[done : done + count])
            done += count
        return logits

    def _score(self, piece: Int, logits: Float) -> None:
        """Runs a piece and copies its rows, once: within a turn they are read where they are."""
        logits[:] = self._runner.run([StepEntry(self._cells, piece, "all")])[0]

    def most_drafts(self, tokens: int) -> int:
        """As `protocol.JudgingSequence` has it."""
        return self._runner.most_drafts(tokens, 1)

    def judge(self, tokens: Int, drafted: Int, parents: Int, walk: Walk, streams: Int | None = None) -> None:
        """As `protocol.JudgingSequence` has it.

        Raises:
            CapacityError: they do not fit; nothing has changed.
            DeviceError: as `extend`.
            ValueError: the parents do not come before their children, or `walk` gives no path.
        """
        entry = StepEntry(self._cells, tokens, "last", DraftTree(drafted, parents, streams))
        self._runner.take_turn(self._judge, entry, walk)

    def _judge(self, entry: StepEntry, walk: Walk) -> None:
        """Runs drafts and keeps some, in a turn: rows are read, and keys and values kept, where they are."""
        self.hidden = None
        (rows,) = self._runner.run([entry])
        if rows is not None:
            path = walk(rows)
            self._runner.keep(self._cells, path)
            hidden = self._last_hidden()
            if hidden is not None:
                self.hidden = hidden[path[-1] + 1 if len(path) else 0].copy()

    def truncate(self, length: int) -> None:
        """Forgets all tokens from `length` on.

        Raises:
            CapacityError: it does not hold as many.
        """
        self.hidden = None
        self._cells.truncate(length)

    def _last_hidden(self) -> Float | None:
        """Rows beside the logits of the last step; None where the backend gives none."""
        return self._runner.hidden[0] if self._runner.hidden else None

    def close(self) -> None:
        """Releases the cells; the backend stays open."""
        self._cells.truncate(0)
        self._runner.close()
