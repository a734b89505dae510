"""Keeps a request going when its device fails: the step that failed is run again on the next candidate.

A step adds nothing to the cells until it has succeeded, so nothing is lost and nothing is added twice: the
same tokens, masks and cells go to another backend. The one that failed is closed and never asked again.
Successors are opened when they are needed. Movers are asked before every step, and change the backend in the
same way.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgesdk.backends.protocol import Cells, StepBackend, StepBuffers
from edgesdk.backends.step_buffers import StepArrays
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_contract import StepContract
from edgesdk.devices.receipt import Runner
from edgesdk.dispatch.adapt_step import StepAdapter
from edgesdk.dispatch.mover import Mover, Opener
from edgesdk.dispatch.succession import Guarded, Succession
from edgesdk.errors import DeviceError

StepOpener = Opener[StepBackend]
"""Opens steps and says what they are, their provider included; raises EdgeError when it cannot."""


class FailoverStepBackend(Guarded[StepBackend]):
    """Implements `StepBackend` over the first of several that works."""

    def __init__(
        self,
        first: StepBackend,
        runner: Runner,
        successors: Sequence[tuple[Runner, StepOpener]],
        *,
        movers: Sequence[Mover[StepBackend]] = (),
        reopen: StepOpener | None = None,
    ) -> None:
        """Starts with an open backend.

        Args:
            first: runs until it fails.
            runner: what it is, for the receipt.
            successors: with equal weights and cells of the same type, in order.
            movers: may ask for another backend although nothing has failed; closed with this object.
            reopen: opens the first once more, should what a mover brought fail; None if that is to raise.
        """
        self._adapter: StepAdapter | None = None
        self._buffers: dict[StepShape, StepBuffers] = {}
        self._shapes = first.shapes
        self.contracts = first.contracts
        """What each stack takes and gives."""
        self._arrays = StepArrays(first.contracts)
        self._first = first
        super().__init__(Succession(first, runner, successors, self._adapt, movers, reopen))

    @property
    def shapes(self) -> tuple[StepShape, ...]:
        """Sizes on offer, smallest first: those of the first backend, whoever runs them."""
        return self._shapes

    def buffers(self, shape: StepShape) -> StepBuffers:
        """The arrays of one size; they stay whoever runs it.

        Raises:
            DeviceError: the backend refuses that size, and so does every successor.
        """
        arrays = self._buffers.get(shape)
        if arrays is None:
            arrays = self._first_buffers(shape) or self._arrays.buffers(shape)
            self._buffers[shape] = arrays
        return arrays

    def run(self, shape: StepShape, cells: Cells) -> None:
        """Runs one step, on the next backend if this one fails.

        Raises:
            DeviceError: every backend failed; nothing has changed.
        """
        self._line.expect_working()
        self._line.follow_movers()
        while True:
            try:
                if self._adapter is None:
                    self._first.run(shape, cells)
                else:
                    self._adapter.run(shape, self.buffers(shape), cells)
            except (DeviceError, MemoryError) as error:
                self._line.replace(error)
            else:
                return

    def _first_buffers(self, shape: StepShape) -> StepBuffers | None:
        """The first backend's own arrays, which it runs without copies; None once another runs."""
        if self._adapter is None:
            try:
                return self._first.buffers(shape)
            except (DeviceError, MemoryError) as error:
                self._line.replace(error)
        return None

    def _adapt(self, backend: StepBackend) -> None:
        """Has a backend run the steps.

        Raises:
            DeviceError: it has other cells or ports, or no step for a size on offer.
        """
        for stack in {shape.stack for shape in self._shapes}:
            reason = differing(self.contracts[stack], backend.contracts.get(stack))
            if reason is not None:
                raise DeviceError(reason)
        self._adapter = StepAdapter(backend, self._shapes)


def differing(mine: StepContract, other: StepContract | None) -> str | None:
    """Why a step of another contract cannot stand in; None if it can."""
    if other is None:
        return "it has not every stack"
    if other.cell_type != mine.cell_type:
        return f"it has {other.cell_type} cells, not {mine.cell_type}"
    odd = {port.name for port in {*mine.inputs, *mine.outputs} ^ {*other.inputs, *other.outputs}}
    if odd:
        return f"it has the port {min(odd)!r} otherwise"
    return None if (other.groups, other.window) == (mine.groups, mine.window) else "its layers are others"
