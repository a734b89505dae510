"""Keeps a request going when its device fails: the step that failed is run again on the next candidate.

A step adds nothing to the cells until it has succeeded, so nothing is lost and nothing is added twice: the
same tokens, masks and cells go to another backend. The one that failed is closed and never asked again.
Successors are opened when they are needed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence

from edgesdk.backends.protocol import Cells, StepBackend, StepBuffers
from edgesdk.backends.step_buffers import allocate_buffers
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.manifest import CellType, StepShape
from edgesdk.devices.receipt import Incident, Runner
from edgesdk.dispatch.adapt_step import StepAdapter
from edgesdk.errors import DeviceError, EdgeError

_log = logging.getLogger("edgesdk.dispatch")

Opener = Callable[[], tuple[Runner, StepBackend]]
"""Opens a successor and says what it is, its provider included; raises EdgeError when it cannot."""


class FailoverStepBackend:
    """Implements `StepBackend` over the first of several that works."""

    def __init__(
        self,
        first: StepBackend,
        runner: Runner,
        successors: Sequence[tuple[Runner, Opener]],
        spec: DecoderSpec,
    ) -> None:
        """Starts with an open backend.

        Args:
            first: runs until it fails.
            runner: what it is, for the receipt.
            successors: with equal weights and cells of the same type, in order.
            spec: shape of the model.
        """
        self._backend = first
        self._spec = spec
        self._successors: Iterator[tuple[Runner, Opener]] = iter(successors)
        self._adapter: StepAdapter | None = None
        self._buffers: dict[StepShape, StepBuffers] = {}
        self._shapes = first.shapes
        self._failure: DeviceError | None = None
        self.cell_type: CellType = first.cell_type
        """How the cells that it reads are stored."""
        self.runner = runner
        """What runs steps now."""
        self.incidents: tuple[Incident, ...] = ()
        """What failed, in order."""

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
            # Every backend here gives logits of the whole vocabulary, whatever its head writes.
            spec = dataclasses.replace(self._spec, head_rows=None)
            arrays = self._first_buffers(shape) or allocate_buffers(spec, shape)
            self._buffers[shape] = arrays
        return arrays

    def run(self, shape: StepShape, cells: Cells) -> None:
        """Runs one step, on the next backend if this one fails.

        Raises:
            DeviceError: every backend failed; nothing has changed.
        """
        if self._failure is not None:
            raise self._failure
        if self._adapter is None:
            try:
                self._backend.run(shape, cells)
            except (DeviceError, MemoryError) as error:
                self._replace(error)
            else:
                return
        while self._adapter is not None:
            try:
                self._adapter.run(shape, self.buffers(shape), cells)
            except (DeviceError, MemoryError) as error:
                self._replace(error)
            else:
                return

    def close(self) -> None:
        """Releases what is open."""
        self._backend.close()

    def _first_buffers(self, shape: StepShape) -> StepBuffers | None:
        """The first backend's own arrays, which it runs without copies; None once it has failed."""
        if self._adapter is None:
            try:
                return self._backend.buffers(shape)
            except (DeviceError, MemoryError) as error:
                self._replace(error)
        return None

    def _replace(self, error: Exception) -> None:
        """Opens the next candidate that can take over.

        Raises:
            DeviceError: there is none; it is the error that led here.
        """
        reason = _one_line(error)
        failed = self.runner
        with contextlib.suppress(EdgeError):
            self._backend.close()
        for runner, open_successor in self._successors:
            try:
                opened, backend = open_successor()
                try:
                    if backend.cell_type != self.cell_type:
                        raise DeviceError(f"it has {backend.cell_type} cells, not {self.cell_type}")
                    adapter = StepAdapter(backend, self._shapes)
                except EdgeError:
                    backend.close()
                    raise
            except (EdgeError, MemoryError) as refused:
                self._note(Incident(runner, f"could not take over: {_one_line(refused)}", None))
                continue
            self._backend, self._adapter, self.runner = backend, adapter, opened
            self._note(Incident(failed, reason, opened))
            return
        self._note(Incident(failed, reason, None))
        self._failure = DeviceError(f"{failed} failed and nothing is left to take over: {reason}")
        raise self._failure from error

    def _note(self, incident: Incident) -> None:
        self.incidents += (incident,)
        _log.warning("%s", incident)


def _one_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
