"""Step models on a Hexagon processor, where neither NaN nor infinity exist.

What would be one comes out as a number beyond float16 (131008 and the like, seen on Qualcomm's simulator), so
those are made NaN here, and whoever looks for NaN on other devices finds them.
"""

from __future__ import annotations

import numpy as np

from edgesdk.backends.onnxruntime_step import OnnxStepBackend
from edgesdk.backends.protocol import Array, Cells
from edgesdk.bundle.manifest import StepShape

LARGEST = 65504.0
"""The largest float16 number; the processor reaches it, and more, only where it has overflowed."""


class HexagonStepBackend(OnnxStepBackend):
    """Runs step models with ONNX Runtime on the processor; implements `StepBackend`."""

    def run(self, shape: StepShape, cells: Cells) -> None:
        """Runs one step on what `buffers(shape)` holds; overflowed results are NaN.

        Args:
            shape: one of `shapes`.
            cells: float32, C-contiguous and 64-byte aligned; read, never written.

        Raises:
            DeviceError: the cells have another shape or type, or onnxruntime failed.
        """
        super().run(shape, cells)
        arrays = self.buffers(shape)
        for array in (arrays.logits, *arrays.kv_new.arrays, *arrays.extra.values()):
            if array.dtype.kind == "f":
                mark_overflow(array)


def mark_overflow(numbers: Array) -> None:
    """Makes NaN, in place, of what float16 cannot hold."""
    if max(numbers.max(initial=0), -numbers.min(initial=0)) >= LARGEST:
        numbers[np.abs(numbers) >= LARGEST] = np.nan
