"""The memory that cached keys and values live in: one aligned array, laid out anew when it must grow.

It knows sizes, not tokens: which cell holds what is its user's business. Cells start as zeros, so
that a masked cell contributes exactly nothing (garbage could be NaN, and 0 times NaN is NaN).
"""

from __future__ import annotations

from edgesdk.backends.aligned_array import aligned_floats
from edgesdk.backends.protocol import Float
from edgesdk.bundle.decoder_spec import DecoderSpec


class Cells:
    """Cells of one sequence: keys (0) and values (1) by layer and head."""

    def __init__(self, spec: DecoderSpec) -> None:
        """Holds no cells yet.

        Args:
            spec: gives L, K and D.
        """
        self._layers = len(spec.layers)
        self._heads = spec.kv_heads
        self._head_size = spec.head_size
        self.array: Float = self._allocate(0)
        """(L, 2, K, S, D) float32, C-contiguous, aligned; replaced by `resize`."""

    @property
    def size(self) -> int:
        """S, the cells there are."""
        size: int = self.array.shape[3]
        return size

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return self.array.nbytes

    def resize(self, size: int, used: int) -> None:
        """Lays out anew with `size` cells, keeping the first `used`."""
        fresh = self._allocate(size)
        fresh[:, :, :, :used] = self.array[:, :, :, :used]
        self.array = fresh

    def write(self, start: int, kv_new: Float, count: int) -> None:
        """Copies the first `count` tokens of `kv_new` (L, 2, K, T, D) into the cells from `start`."""
        self.array[:, :, :, start : start + count] = kv_new[:, :, :, :count]

    def _allocate(self, size: int) -> Float:
        return aligned_floats(self._layers, 2, self._heads, size, self._head_size)
