"""Runs a step with streams in two parts: its tokens through the blocks below, all rows through those above.

Streams that begin in the middle of a model go on with the state of their token there, so their rows need
nothing of the blocks before. What comes out is what the whole decoder says of the same step; new keys and
values of both parts are put together, and those of streams below, which nobody keeps, are zeros. The cells
are the whole's: each part reads its own layers of the same arrays. It keeps no cells and picks no drafts.

Letters: T rows, n of them tokens, E hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple, cast
from weakref import WeakKeyDictionary

import numpy as np

from edgesdk.backends.protocol import Array, Cells, Float, Int, StepBackend, StepBuffers
from edgesdk.bundle.exit_record import NEXT_STREAM, STREAM
from edgesdk.bundle.step_contract import CellGroup
from edgesdk.bundle.step_shape import MAIN, StepShape
from edgesdk.bundle.stream_part import BELOW, TOP
from edgesdk.errors import DeviceError
from edgesdk.kv.draft_tree import DraftTree
from edgesdk.kv.fill_step import fill_step, place_rows
from edgesdk.kv.step_entry import StepEntry
from edgesdk.kv.step_mask import mask_of
from edgesdk.kv.step_rows import Rows, run_rows
from edgesdk.kv.stream_rows import show_streams

Sizes = tuple[StepShape, StepShape]
"""Of the part below and of the top."""


class TopStep(NamedTuple):
    """What a step in two parts gave.

    Attributes:
        buffers: of the top part; its outputs are those of the step's rows.
        kv_new: of all rows and all layers, (layers, sides, K, T, *tail) for each kind.
        found: rows of each output that was asked for, by entry.
    """

    buffers: StepBuffers
    kv_new: Cells
    found: list[Rows]


class TopRows:
    """The two parts of a backend's file, over the cells of the whole decoder."""

    def __init__(self, backend: StepBackend) -> None:
        """Finds which layers are whose.

        Args:
            backend: whose file has both parts.
        """
        self._backend = backend
        contracts = backend.contracts
        self._whole, self._window = contracts[MAIN], contracts[MAIN].window
        layers = len(contracts[BELOW].layers)
        self._places = {
            BELOW: _places(contracts[BELOW].groups, self._whole.groups, 0),
            TOP: _places(contracts[TOP].groups, self._whole.groups, layers),
        }
        self._new = {
            BELOW: _places(contracts[BELOW].new, self._whole.new, 0),
            TOP: _places(contracts[TOP].new, self._whole.new, layers),
        }
        self._sizes = {
            name: sorted(shape for shape in backend.shapes if shape.stack == name) for name in (BELOW, TOP)
        }
        # Weakly, else cells would stay in memory when the pool has given them back.
        self._views: WeakKeyDictionary[Cells, dict[str, Cells]] = WeakKeyDictionary()

    @staticmethod
    def of(backend: StepBackend, stack: str) -> TopRows | None:
        """The parts beside a stack; None where it has none."""
        return TopRows(backend) if stack == MAIN and {BELOW, TOP} <= set(backend.contracts) else None

    def _pick(self, entries: Sequence[StepEntry], wanted: int, cells: int) -> Sizes | None:
        """The sizes that run a step in two parts; None where it has no streams, or none fit."""
        streams = sum(_streams_of(entry) for entry in entries)
        if not streams:
            return None
        total = sum(entry.rows for entry in entries)
        below = self._size(BELOW, total - streams, 0, cells)
        top = self._size(TOP, total, wanted, cells)
        return None if below is None or top is None else (below, top)

    def _size(self, stack: str, tokens: int, rows: int, cells: int) -> StepShape | None:
        return next(
            (s for s in self._sizes[stack] if s.tokens >= tokens and s.rows >= rows and s.cells == cells),
            None,
        )

    def run(
        self,
        entries: Sequence[StepEntry],
        wanted: int,
        cells: Cells,
        outputs: Callable[[StepBuffers], Sequence[Float]],
    ) -> TopStep | None:
        """Runs a step, in a turn on the backend, if it has streams.

        Args:
            entries: of the step.
            wanted: rows with logits.
            cells: of the whole, laid out for them.
            outputs: those of the top part's arrays that are handed out, (R, ..) each.

        Returns:
            None where it has none, or the parts have no sizes for it: the whole decoder is to run it.
        """
        sizes = self._pick(entries, wanted, cells.count)
        if sizes is None:
            return None
        below, top = (self._backend.buffers(shape) for shape in sizes)
        views = self._views_of(cells)
        alone, tokens, sources = tokens_alone(entries)
        blocks = fill_step(below, alone, len(tokens))
        mask_of(self._backend, below, sizes[0], self._window).show(below, blocks)
        below.rows[:] = 0
        self._backend.run(sizes[0], views[BELOW])

        total = len(sources)
        stream = cast(Float, top.extra[STREAM])
        stream[:total] = cast(Float, below.extra[NEXT_STREAM])[sources]
        stream[total:] = 0  # rows that nobody sees must be numbers all the same
        blocks = place_rows(top, entries, total)
        show_streams(top, entries)
        mask_of(self._backend, top, sizes[1], self._window).show(top, blocks)
        run = partial(self._backend.run, sizes[1], views[TOP])
        found = run_rows(run, top, entries, wanted, outputs(top))
        return TopStep(top, self._join(below, top, tokens, total), found)

    def _views_of(self, cells: Cells) -> dict[str, Cells]:
        """Each part's layers; the same objects for the same cells, by which backends know them again."""
        views = self._views.get(cells)
        if views is None:
            views = {name: _part(cells, places) for name, places in self._places.items()}
            self._views[cells] = views
        return views

    def _join(self, below: StepBuffers, top: StepBuffers, tokens: Int, total: int) -> Cells:
        """New keys and values of all layers; zeros where streams have none."""
        arrays = [np.zeros(group.shape(total), group.dtype) for group in self._whole.new]
        joined = Cells(tuple(cast("list[Array]", arrays)))
        for part, new in zip(_part(joined, self._new[BELOW]).arrays, below.kv_new.arrays, strict=True):
            part[:, :, :, tokens] = new[:, :, :, : len(tokens)]
        for part, new in zip(_part(joined, self._new[TOP]).arrays, top.kv_new.arrays, strict=True):
            part[:] = new[:, :, :, :total]
        return joined


def tokens_alone(entries: Sequence[StepEntry]) -> tuple[list[StepEntry], Int, Int]:
    """A step without its streams.

    Returns:
        Its entries; the rows of the step that are tokens, (n,) int32; and for each row of the step, (T,)
        int32, which of those it goes on with: itself, or the token that a stream stands behind.

    Example:
        Two tokens, then a draft with a stream behind it and one behind the last token: rows 0, 1, 2 are
        tokens, and rows 3 and 4 go on with those numbered 2 and 1.
    """
    alone: list[StepEntry] = []
    tokens: list[int] = []
    sources: list[int] = []
    first = 0
    for entry in entries:
        drafts, count = entry.drafts, len(entry.tokens)
        before = len(tokens)
        tokens += range(first, first + count)
        sources += range(before, before + count)
        if drafts is None or drafts.streams is None:
            if drafts is not None:
                tokens += range(first + count, first + entry.rows)
                sources += range(before + count, before + entry.rows)
            alone.append(entry)
        else:
            kept: list[int] = []
            place = {-1: before + count - 1}
            pairs = zip(drafts.parents.tolist(), drafts.streams.tolist(), strict=True)
            for row, (parent, number) in enumerate(pairs):
                if number:
                    place[row] = place[parent]
                else:
                    place[row] = before + count + len(kept)
                    kept.append(row)
                    tokens.append(first + count + row)
                sources.append(place[row])
            tree = None
            if kept:
                parents = [place[parent] - before - count for parent in drafts.parents[kept].tolist()]
                tree = DraftTree(drafts.tokens[kept], np.array(parents, np.int32))
            alone.append(replace(entry, drafts=tree))
        first += entry.rows
    return alone, np.array(tokens, np.int32), np.array(sources, np.int32)


def _streams_of(entry: StepEntry) -> int:
    drafts = entry.drafts
    return 0 if drafts is None or drafts.streams is None else int(np.count_nonzero(drafts.streams))


def _places(groups: Sequence[CellGroup], whole: Sequence[CellGroup], before: int) -> list[tuple[int, slice]]:
    """For each array of a part the whole's, and which of its layers."""
    found = []
    for group in groups:
        kind = (group.heads, group.tail, group.dtype, group.sides)
        wanted = tuple(layer + before for layer in group.layers)
        for number, other in enumerate(whole):
            if (other.heads, other.tail, other.dtype, other.sides) == kind and wanted[0] in other.layers:
                at = other.layers.index(wanted[0])
                if other.layers[at : at + len(wanted)] == wanted:
                    found.append((number, slice(at, at + len(wanted))))
                    break
        else:
            raise DeviceError(
                "the parts of the model that run streams have other layers than the whole; convert it again"
            )
    return found


def _part(cells: Cells, places: Sequence[tuple[int, slice]]) -> Cells:
    return Cells(tuple([cells.arrays[number][layers] for number, layers in places]))
