"""One sequence over a step backend, its keys and values in the host's memory.

Tokens are run in pieces of the sizes that the backend offers, and their keys and values are copied
into cells in order, so that cell j holds position j. Forgetting tokens is forgetting a number: cells
beyond the length are masked. It knows nothing of text, sampling or other sequences.
"""

from __future__ import annotations

import numpy as np

from edgesdk.backends.protocol import Float, Int, StepBackend, StepBuffers
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.manifest import StepShape
from edgesdk.errors import CapacityError, DeviceError
from edgesdk.kv.cells import Cells
from edgesdk.kv.chunk_mask import ChunkMask, masks_of
from edgesdk.kv.step_sizes import StepSizes


class CellSequence:
    """Implements `Sequence` over a `StepBackend`.

    Several may share a backend in turn; none may be used by two threads at once, nor may two threads
    use sequences of the same backend.
    """

    def __init__(self, backend: StepBackend, spec: DecoderSpec, context: int) -> None:
        """Starts empty.

        Args:
            backend: runs the steps.
            spec: the model's shape.
            context: most tokens to hold.

        Raises:
            DeviceError: the backend's sizes cannot hold that many, or it lacks the window mask that
                such a length needs.
        """
        self._backend = backend
        self._context = context
        self._vocabulary = spec.vocab_size
        self._window = spec.window
        self._sizes = StepSizes(backend.shapes, context)
        self._cells = Cells(spec)
        self._masks = masks_of(backend)
        self._length = 0
        self._single: tuple[StepShape, StepBuffers, ChunkMask] | None = None

    @property
    def context(self) -> int:
        """Most tokens it can hold."""
        return self._context

    @property
    def length(self) -> int:
        """Tokens it holds."""
        return self._length

    @property
    def nbytes(self) -> int:
        """Bytes of its cells."""
        return self._cells.nbytes

    def extend(self, tokens: Int) -> Float:
        """Appends tokens.

        Args:
            tokens: (n,) int32, n at least 1.

        Returns:
            (V,) float32 logits after the last of them; valid until the next call.

        Raises:
            CapacityError: they do not fit; nothing has changed.
        """
        total = len(tokens)
        self._check_room(total)
        done = 0
        while True:
            shape, buffers, mask = self._prepare(total - done, all_rows=False)
            count = min(shape.tokens, total - done)
            self._fill(shape, buffers, mask, tokens[done : done + count])
            buffers.rows[:] = count - 1
            self._backend.run(shape, self._cells.array)
            self._keep(buffers, count)
            done += count
            if done == total:
                last: Float = buffers.logits[0]
                return last

    def score(self, tokens: Int) -> Float:
        """Like `extend`, but returns the logits after each of the tokens: (n, V) float32, a copy."""
        total = len(tokens)
        self._check_room(total)
        logits = np.empty((total, self._vocabulary), np.float32)
        done = 0
        while done < total:
            shape, buffers, mask = self._prepare(total - done, all_rows=True)
            count = min(shape.tokens, total - done)
            self._fill(shape, buffers, mask, tokens[done : done + count])
            # A size with fewer rows than tokens is run again for each group of rows.
            for first in range(0, count, shape.rows):
                rows = min(shape.rows, count - first)
                buffers.rows[:] = np.minimum(np.arange(first, first + shape.rows), count - 1)
                self._backend.run(shape, self._cells.array)
                logits[done + first : done + first + rows] = buffers.logits[:rows]
            self._keep(buffers, count)
            done += count
        return logits

    def truncate(self, length: int) -> None:
        """Forgets all tokens from `length` on.

        Raises:
            CapacityError: it does not hold as many.
        """
        if not 0 <= length <= self._length:
            raise CapacityError(f"cannot shorten {self._length} tokens to {length}")
        self._length = length
        self._single = None  # fewer cells may do from here on

    def close(self) -> None:
        """Releases the cells; the backend stays open."""
        self._length = 0
        self._single = None
        self._cells.resize(0, 0)

    def _check_room(self, count: int) -> None:
        if count < 1:
            raise CapacityError("a sequence is extended by at least one token, found none")
        if self._length + count > self._context:
            raise CapacityError(
                f"{count} tokens after {self._length} do not fit the context of {self._context} tokens; "
                "shorten the prompt or convert with a larger --context"
            )

    def _prepare(self, wanted: int, *, all_rows: bool) -> tuple[StepShape, StepBuffers, ChunkMask]:
        """Picks the size of the next piece and lays the cells out for it."""
        single = self._single
        # Decoding asks for the same size again and again, until the cells in use outgrow it.
        if wanted == 1 and single is not None and self._cells.size == single[0].cells >= self._length:
            return single
        shape = self._sizes.pick(wanted, self._length, self._cells.size, all_rows=all_rows)
        if shape.cells != self._cells.size:
            self._cells.resize(shape.cells, self._length)
        buffers = self._backend.buffers(shape)
        if shape not in self._masks:
            self._masks[shape] = ChunkMask(shape, self._window)
        found = shape, buffers, self._masks[shape]
        if self._window is not None and buffers.window_mask is None and self._context > self._window:
            raise DeviceError(
                f"the model has layers with a window of {self._window} tokens, but the step graph, which "
                f"holds {self._context}, has no mask for them; convert it again"
            )
        if wanted == 1 and shape.tokens == 1:
            self._single = found
        return found

    def _fill(self, shape: StepShape, buffers: StepBuffers, mask: ChunkMask, tokens: Int) -> None:
        start, count = self._length, len(tokens)
        mask.show(buffers, start)
        if shape.tokens == 1:
            buffers.tokens[0] = tokens[0]
            buffers.positions[0] = start
            return
        buffers.tokens[:count] = tokens
        buffers.tokens[count:] = 0
        buffers.positions[:count] = np.arange(start, start + count)
        buffers.positions[count:] = start

    def _keep(self, buffers: StepBuffers, count: int) -> None:
        """Copies the new keys and values into cells; only now do the tokens belong to the sequence."""
        needed = self._length + count
        if needed > self._cells.size:
            self._cells.resize(self._sizes.capacity_for(needed), self._length)
        self._cells.write(self._length, buffers.kv_new, count)
        self._length = needed
