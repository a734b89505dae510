"""Picks the size that runs a step, with its arrays and its mask, and lays the cells out for it.

What was picked for as many tokens and rows stays picked while cells are only added, so that the next token of
a sequence asks for nothing. It knows nothing of what the tokens are.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgesdk.backends.protocol import Cells, StepBackend, StepBuffers
from edgesdk.bundle.manifest import StepShape
from edgesdk.errors import DeviceError
from edgesdk.kv.cell_pool import CellPool
from edgesdk.kv.predecessors import Predecessors, predecessors_of
from edgesdk.kv.step_mask import StepMask, mask_of
from edgesdk.kv.step_sizes import StepSizes


@dataclass(frozen=True, eq=False, slots=True)
class PickedSize:
    """A size with its arrays, and the state of the cells for which it was picked.

    Attributes:
        shape: the size.
        buffers: its arrays.
        mask: says and updates what their masks show.
        next_kv: keys and values of the first new token.
        before: says and updates what convolutions read of earlier tokens; None without convolutions.
        frontier: of the pool.
        used: likewise.
    """

    shape: StepShape
    buffers: StepBuffers
    mask: StepMask
    next_kv: Cells
    before: Predecessors | None
    frontier: int
    used: int

    def holds(self, pool: CellPool) -> bool:
        """Whether it is still the choice: it is while cells are only added, until they outgrow it."""
        return pool.size == self.shape.cells >= pool.frontier >= self.frontier and pool.used >= self.used


class SizePicker:
    """The sizes of one stack of a backend, over one pool of cells."""

    def __init__(self, backend: StepBackend, sizes: StepSizes, pool: CellPool, context: int) -> None:
        """Has picked nothing.

        Args:
            backend: runs the steps.
            sizes: of the stack.
            pool: whose cells the steps read.
            context: most tokens of a sequence.
        """
        self._backend = backend
        self._sizes = sizes
        self._pool = pool
        self._context = context
        self._picked: dict[tuple[int, int], PickedSize] = {}

    def pick(self, total: int, wanted: int) -> PickedSize:
        """Picks a size and lays the cells out for it.

        Args:
            total: tokens to be run.
            wanted: rows with logits.

        Raises:
            CapacityError: no size runs as many tokens.
            DeviceError: the backend refuses the size, or it lacks the mask of a window.
        """
        pool = self._pool
        picked = self._picked.get((total, wanted))
        if picked is not None and picked.holds(pool):
            return picked
        used = pool.used
        shape = self._sizes.pick(total, wanted, pool.frontier, pool.size)
        if used < pool.frontier:
            shape = self._compact(shape, total, wanted)
        if shape.cells != pool.size:
            pool.resize(shape.cells)
        buffers = self._backend.buffers(shape)
        window = pool.contract.window
        if window is not None and buffers.window_mask is None and self._context > window:
            raise DeviceError(
                f"the model has layers with a window of {window} tokens, but the step graph, which "
                f"holds {self._context}, has no mask for them; convert it again"
            )
        picked = self._picked[total, wanted] = PickedSize(
            shape,
            buffers,
            mask_of(self._backend, buffers, shape, window),
            buffers.kv_new.take(0),
            predecessors_of(self._backend, buffers, pool.contract),
            pool.frontier,
            used,
        )
        return picked

    def clear(self) -> None:
        """Forgets what was picked."""
        self._picked.clear()

    def _compact(self, shape: StepShape, total: int, wanted: int) -> StepShape:
        """Closes gaps between cells if a smaller S does then, and moving is cheap: at most what is saved."""
        pool = self._pool
        smaller = self._sizes.pick(total, wanted, pool.used, pool.size)
        if smaller.tokens != shape.tokens or not 0 < pool.moves_to_compact() <= shape.cells - smaller.cells:
            return shape
        pool.compact()
        return smaller
