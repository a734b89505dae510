"""Runs a step of one size on a backend that may have other sizes.

A step is a pure function, so it may be run in any larger size: more tokens that nobody sees, more cells
that nobody sees, and again for rows beyond R. What comes out is the same. What goes where is looked up once
for each size, by the ports of the contract.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from edgesdk.backends.cell_arrays import allocate_cells
from edgesdk.backends.protocol import MASKED, Array, Cells, StepBackend, StepBuffers
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.stack_record import MASKS
from edgesdk.errors import DeviceError


@dataclass
class _Link:
    """How one size runs in a larger one.

    Attributes:
        home: the larger one.
        fill: copies inputs that do not depend on the rows.
        rows: inputs of every row, (R, ..): those that are offered, that part of those of `home`, and these
            whole.
        results: outputs of every row, likewise: those that are offered, and that part of those of `home`.
        finish: copies outputs of every token.
    """

    home: StepShape
    fill: list[Callable[[], None]] = field(default_factory=list)
    rows: list[tuple[Array, Array, Array]] = field(default_factory=list)
    results: list[tuple[Array, Array]] = field(default_factory=list)
    finish: list[Callable[[], None]] = field(default_factory=list)


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
            fitting = [
                s
                for s in backend.shapes
                if s.stack == shape.stack and s.tokens >= shape.tokens and s.cells >= shape.cells
            ]
            if not fitting:
                raise DeviceError(f"it has no step for {shape.tokens} tokens over {shape.cells} cells")
            # The same cells first: else they are copied for every step.
            self._homes[shape] = min(
                fitting, key=lambda s: (s.cells, s.tokens, -min(s.rows, shape.rows), s.rows)
            )
        self._links: dict[StepShape, _Link] = {}
        self._wide: dict[tuple[str, int], Cells] = {}

    def run(self, shape: StepShape, given: StepBuffers, cells: Cells) -> None:
        """Runs one step.

        Args:
            shape: one of those offered.
            given: its arrays, always the same for a size, inputs filled; outputs are written here.
            cells: for `shape.cells`.

        Raises:
            DeviceError: the backend failed.
        """
        link = self._links.get(shape)
        if link is None:
            link = self._links[shape] = self._link(shape, given)
        home, R = link.home, shape.rows
        for copy in link.fill:
            copy()
        wide = cells if home.cells == shape.cells else self._widen(shape, cells, home.cells)
        for begin in range(0, R, home.rows):
            count = min(home.rows, R - begin)
            for mine, part, theirs in link.rows:
                if count < len(theirs) or part.shape != theirs.shape:
                    theirs[...] = 0
                part[:count] = mine[begin : begin + count]
            self._backend.run(home, wide)
            for mine, part in link.results:
                mine[begin : begin + count] = part[:count]
        for copy in link.finish:
            copy()

    def _link(self, shape: StepShape, given: StepBuffers) -> _Link:
        home = self._homes[shape]
        arrays, contract = self._backend.buffers(home), self._backend.contracts[shape.stack]
        link = _Link(home)
        for port in contract.inputs:
            mine, theirs = given.port(port.name), arrays.port(port.name)
            if port.dims[0] == "R":
                link.rows.append((mine, _part_of_rows(mine, theirs), theirs))
            elif port.is_mask or port.name in MASKS:
                link.fill.append(_mask_spreader(mine, theirs, shape.tokens, home.tokens))
            else:
                link.fill.append(_corner_filler(mine, theirs))
        for port in contract.outputs:
            mine, theirs = given.port(port.name), arrays.port(port.name)
            if port.dims[0] == "R":
                link.results.append((mine, _part_of_rows(mine, theirs)))
            else:
                link.finish.append(_corner_taker(mine, theirs))
        for mine, theirs in zip(given.kv_new.arrays, arrays.kv_new.arrays, strict=True):
            link.finish.append(_corner_taker(mine, theirs))
        return link

    def _widen(self, shape: StepShape, cells: Cells, size: int) -> Cells:
        """The cells in arrays for more; kept, because a backend may bind their address."""
        wide = self._wide.get((shape.stack, size))
        if wide is None:
            groups = self._backend.contracts[shape.stack].groups
            wide = self._wide[shape.stack, size] = allocate_cells(groups, size)
        if cells.cell_type != wide.cell_type:
            raise DeviceError("the type of the cells has changed")
        for mine, theirs in zip(cells.arrays, wide.arrays, strict=True):
            theirs[:, :, :, : shape.cells] = mine
        return wide


def _part_of_rows(mine: Array, theirs: Array) -> Array:
    """What an array of a larger size has for rows of a smaller one: every row, as long as those."""
    return theirs[(slice(None), *(slice(size) for size in mine.shape[1:]))]


def _corner_filler(mine: Array, theirs: Array) -> Callable[[], None]:
    """Copies an input into the first part of a larger one, with zeros beyond it."""
    corner = theirs[tuple(slice(size) for size in mine.shape)]

    def fill() -> None:
        if corner.shape != theirs.shape:
            theirs[...] = 0
        corner[...] = mine

    return fill


def _corner_taker(mine: Array, theirs: Array) -> Callable[[], None]:
    """Copies the first part of a larger output."""
    corner = theirs[tuple(slice(size) for size in mine.shape)]

    def take() -> None:
        mine[...] = corner

    return take


def _mask_spreader(mine: Array, theirs: Array, tokens: int, most: int) -> Callable[[], None]:
    """Copies a mask of so many tokens into one of more; rows without a token see themselves only."""
    T, S, cells = tokens, mine.shape[1] - tokens, theirs.shape[1] - most
    spare = np.arange(T, most)

    def spread() -> None:
        if mine.shape == theirs.shape:
            theirs[...] = mine
            return
        theirs[...] = MASKED
        theirs[:T, :S] = mine[:, :S]
        theirs[:T, cells : cells + T] = mine[:, S:]
        theirs[spare, cells + spare] = 0

    return spread
