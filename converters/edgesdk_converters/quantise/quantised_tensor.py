"""A weight as integers and scales: what every algorithm returns and every emitter packs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class QuantisedTensor:
    """Symmetric integers: weight = values * scale.

    Attributes:
        values: (O, I) int8; within -127..127 for 8 bits (blocks that a file brings may have -128),
            -8..7 for 4.
        scales: (O, B) float32 with B = I / block, or 1 for one scale per row. Each is a float16
            number when `block` is set, because LiteRT stores blockwise scales as float16, and a bfloat16
            number too where it was chosen here (`storable_scale`).
        bits: 8 or 4.
        block: columns per scale; None for one scale per row.
    """

    values: NDArray[np.int8]
    scales: NDArray[np.float32]
    bits: int
    block: int | None

    @property
    def nbytes(self) -> int:
        """Bytes of integers and scales as emitters store them: float16 scales by block, else float32."""
        return self.values.size * self.bits // 8 + self.scales.size * (2 if self.block else 4)

    def dequantise(self) -> NDArray[np.float32]:
        """The weight that the integers stand for: (O, I) float32."""
        rows, columns = self.values.shape
        blocks = self.values.reshape(rows, self.scales.shape[1], -1).astype(np.float32)
        blocks *= self.scales[:, :, None]
        return blocks.reshape(rows, columns)

    def rows(self, start: int, stop: int) -> QuantisedTensor:
        """Rows [start, stop), as views."""
        return QuantisedTensor(self.values[start:stop], self.scales[start:stop], self.bits, self.block)
