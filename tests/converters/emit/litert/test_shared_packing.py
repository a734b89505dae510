"""Equal vectors and shared objects stand once in a flatbuffer."""

import numpy as np
import pytest

from edgesdk_converters.emit.litert.shared_packing import packed_once, shared_vectors

pytest.importorskip("flatbuffers", reason="needs the extra 'convert'")


def test_equal_vectors_stand_once():
    builder = shared_vectors()
    first = builder.CreateNumpyVector(np.arange(1000, dtype=np.int32))
    size = builder.Offset()
    assert builder.CreateNumpyVector(np.arange(1000, dtype=np.int32)) == first
    assert builder.Offset() == size


def test_vectors_of_other_types_and_numbers_stand_apart():
    builder = shared_vectors()
    vectors = (np.zeros(4, np.int32), np.zeros(4, np.float32), np.zeros(2, np.int64), np.ones(4, np.int32))
    assert len({builder.CreateNumpyVector(vector) for vector in vectors}) == len(vectors)


def test_an_object_is_packed_once_for_each_builder():
    class Kind:
        def Pack(self, builder):  # noqa: N802 - the generated classes' name
            return builder.CreateNumpyVector(np.arange(builder.Offset() + 1, dtype=np.uint8))

    shared = packed_once(Kind)()
    first, second = shared_vectors(), shared_vectors()
    offset = shared.Pack(first)
    assert shared.Pack(first) == offset
    size = first.Offset()
    shared.Pack(second)
    assert (first.Offset(), second.Offset()) == (size, size)
