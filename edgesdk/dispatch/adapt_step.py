"""Runs a step of one size on a backend that may have other sizes.

A step is a pure function, so it may be run in any larger size: more tokens that nobody sees, more cells
that nobody sees, and again for rows beyond R. What comes out is the same.
"""

from __future__ import annotations

import numpy as np

from edgesdk.backends.aligned_array import aligned_bytes, aligned_floats, aligned_halves
from edgesdk.backends.protocol import MASKED, Cells, Float, Int8Cells, StepBackend, StepBuffers
from edgesdk.bundle.manifest import StepShape
from edgesdk.errors import DeviceError


class StepAdapter:
    """Offers the sizes of one backend on another."""

    def __init__(self, backend: StepBackend, offered: tuple[StepShape, ...]) -> None:
        """Finds a size of `backend` for each that is to be offered.

        Raises:
            DeviceError: there is none for some.
        """
        self._backend = backend
        self._homes: dict[StepShape, StepShape] = {}
        for shape in offered:
            fitting = [s for s in backend.shapes if s.tokens >= shape.tokens and s.cells >= shape.cells]
            if not fitting:
                raise DeviceError(f"it has no step for {shape.tokens} tokens over {shape.cells} cells")
            # The same cells first: else they are copied for every step.
            self._homes[shape] = min(
                fitting, key=lambda s: (s.cells, s.tokens, -min(s.rows, shape.rows), s.rows)
            )
        self._cells: dict[int, Cells] = {}

    def run(self, shape: StepShape, given: StepBuffers, cells: Cells) -> None:
        """Runs one step.

        Args:
            shape: one of those offered.
            given: its arrays, inputs filled; outputs are written here.
            cells: for `shape.cells`.

        Raises:
            DeviceError: the backend failed.
        """
        home = self._homes[shape]
        arrays = self._backend.buffers(home)
        T, S, R = shape.tokens, shape.cells, shape.rows
        arrays.tokens[:T], arrays.tokens[T:] = given.tokens, 0
        arrays.positions[:T], arrays.positions[T:] = given.positions, 0
        _spread_mask(given.mask, arrays.mask, T, S, home)
        if arrays.window_mask is not None and given.window_mask is not None:
            _spread_mask(given.window_mask, arrays.window_mask, T, S, home)
        wide = cells if home.cells == S else self._widen(cells, S, home.cells)
        for begin in range(0, R, home.rows):
            count = min(home.rows, R - begin)
            arrays.rows[:count], arrays.rows[count:] = given.rows[begin : begin + count], 0
            self._backend.run(home, wide)
            given.logits[begin : begin + count] = arrays.logits[:count]
        given.kv_new[...] = arrays.kv_new[:, :, :, :T]

    def _widen(self, cells: Cells, used: int, size: int) -> Cells:
        """The cells in an array for more; kept, because a backend may bind its address."""
        wide = self._cells.get(size)
        if wide is None:
            if isinstance(cells, Int8Cells):
                L, pair, K, _, D = cells.values.shape
                wide = Int8Cells(aligned_bytes(L, pair, K, size, D), aligned_floats(L, pair, K, size))
            else:
                L, pair, K, _, D = cells.shape
                new = aligned_halves if cells.dtype == np.float16 else aligned_floats
                wide = new(L, pair, K, size, D)
            self._cells[size] = wide
        if isinstance(cells, Int8Cells) and isinstance(wide, Int8Cells):
            wide.values[:, :, :, :used], wide.scales[:, :, :, :used] = cells.values, cells.scales
        elif not isinstance(cells, Int8Cells) and not isinstance(wide, Int8Cells):
            wide[:, :, :, :used] = cells
        else:
            raise DeviceError("the type of the cells has changed")
        return wide


def _spread_mask(given: Float, mask: Float, T: int, S: int, home: StepShape) -> None:
    """Copies a mask into a larger one; rows without a token see themselves only."""
    if given.shape == mask.shape:
        mask[...] = given
        return
    mask[...] = MASKED
    mask[:T, :S] = given[:, :S]
    mask[:T, home.cells : home.cells + T] = given[:, S:]
    spare = np.arange(T, home.tokens)
    mask[spare, home.cells + spare] = 0
