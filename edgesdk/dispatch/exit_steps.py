"""Runs a decoder in segments: a runner for each, the head where somebody looks, fills for those not run.

Each segment has the cells of its own layers, and all hold the same tokens at every moment between two calls.
Segments in a row are the whole decoder to the last bit. Whether to leave is asked elsewhere (`exit_rule`).

Letters: T, n tokens, E hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from edgesdk.backends.protocol import NO_CELLS, Float, Int, StepBackend, StepBuffers
from edgesdk.backends.turns import turns_of
from edgesdk.bundle.decoder_block import Attention
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.exit_record import EXIT_HEAD, LABEL_COLUMNS, LABEL_HEAD, LABELS, STREAM, ExitStacks
from edgesdk.bundle.step_shape import StepShape
from edgesdk.errors import DeviceError
from edgesdk.kv.cell_list import CellList
from edgesdk.kv.step_entry import Wanted
from edgesdk.kv.step_runner import StepEntry, StepRunner

Lists = tuple[CellList, ...]
"""One sequence: its cells in each segment."""


@dataclass(frozen=True)
class ExitCost:
    """Multiplications of a decoder for one token, cells apart.

    Attributes:
        blocks: of each block.
        head: of the head for one row.
        fills: of each block's keys and values alone, as a fill makes them.
        label_head: of the head over labels for one row, up to `LABEL_COLUMNS` of them.
    """

    blocks: tuple[int, ...]
    head: int
    fills: tuple[int, ...]
    label_head: int

    def of(self, blocks: int) -> int:
        """Of the first so many blocks."""
        return sum(self.blocks[:blocks])

    def look(self, labels: int | None) -> int:
        """Of one row of logits: of all tokens for None, else of so many labels."""
        return self.head if labels is None else self.label_head * -(-labels // LABEL_COLUMNS)


def exit_cost(spec: DecoderSpec) -> ExitCost:
    """What a decoder's products cost for one token."""
    E = spec.hidden_size
    blocks, fills = [], []
    for block in spec.blocks:
        attention = products = 0
        if isinstance(block.mixer, Attention):
            m = block.mixer
            products = E * (m.heads + 2 * m.kv_heads) * m.head_size  # q comes with k and v
            attention = products + E * m.heads * m.head_size
        ffn = 0 if block.feed_forward is None else 3 * E * block.feed_forward.size
        blocks.append(attention + ffn)
        fills.append(products)
    return ExitCost(tuple(blocks), E * spec.logits_size, tuple(fills), E * LABEL_COLUMNS)


class ExitSteps:
    """Sequences over the segments of one file, with a pool of cells for each."""

    def __init__(
        self,
        backend: StepBackend,
        spec: DecoderSpec,
        stacks: ExitStacks,
        context: int,
    ) -> None:
        """Starts without sequences.

        Args:
            backend: runs the steps.
            spec: the whole decoder.
            stacks: its segments.
            context: most tokens of a sequence.

        Raises:
            DeviceError: the backend's sizes cannot hold as many.
        """
        self.backend = backend
        self.stacks = stacks
        self.context = context
        self.hidden_size = spec.hidden_size
        """E."""
        self.cost = exit_cost(spec)
        self._vocabulary = spec.logits_size
        self.runners = tuple(
            StepRunner(
                backend,
                replace(spec, blocks=spec.blocks[segment.first : segment.last]),
                context,
                free_windows=False,
                stack=segment.name,
            )
            for segment in stacks.segments
        )
        """One for each segment."""
        self._turns = turns_of(backend)
        sizes = [shape for shape in backend.shapes if shape.stack == EXIT_HEAD]
        self._heads = sorted(sizes, key=lambda shape: shape.tokens)
        sizes = [shape for shape in backend.shapes if shape.stack == LABEL_HEAD]
        self._label_heads = sorted(sizes, key=lambda shape: shape.tokens)
        self._fills = {
            shape.stack: shape for shape in backend.shapes if shape.stack in {f.name for f in stacks.fills}
        }

    def new_lists(self) -> Lists:
        """An empty sequence; close its lists to give their cells back."""
        return tuple(runner.new_list() for runner in self.runners)

    def logits(self, streams: Float) -> Float:
        """What the head says of some rows.

        Args:
            streams: (n, E) after any block, n at least 1.

        Returns:
            (n, V) float32, a copy.

        Raises:
            DeviceError: the backend failed.
        """
        found = []
        most = self._heads[-1].tokens
        for first in range(0, len(streams), most):
            found.append(self._turns.take(self._head, streams[first : first + most]))
        return np.concatenate(found) if len(found) > 1 else found[0]

    def _head(self, streams: Float) -> Float:
        shape = next(s for s in self._heads if s.tokens >= len(streams))
        buffers = self.backend.buffers(shape)
        _fill_streams(buffers, streams)
        self.backend.run(shape, NO_CELLS)
        return buffers.logits[: len(streams)].copy()

    def label_logits(self, streams: Float, labels: Int) -> Float:
        """What the head over labels says of some rows: the head's logits of these tokens, nothing else.

        Args:
            streams: (n, E) after any block, n at least 1.
            labels: (k,) int32 tokens, k at least 1; the stacks have that head.

        Returns:
            (n, k) float32.

        Raises:
            DeviceError: a label is no token that the model writes, or the backend failed.
        """
        strange = labels[(labels < 0) | (labels >= self._vocabulary)]
        if len(strange):
            raise DeviceError(
                f"a label begins with token {strange[0]}, the model writes {self._vocabulary}; convert the "
                "bundle again"
            )
        found = np.empty((len(streams), len(labels)), np.float32)
        largest = self._label_heads[-1]
        rows, columns = largest.tokens, largest.rows
        for y in range(0, len(streams), rows):
            for x in range(0, len(labels), columns):
                part = np.s_[y : y + rows, x : x + columns]
                found[part] = self._turns.take(self._label_head, streams[part[0]], labels[part[1]])
        return found

    def _label_head(self, streams: Float, labels: Int) -> Float:
        # By both: a manifest may list sizes whose rows do not grow with their tokens.
        shape = next(s for s in self._label_heads if s.tokens >= len(streams) and s.rows >= len(labels))
        buffers = self.backend.buffers(shape)
        wanted = buffers.port(LABELS)
        wanted[: len(labels)] = labels
        wanted[len(labels) :] = labels[0]
        _fill_streams(buffers, streams)
        self.backend.run(shape, NO_CELLS)
        return buffers.logits[: len(streams), : len(labels)].copy()

    def run_through(
        self, lists: Lists, tokens: Int, leave: Callable[[int, Float, list[Float | None]], bool] | None = None
    ) -> tuple[Float, int]:
        """Runs tokens of one sequence, all segments or as many as are needed.

        Args:
            lists: the sequence.
            tokens: (n,) int32, as many as a step holds; one where it may leave.
            leave: asked after each segment but the last, with its number, the stream of the last token and
                its `CHANGES`; None for all segments.

        Returns:
            (E,) the stream of the last token where it left, and how many segments have run. The keys and
            values of the others are filled up from that stream, so every segment holds the tokens.

        Raises:
            CapacityError: they do not fit; nothing has changed.
            DeviceError: the backend failed; nothing has changed.
        """
        before = lists[0].length
        stream: Float | None = None
        try:
            for place, runner in enumerate(self.runners):
                last = place + 1 == len(self.runners)
                wanted: Wanted = "last" if leave is not None and not last else "none"
                runner.run([StepEntry(lists[place], tokens, wanted, stream=stream)])
                stream = runner.streams[0]
                if leave is not None and not last:
                    changes = [rows[0] for rows in runner.changes]
                    if leave(place, stream[-1], changes):
                        self._fill(lists, tokens, stream, place + 1)
                        return stream[-1], place + 1
        except BaseException:
            for each in lists:
                if each.length > before:
                    each.truncate(before)
            raise
        assert stream is not None  # there are two segments or more
        return stream[-1], len(self.runners)

    def _fill(self, lists: Lists, tokens: Int, stream: Float, place: int) -> None:
        """Gives segments from one on the keys and values that they make of an exit's stream."""
        start = lists[0].length - len(tokens)
        for index in range(place, len(self.runners)):
            shape = self._fills[self.stacks.fills[index - 1].name]
            for i in range(len(tokens)):
                self._turns.take(
                    self._fill_one, index, shape, lists[index], tokens[i : i + 1], start + i, stream[i]
                )

    def _fill_one(
        self, index: int, shape: StepShape, cells: CellList, token: Int, position: int, stream: Float
    ) -> None:
        buffers = self.backend.buffers(shape)
        buffers.positions[:] = position
        buffers.port(STREAM)[0] = stream
        self.backend.run(shape, NO_CELLS)
        self.runners[index].store(cells, token, buffers.kv_new)

    def close(self) -> None:
        """Gives the memory of the cells back; sequences must be closed. The backend stays open."""
        for runner in self.runners:
            runner.close()


def _fill_streams(buffers: StepBuffers, streams: Float) -> None:
    """Gives a head rows, and zeros for those of its size that nobody asks for."""
    given = buffers.port(STREAM)
    given[: len(streams)] = streams
    given[len(streams) :] = 0
