"""Packs once what a flatbuffer would hold several times: equal vectors, and objects that many refer to.

It knows the builder of flatbuffers and its object classes, not what they mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def shared_vectors() -> object:
    """A builder that packs equal vectors once: shapes, and the zero points of channels, 8 bytes each.

    Returns:
        A `flatbuffers.Builder`.
    """
    import flatbuffers

    class SharedVectors(flatbuffers.Builder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(1 << 20)
            self._places: dict[tuple[str, bytes], int] = {}

        def CreateNumpyVector(self, x: NDArray[np.generic]) -> int:  # noqa: N802 - flatbuffers' name
            key = (x.dtype.str, x.tobytes())
            if key not in self._places:
                self._places[key] = super().CreateNumpyVector(x)
            return self._places[key]

    return SharedVectors()


def packed_once(kind: type) -> type:
    """A schema class whose object is packed at most once per builder and then referred to."""

    class PackedOnce(kind):  # type: ignore[misc]
        _builder: object = None
        _offset = 0

        def Pack(self, builder: object) -> int:  # noqa: N802 - the generated classes' name
            if self._builder is not builder:
                self._offset, self._builder = super().Pack(builder), builder
            return self._offset

    return PackedOnce
