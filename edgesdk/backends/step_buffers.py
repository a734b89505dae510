"""The arrays of a file's step sizes, as every backend that runs them in place allocates them.

Inputs belong to the file: sizes that take the same port in the same shape share its array, whatever their
stack, so that a mask is written once. Outputs are shared by sizes of one signature. It knows nothing of what
runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from edgesdk.backends.aligned_array import aligned_array
from edgesdk.backends.protocol import Array, Cells, StepBuffers
from edgesdk.bundle.port import NumberType
from edgesdk.bundle.stack_record import RESERVED_PORTS
from edgesdk.bundle.step_contract import StepContract
from edgesdk.bundle.step_shape import StepShape
from edgesdk.errors import DeviceError

LARGEST_ARRAY = 1 << 31
"""Elements; far beyond what a step takes or gives, short of what a machine cannot reserve."""

_ABSENT: Mapping[str, Array | None] = {
    "tokens": np.empty(0, np.int32),
    "logits": np.empty((0, 0), np.float32),
    "positions": np.empty(0, np.int32),
    "mask": np.empty((0, 0), np.float32),
    "window_mask": None,
    "rows": np.empty(0, np.int32),
}
"""Of the ports of every decoder those that a stack may be without."""

Allocate = Callable[..., Array]
"""Makes an array of a number type and a shape, as `aligned_array` does."""


class StepArrays:
    """Allocates the arrays of sizes when they are first asked for."""

    def __init__(self, contracts: Mapping[str, StepContract], allocate: Allocate = aligned_array) -> None:
        """Starts without arrays.

        Args:
            contracts: what each stack of the file takes and gives.
            allocate: makes an array; zeroed and aligned ones unless a test wants others.
        """
        self._contracts = contracts
        self._allocate = allocate
        self._arrays: dict[tuple[object, ...], Array] = {}
        self._buffers: dict[StepShape, StepBuffers] = {}

    def buffers(self, shape: StepShape) -> StepBuffers:
        """The arrays of one size; a window mask where a layer has a window.

        Raises:
            DeviceError: one of them would be larger than any step needs.
        """
        found = self._buffers.get(shape)
        if found is None:
            found = self._buffers[shape] = self._make(shape)
        return found

    def clear(self) -> None:
        """Lets go of all arrays."""
        self._arrays.clear()
        self._buffers.clear()

    def _make(self, shape: StepShape) -> StepBuffers:
        contract = self._contracts[shape.stack]
        ports: dict[str, Array] = {}
        for port in contract.inputs:
            # Masks come in pairs: what one shows is known for both.
            pair = f"window {contract.window}" if port.is_mask else ""
            ports[port.name] = self._array(port.dtype, port.shape(shape), port.name, pair)
        for port in contract.outputs:
            ports[port.name] = self._array(port.dtype, port.shape(shape), port.name, shape.signature)
        new = [
            self._array(group.dtype, group.shape(shape.tokens), group.name, shape.signature, "cells")
            for group in contract.new
        ]
        return StepBuffers(
            **{**_ABSENT, **{name: ports.pop(name) for name in RESERVED_PORTS & set(ports)}},  # type: ignore[arg-type]
            kv_new=Cells(tuple(new)),
            extra=ports,
        )

    def _array(self, dtype: NumberType, shape: tuple[int, ...], *owner: str) -> Array:
        key = (dtype, shape, *owner)
        found = self._arrays.get(key)
        if found is None:
            if math.prod(shape) > LARGEST_ARRAY:
                raise DeviceError(
                    f"a step has {owner[0]!r} of shape {shape}, more than any step needs; convert the bundle "
                    "again"
                )
            found = self._arrays[key] = self._allocate(dtype, *shape)
        return found
