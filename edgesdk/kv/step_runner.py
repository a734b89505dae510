"""Runs one step for several sequences at once.

The weights are read once per step, whatever the number of sequences in it. New keys and values are
copied into cells only after the step has succeeded, so what fails or is interrupted changes nothing. Runners
in several threads share a backend by turns, from filling its buffers until what came out is copied. It
knows nothing of text, sampling, or who should run next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar, TypeVarTuple, cast

import numpy as np

from edgesdk.backends.not_finite import NotFiniteError
from edgesdk.backends.protocol import Cells, Float, Int, StepBackend, StepBuffers
from edgesdk.backends.turns import turns_of
from edgesdk.bundle.adapter_record import Gates
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.exit_record import CHANGES, NEXT_STREAM
from edgesdk.bundle.stack_record import HIDDEN, STATES
from edgesdk.bundle.step_shape import MAIN
from edgesdk.bundle.whole_text import expect_causal
from edgesdk.kv.cell_list import CellList
from edgesdk.kv.cell_pool import CellPool
from edgesdk.kv.draft_tree import DraftTree as DraftTree  # part of this seam
from edgesdk.kv.fill_step import fill_step
from edgesdk.kv.further_inputs import FurtherInputs
from edgesdk.kv.held_drafts import HeldDrafts
from edgesdk.kv.size_picker import SizePicker
from edgesdk.kv.step_entry import StepEntry as StepEntry  # part of this seam
from edgesdk.kv.step_entry import check_entries
from edgesdk.kv.step_gates import check_gates
from edgesdk.kv.step_mask import MaskBlock
from edgesdk.kv.step_rows import Rows, rows_of_tokens, run_rows
from edgesdk.kv.step_sizes import StepSizes
from edgesdk.kv.top_rows import TopRows

MOST_DRAFTS = 64
"""Of a step: more than any drafter is right about."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class StepRunner:
    """Sequences over a `StepBackend`, with one pool of cells.

    One thread at a time uses a runner; runners on one backend may be in different threads.
    """

    def __init__(
        self,
        backend: StepBackend,
        spec: DecoderSpec,
        context: int,
        capacity: int | None = None,
        *,
        free_windows: bool = True,
        stack: str = MAIN,
    ) -> None:
        """Starts without sequences.

        Args:
            backend: runs the steps.
            spec: the model's shape.
            context: most tokens of a sequence.
            capacity: most cells in use; the largest S on offer when None.
            free_windows: free the cells that no later token sees, where every layer has a window.
            stack: of the backend's file, whose steps are run; `spec` is its shape.

        Raises:
            UnsupportedOption: the model gives states only.
            DeviceError: the backend's sizes cannot hold as many.
        """
        expect_causal(spec)
        self._backend = backend
        self._sizes = StepSizes((shape for shape in backend.shapes if shape.stack == stack), context)
        self.context = context
        """Most tokens of a sequence."""
        self.pool = CellPool(backend.contracts[stack], self._sizes, capacity)
        """The cells of all sequences."""
        self.token_budgets = self._sizes.token_budgets(self.pool.capacity)
        """Most tokens of a step: the sizes on offer, smallest first."""
        windows = [layer.window for layer in spec.layers]
        self._reach = None
        if free_windows and spec.window is not None and None not in windows:
            self._reach = max(spec.window - 1, spec.predecessors)
        self._turns = turns_of(backend)
        outputs = [port.name for port in backend.contracts[stack].outputs]
        self.gives_hidden = HIDDEN in outputs
        """Whether steps give what the head reads."""
        self.hidden: Rows = []
        """What the head read in the rows of the last step: (.., E) in place of (.., V); empty without."""
        self.gives_states = STATES in outputs
        """Whether steps give the state of every token."""
        self.states: list[Float] = []
        """Those of the last step, if it gives them: (n, E) of each entry's tokens, valid as its logits."""
        self._further_inputs = FurtherInputs(backend.contracts[stack])
        self._gives_logits = "logits" in outputs  # else it is a segment of a decoder
        self.streams: list[Float] = []
        """Of a segment: (n, E) after each entry's tokens in the last step, valid as logits are."""
        self.changes: list[Rows] = []
        """Of a segment before an exit: each of `CHANGES` in the wanted rows of the last step, by entry."""
        self._changes = [name for name in CHANGES if name in outputs]
        self._logits: Float | None = None
        self._picker = SizePicker(backend, self._sizes, self.pool, context)
        self._top = TopRows.of(backend, stack)
        self._drafts = HeldDrafts()
        self._most_drafts: dict[tuple[int, int], int] = {}

    def most_rows(self, tokens: int) -> int:
        """Most tokens whose logits a step of so many tokens gives without being run again.

        Raises:
            CapacityError: no size runs as many tokens.
        """
        return self._sizes.most_rows(tokens, self.pool.capacity)

    def most_drafts(self, tokens: int, rows: int) -> int:
        """Most drafts that a step judges beside its other tokens without being run again.

        Args:
            tokens: others that it runs.
            rows: whose logits are wanted of those.
        """
        asked = (tokens, rows)
        if asked not in self._most_drafts:
            largest = min(self.token_budgets[-1] - tokens, MOST_DRAFTS)
            counts = range(largest, 0, -1)
            fitting = (n for n in counts if self.most_rows(tokens + n) >= rows + n)
            self._most_drafts[asked] = next(fitting, 0)
        return self._most_drafts[asked]

    def piece(self, wanted: int, *, all_rows: bool = False) -> int:
        """How many of a sequence's tokens the next step runs best, as the cells are in use now.

        Args:
            wanted: tokens still to run.
            all_rows: logits of every token are wanted.
        """
        return self._sizes.piece(wanted, self.pool.frontier, all_rows=all_rows)

    def new_list(self, gates: Gates = ()) -> CellList:
        """An empty sequence; close it to give its cells back.

        Raises:
            DeviceError: steps do not have as many gates as its tokens are to be run with.
        """
        return CellList(self.pool, self._reach, check_gates(gates, self._further_inputs.gates))

    def take_turn(self, act: Callable[[*Ts], T], *given: *Ts) -> T:
        """Does something with the backend to itself, such as reading logits where they are.

        Raises:
            DeviceError: the backend is closed, or was opened before the process was forked.
        """
        return self._turns.take(act, *given)

    def run(self, entries: Sequence[StepEntry]) -> list[Float | None]:
        """Runs one step for all entries and adds their tokens to their sequences.

        Where more rows are wanted than the size has, the step is run again for the rest.

        Args:
            entries: at least one, of different sequences.

        Returns:
            For each entry (V,) float32 logits after its last token, (n, V) after each, or None; with d drafts
            (1 + d, V) after its last token and each draft, or (n + d, V). Valid until the next run, in a turn
            of the caller's until its end.

        Raises:
            CapacityError: tokens do not fit a sequence's context, the cells that are free, or a step.
                Nothing has changed, as after any other exception.
            DeviceError: the backend failed; `NotFiniteError` says whose keys or values are no finite numbers.
            ValueError: an entry has no tokens, a sequence of another runner or one that occurs twice, drafts
                without logits, or whose parents do not come before them.
        """
        if len(entries) == 1 and self._gives_logits:
            (entry,) = entries
            if len(entry.tokens) == 1 and entry.logits == "last" and entry.drafts is None:
                return [self.run_next(entry.cells, entry.tokens)]
        if self._turns.mine:
            return self._run(entries, False)
        return self._turns.take(self._run, entries, True)

    def _run(self, entries: Sequence[StepEntry], apart: bool) -> list[Float | None]:
        """One step, in a turn; `apart` copies what it gives out of the backend's arrays."""
        total, wanted, kept = check_entries(entries, self.pool, self.context)
        self._drafts.clear()
        picked = self._picker.pick(total, wanted)
        shape, buffers = picked.shape, picked.buffers
        top = self._top
        parts = None if top is None else top.run(entries, wanted, self.pool.cells, self._outputs)
        if parts is not None:
            buffers, kv_new, found = parts
        else:
            blocks = fill_step(buffers, entries, total)
            self._further_inputs.fill(buffers, entries)
            picked.mask.show(buffers, blocks)
            if picked.before is not None:
                picked.before.show(buffers, self.pool.cells, blocks)
            run = partial(self._backend.run, shape, self.pool.cells)
            kv_new, found = buffers.kv_new, run_rows(run, buffers, entries, wanted, self._outputs(buffers))
        if apart and (parts is not None or wanted <= shape.rows):
            found = [[None if rows is None else rows.copy() for rows in output] for output in found]
        results: Rows = found[0] if self._gives_logits else [None for _ in entries]
        self.hidden = found[-1] if self.gives_hidden else []
        if not self._gives_logits:
            self.changes = found
            self.streams = rows_of_tokens(cast(Float, buffers.extra[NEXT_STREAM]), entries, copy=apart)
        if self.gives_states:
            self.states = rows_of_tokens(cast(Float, buffers.extra[STATES]), entries, copy=apart)
        self._commit(kv_new, entries, total, kept)
        if kept < total:
            self._drafts.hold(kv_new, entries, copy=apart)
        return results

    def run_next(self, cells: CellList, token: Int) -> Float:
        """Like `run` for one token of one sequence, in less time.

        Args:
            cells: the sequence.
            token: (1,) int32.

        Returns:
            (V,) float32 logits after it, valid as those of `run`.
        """
        if self._turns.mine:
            return self._run_next(cells, token, False)
        return self._turns.take(self._run_next, cells, token, True)

    def _run_next(self, cells: CellList, token: Int, apart: bool) -> Float:
        """One step of one token, in a turn; `apart` copies what it gives out of the backend's arrays."""
        pool, length = self.pool, cells.length
        if cells.closed or cells.pool is not pool or length >= self.context or pool.used >= pool.capacity:
            check_entries([StepEntry(cells, token)], pool, self.context)  # says what is wrong
        self._drafts.clear()
        picked = self._picker.pick(1, 1)
        shape, buffers, mask = picked.shape, picked.buffers, picked.mask
        buffers.tokens[0] = token[0]
        buffers.positions[0] = length
        buffers.rows[:] = 0
        self._further_inputs.fill_next(buffers, cells)
        if not mask.show_next(buffers, cells):
            if shape.tokens > 1:
                buffers.tokens[1:] = 0
                buffers.positions[1:] = 0
            mask.show(buffers, (MaskBlock(cells, 1),))
        if picked.before is not None:
            picked.before.show(buffers, pool.cells, (MaskBlock(cells, 1),))
        self._backend.run(shape, pool.cells)
        logits: Float = buffers.logits[0]
        if self.gives_hidden:
            (hidden,) = self._further(buffers)
            self.hidden = [hidden[0].copy() if apart else hidden[0]]
        if self.gives_states:
            states = cast(Float, buffers.extra[STATES])[:1]
            self.states = [states.copy() if apart else states]
        if apart:
            # The array is kept: fresh memory for it would cost more in page faults than the copy.
            if self._logits is None:
                self._logits = np.empty_like(logits)
            self._logits[:] = logits
            logits = self._logits
        first = cells.first
        pool.begin()
        try:
            cells.append_next(token, pool.store_next(picked.next_kv))
            if self._reach is not None:
                cells.release_unreachable()
            pool.end()
        except BaseException as error:
            cells.restore(length, first)
            pool.begin()  # counts the cells anew
            pool.end()
            if isinstance(error, NotFiniteError):
                error.sequences = (cells,)
            raise
        return logits

    def keep(self, cells: CellList, rows: Sequence[int] | Int) -> None:
        """Adds drafts of the last step to their sequence.

        Args:
            cells: a sequence whose entry had drafts; nothing else has changed it since. Where the step was
                in a turn of the caller's, this must be in the same one, before anything else is run there.
            rows: indices into the drafts: a path from the root of the tree.

        Raises:
            ValueError: there are no such drafts, or `rows` is no path.
            CapacityError: there are not enough free cells; nothing has changed.
            NotFiniteError: keys or values of the drafts are no finite numbers; nothing has changed.
        """
        judged = self._drafts.of(cells, mine=self._turns.mine)
        judged.drafts.check_path(rows)
        if not len(rows):
            return
        self._drafts.drop(cells)
        at = np.asarray(rows, np.int32)
        self._store(judged.kv, [(cells, judged.drafts.tokens[at])], len(at), at)

    def store(self, cells: CellList, tokens: Int, kv: Cells) -> None:
        """Adds tokens whose keys and values are known already.

        Args:
            cells: a sequence.
            tokens: (n,) int32, n at least 1.
            kv: as steps give them, or cells of the pool's type as it reads them.

        Raises:
            CapacityError: they do not fit the context or the free cells; nothing has changed.
        """
        check_entries([StepEntry(cells, tokens)], self.pool, self.context)
        self._drafts.clear()
        self._store(kv, [(cells, tokens)], len(tokens), None)

    def close(self) -> None:
        """Gives the memory of the cells back; sequences must be closed. The backend stays open."""
        self._drafts.clear()
        self._picker.clear()
        self.pool.resize(0)

    def _further(self, buffers: StepBuffers) -> list[Float]:
        """Outputs of rows beside the logits that are handed out."""
        names = [HIDDEN] if self.gives_hidden else self._changes
        return [cast(Float, buffers.extra[name]) for name in names]

    def _outputs(self, buffers: StepBuffers) -> list[Float]:
        """Outputs of rows that are handed out, logits first where there are some."""
        return [*([buffers.logits] if self._gives_logits else []), *self._further(buffers)]

    def _commit(self, kv_new: Cells, entries: Sequence[StepEntry], total: int, kept: int) -> None:
        """Adds the tokens of all entries but drafts; only now do they belong to their sequences."""
        rows = None
        if kept < total:
            keeps = np.zeros(total, np.bool_)
            first = 0
            for entry in entries:
                keeps[first : first + len(entry.tokens)] = True
                first += entry.rows
            rows = np.flatnonzero(keeps).astype(np.int32)
        self._store(kv_new, [(entry.cells, entry.tokens) for entry in entries], kept, rows)

    def _store(self, kv_new: Cells, added: list[tuple[CellList, Int]], count: int, rows: Int | None) -> None:
        """Copies rows of the step into new cells; everything or, whatever happens, nothing."""
        before = [(cells, cells.length, cells.first) for cells, _ in added]
        pool = self.pool
        pool.begin()
        try:
            places = pool.allocate(count)
            try:
                pool.write(places, kv_new, rows)
            except NotFiniteError as error:
                owners = np.repeat(np.arange(len(added)), [len(tokens) for _, tokens in added])
                error.sequences = tuple(added[i][0] for i in np.unique(owners[error.columns]))
                raise
            first = 0
            for cells, tokens in added:
                cells.append(tokens, places[first : first + len(tokens)])
                first += len(tokens)
            if self._reach is not None:
                for cells, _ in added:
                    cells.release_unreachable()
            pool.end()
        except BaseException:
            for cells, length, start in before:
                cells.restore(length, start)
            pool.begin()  # counts the cells anew
            pool.end()
            raise
