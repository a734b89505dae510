"""The masks of one step size, kept up to date for consecutive pieces of one sequence at a time.

A piece of n tokens at position p sees the p cells before it and, among its own tokens, itself and
those before it. Cell j holds position j. Only the columns that differ from what the mask already
says are written: for one more token that is one column, whatever S is. The part over new tokens never
changes; rows beyond n (padding) come last, so no real token sees them.

The arrays belong to a backend, which several sequences may use in turn, so the state is kept once
per backend (`masks_of`) and not by a sequence. Whoever else writes these arrays must call `forget`.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from edgesdk.backends.protocol import MASKED, Float, StepBackend, StepBuffers
from edgesdk.bundle.manifest import StepShape


class ChunkMask:
    """Says and updates what the masks of one step size show."""

    def __init__(self, shape: StepShape, window: int | None) -> None:
        """Assumes nothing about the arrays' contents.

        Args:
            shape: T and S.
            window: of the layers that have one.
        """
        self._tokens = shape.tokens
        self._cells = shape.cells
        self._window = window
        self._shown: int | None = None

    def forget(self) -> None:
        """Has the whole mask written next time."""
        self._shown = None

    def show(self, buffers: StepBuffers, start: int) -> None:
        """Sets the masks for a piece that begins at position `start`."""
        shown = self._shown
        if shown == start:
            return
        self._shown = None  # until all is written: an interrupt must not leave a half-right mask
        if shown is None:
            self._write_new_tokens(buffers)
            buffers.mask[:, : self._cells] = MASKED
            buffers.mask[:, :start] = 0.0
        elif start > shown:
            buffers.mask[:, shown:start] = 0.0
        else:
            buffers.mask[:, start:shown] = MASKED
        if buffers.window_mask is not None and self._window is not None:
            self._show_window(buffers.window_mask, self._window, shown, start)
        self._shown = start

    def _show_window(self, mask: Float, window: int, shown: int | None, start: int) -> None:
        T = self._tokens
        if shown is not None and T == 1 and start == shown + 1:
            mask[0, shown] = 0.0
            if start >= window:
                mask[0, start - window] = MASKED
            return
        if shown is None or start < shown:
            first, last = 0, self._cells
        else:
            # Left of the old window nothing was visible, right of the new piece nothing will be.
            first, last = max(0, shown - window + 1), start
        cell = np.arange(first, last)
        position = np.arange(start, start + T)[:, None]
        visible = (cell < start) & (position - cell < window)
        mask[:, first:last] = np.where(visible, np.float32(0), MASKED)

    def _write_new_tokens(self, buffers: StepBuffers) -> None:
        row = np.arange(self._tokens)[:, None]
        column = np.arange(self._tokens)
        causal = column <= row
        buffers.mask[:, self._cells :] = np.where(causal, np.float32(0), MASKED)
        if buffers.window_mask is not None and self._window is not None:
            visible = causal & (row - column < self._window)
            buffers.window_mask[:, self._cells :] = np.where(visible, np.float32(0), MASKED)


_masks: WeakKeyDictionary[StepBackend, dict[StepShape, ChunkMask]] = WeakKeyDictionary()


def masks_of(backend: StepBackend) -> dict[StepShape, ChunkMask]:
    """The masks of a backend's sizes, shared by all sequences on it; filled by them as needed."""
    return _masks.setdefault(backend, {})
