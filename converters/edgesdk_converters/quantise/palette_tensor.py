"""A weight as indices into palettes of sixteen numbers, one palette for some rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.quantise.quantised_tensor import QuantisedTensor

PALETTE_SIZE = 16
"""Numbers of a palette: what 4 bits can tell apart."""


@dataclass(frozen=True)
class PaletteTensor:
    """weight[o, i] = palettes[o // rows, indices[o, i]].

    Attributes:
        indices: (O, I) uint8, 0 to 15.
        palettes: (P, 16) float32, ascending; each is a float16 number. P divides O.
    """

    indices: NDArray[np.uint8]
    palettes: NDArray[np.float32]

    @property
    def rows_per_palette(self) -> int:
        """Rows that share a palette."""
        return len(self.indices) // len(self.palettes)

    @property
    def nbytes(self) -> int:
        """Bytes as Core ML stores them: half a byte an index, float16 palettes."""
        return self.indices.size // 2 + self.palettes.size * 2

    def dequantise(self) -> NDArray[np.float32]:
        """The weight that the indices stand for: (O, I) float32."""
        grouped = self.indices.reshape(len(self.palettes), -1)
        return np.take_along_axis(self.palettes, grouped, axis=1).reshape(self.indices.shape)

    def rows(self, start: int, stop: int) -> PaletteTensor:
        """Rows [start, stop), as views; `start` must begin a palette, and `stop` end one or the weight.

        Raises:
            ValueError: it does not.
        """
        each, stop = self.rows_per_palette, min(stop, len(self.indices))
        if start % each or stop % each:
            raise ValueError(f"rows {start} to {stop} cut a palette of {each} rows")
        return PaletteTensor(self.indices[start:stop], self.palettes[start // each : stop // each])


StoredTensor = QuantisedTensor | PaletteTensor
"""A matrix that is not stored as floating point numbers."""
