"""Blocks pass through pruning with the rows that are shown."""

from collections.abc import Iterator

import numpy as np
import pytest

from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.gguf_blocks import BLOCK_TYPES
from edgesdk_converters.checkpoints.stored_blocks import StoredBlocks, block_type
from edgesdk_converters.vocabulary.pruned_tensors import PrunedTensors

KIND = BLOCK_TYPES["Q8_0"]
VALUES = np.arange(6 * 32, dtype=np.int8).reshape(6, 32)


class Plain:
    """A store of two equal matrices."""

    def __iter__(self) -> Iterator[str]:
        return iter(("table", "other"))

    def __contains__(self, name: object) -> bool:
        return name in tuple(self)

    def shape(self, name):
        return VALUES.shape

    def stored_type(self, name):
        return KIND.name

    def load(self, name):
        return self.blocks().dequantise()

    def load_rows(self, name, start, stop):
        return self.load(name)[start:stop]

    def blocks(self):
        return StoredBlocks(KIND, VALUES, np.arange(1, 7, dtype=np.float32)[:, None], None)


class Blocks(Plain):
    """The same, as blocks."""

    def block_type(self, name):
        return KIND

    def stored_blocks(self, name):
        return self.blocks()


def test_blocks_have_the_rows_that_are_shown():
    pruned = PrunedTensors(Blocks(), frozenset({"table"}), np.array([0, 3, 4]))
    assert block_type(pruned, "table") == KIND
    for name, rows in (("table", 3), ("other", 6)):
        blocks = pruned.stored_blocks(name)
        assert blocks.values.shape == (rows, 32)
        np.testing.assert_array_equal(blocks.dequantise(), pruned.load(name))


def test_a_base_without_blocks_has_none():
    pruned = PrunedTensors(Plain(), frozenset({"table"}), np.array([0]))
    assert block_type(pruned, "table") is None
    with pytest.raises(CheckpointError, match="does not store 'table' in blocks"):
        pruned.stored_blocks("table")
