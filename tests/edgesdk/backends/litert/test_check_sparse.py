"""How sparse constants of strangers' files lie: one form is taken, nothing that leads out of the buffer."""

import flatbuffers
import numpy as np
import pytest

from edgesdk.backends.litert.check_sparse import stored_elements
from edgesdk.backends.litert.flatbuffer import Flatbuffer, FlatbufferError
from edgesdk_converters.emit.litert.diagonal import Diagonal, _sparsity
from edgesdk_converters.emit.litert.model_file import ModelFile
from edgesdk_converters.graph.ops import LowRankPart

schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="needs ai-edge-litert")

PARTS = (LowRankPart(24, (4,)), LowRankPart(8, (4,)), LowRankPart(8, (4,)))


def parameters():
    return _sparsity(ModelFile("x").subgraph("main"), Diagonal(PARTS))


def checked(found, shape=(40, 12)):
    builder = flatbuffers.Builder(0)
    builder.Finish(found.Pack(builder), b"SPRS")
    flat = Flatbuffer(memoryview(bytes(builder.Output())))
    return stored_elements(flat, flat.root(b"SPRS"), shape)


def test_what_is_written_is_taken():
    assert checked(parameters()) == 40 * 4


def ends(*values):
    return lambda found: setattr(found.dimMetadata[1].arraySegments, "values", np.array(values, np.int32))


def indices(*values):
    return lambda found: setattr(found.dimMetadata[1].arrayIndices, "values", np.array(values, np.int32))


def dense(place, size):
    return lambda found: setattr(found.dimMetadata[place], "denseSize", size)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (ends(0, 1, 2, 3, 4, 6), "other blocks than it says"),
        (ends(0, 1, 2, 3, 4), "other blocks than it says"),
        (ends(1, 1, 2, 3, 4, 5), "other blocks than it says"),
        (ends(0, 9, 2, 3, 4, 5), "other blocks than it says"),
        (ends(0, -1, 2, 3, 4, 5), "other blocks than it says"),
        (ends(), "other blocks than it says"),
        (indices(0, 0, 0, 1, 3), "outside of it, or out of order"),
        (indices(0, 0, 0, 1, -1), "outside of it, or out of order"),
        (indices(0, 0, 0, 1, 1 << 30), "outside of it, or out of order"),
        (indices(0, 0, 0, 1), "other blocks than it says"),
        (dense(0, 6), "do not make a sparse constant"),
        (dense(0, 0), "another form"),
        (dense(2, 9), "do not make a sparse constant"),
        (dense(2, -8), "another form"),
        (dense(3, 5), "do not make a sparse constant"),
        (lambda found: setattr(found, "traversalOrder", np.array([1, 0, 2, 3], np.int32)), "another form"),
        (lambda found: setattr(found, "blockMap", np.array([1, 0], np.int32)), "another form"),
        (lambda found: setattr(found, "dimMetadata", found.dimMetadata[:3]), "another form"),
        (lambda found: setattr(found.dimMetadata[1], "format", 0), "another form"),
        (lambda found: setattr(found.dimMetadata[0], "format", 1), "another form"),
        (lambda found: setattr(found.dimMetadata[1], "arrayIndicesType", 3), "another form"),
    ],
)
def test_other_forms_and_places_outside_are_refused(change, says):
    found = parameters()
    change(found)
    with pytest.raises(FlatbufferError, match=says):
        checked(found)


def test_two_blocks_of_one_row_are_in_order():
    found = parameters()
    ends(0, 2, 2, 3, 4, 5)(found)
    indices(0, 1, 0, 1, 2)(found)
    assert checked(found) == 40 * 4
    indices(1, 0, 0, 1, 2)(found)
    with pytest.raises(FlatbufferError, match="out of order"):
        checked(found)
    assert checked(parameters(), (40, 24)) == 40 * 4  # columns without blocks are zeros
    with pytest.raises(FlatbufferError, match="do not make"):
        checked(parameters(), (48, 12))
